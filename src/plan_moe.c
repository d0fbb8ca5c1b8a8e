// SPDX-License-Identifier: MIT
// The mixture-of-experts layer as steps: router -> stable counting sort of the (token, pick) pairs
// -> tile table -> grouped up matmul with gather and activation inside -> grouped down -> weighted
// combine. Backward mirrors it. Group counts that depend on routing come from the device (indirect
// dispatch).
#include "src/base.h"
#include "src/plan_model.h"

enum {
    ROUTER_PART = 64 << 20, // bytes of probabilities in one part of the tokens
    ROUTER_ROWS = 64,       // parts are multiples, so that ranges stay aligned
};

const struct config_router *network_router(const struct network *n, int32_t layer)
{
    return &n->config->layer_router[layer];
}

static uint32_t pairs_of(const struct network *n, int32_t layer)
{
    return n->tokens * network_router(n, layer)->top_k;
}

uint32_t network_moe_rows(const struct network *n, int32_t layer)
{
    return max_u32(pairs_of(n, layer) / n->config->num_experts, 1);
}

struct push_moe_matmul network_moe_push(const struct network *n, int32_t layer, uint32_t cols,
                                        uint32_t inner)
{
    const struct config *c = n->config;
    return (struct push_moe_matmul){.pairs = pairs_of(n, layer),
                                    .experts = c->num_experts,
                                    .n = cols,
                                    .k = inner,
                                    .top_k = network_router(n, layer)->top_k,
                                    .activation = network_activation(n)};
}

static struct push_router router_push(const struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const struct config_router *router = network_router(n, layer);
    // coefficients are of the mean over the MoE layers
    const float share = 1.0f / (float)config_moe_layers(c);
    return (struct push_router){.tokens = n->tokens,
                                .experts = c->num_experts,
                                .top_k = network_router(n, layer)->top_k,
                                .renormalise = router->norm_topk_prob,
                                .inv_temperature = (float)(1.0 / router->temperature),
                                .balance_coef = (float)router->balance_coef * share,
                                .z_coef = (float)router->z_coef * share};
}

// The router works on parts of the tokens: with many experts no binding covers [T][E].
struct part { uint32_t index, begin, rows; };

static bool next_part(const struct network *n, struct part *part)
{
    const uint64_t row = 4ull * n->config->num_experts;
    const uint64_t fits = min_u64(ROUTER_PART, n->plan->gpu->caps.max_range) / row;
    const uint64_t most = max_u64(fits / ROUTER_ROWS, 1) * ROUTER_ROWS;
    if (part->rows) part->index++;
    part->begin += part->rows;
    part->rows = (uint32_t)min_u64(most, n->tokens - part->begin);
    return part->rows > 0;
}

static struct plan_range rows_of(struct plan_range range, const struct part *part, uint64_t row)
{
    return plan_slice(range, part->begin * row, part->rows * row);
}

static struct push_router part_push(const struct network *n, int32_t layer,
                                    const struct part *part)
{
    struct push_router push = router_push(n, layer);
    push.total = push.tokens;
    push.tokens = part->rows;
    push.accumulate = part->begin > 0;
    return push;
}

static void router_part(struct network *n, int32_t layer, const struct part *part)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    const uint64_t picks = 4ull * network_router(n, layer)->top_k,
                   hidden = (uint64_t)c->hidden_size * n->store_bytes;
    const struct plan_range logits =
        network_temp_f32(n, part->rows, c->num_experts, "router_logits", layer);
    v->probs[part->index] = network_temp_f32(n, part->rows, c->num_experts, "probs", layer);
    network_linear_f32(n, rows_of(v->n_ffn, part, hidden), network_weight(n, ROLE_ROUTER, layer),
                       logits, part->rows, c->num_experts, c->hidden_size);
    const struct push_router push = part_push(n, layer, part);
    plan_add(n->plan, KERNEL_ROUTER, 0, &push,
             PLAN_BIND(logits, v->probs[part->index], rows_of(v->ids, part, picks),
                       rows_of(v->gates, part, picks), rows_of(v->router_lse, part, 4)));
}

static void router_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    v->ids = network_temp_f32(n, n->tokens, network_router(n, layer)->top_k, "picks", layer);
    v->gates = network_temp_f32(n, n->tokens, network_router(n, layer)->top_k, "gates", layer);
    v->router_lse = network_temp_f32(n, n->tokens, 1, "router_lse", layer);
    uint32_t parts = 0;
    for (struct part part = {0}; next_part(n, &part);) parts++;
    v->probs = arena_array(n->plan->arena, parts, sizeof *v->probs);
    for (struct part part = {0}; next_part(n, &part);) router_part(n, layer, &part);
}

static struct push_moe_sort sort_push(const struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const struct kernel_moe_size size = {.tokens = n->tokens,
                                         .experts = c->num_experts,
                                         .top_k = network_router(n, layer)->top_k,
                                         .hidden = c->hidden_size,
                                         .inner = c->moe_intermediate_size,
                                         .rows = network_moe_rows(n, layer),
                                         .gated = c->mlp_gated};
    return kernel_moe_sort(n->plan->kernels, n->plan->store, &size);
}

static void sort_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    const struct push_moe_sort push = sort_push(n, layer);
    const uint32_t ranges = min_u32(push.experts, push.pairs) + 1;
    const struct plan_range counts =
        network_temp_f32(n, push.blocks, push.experts, "counts", layer);
    struct plan_range totals = counts; // not touched where there is one slice
    if (push.slices > 1) {
        totals = network_temp_f32(n, push.experts, 1, "totals", layer);
        plan_fill(n->plan, totals, 0);
    }
    v->offsets = network_temp_f32(n, push.experts + 1, 1, "offsets", layer);
    v->tiles = network_temp_f32(n, push.max_tiles + 1, 4, "tiles", layer);
    v->ranges = network_temp_f32(n, ranges, 4, "ranges", layer);
    v->indirect = network_temp_f32(n, MOE_GRIDS, 4, "indirect", layer);
    v->order = network_temp_f32(n, push.pairs, 1, "order", layer);
    v->inverse = network_temp_f32(n, push.pairs, 1, "inverse", layer);
    plan_add(n->plan, KERNEL_MOE_COUNT, 0, &push, PLAN_BIND(v->ids, counts, totals));
    plan_add(n->plan, KERNEL_MOE_SCAN, 0, &push,
             PLAN_BIND(counts, totals, v->offsets, v->tiles, v->ranges, v->indirect));
    plan_add(n->plan, KERNEL_MOE_SCATTER, 0, &push,
             PLAN_BIND(v->ids, counts, v->order, v->inverse));
}

static struct plan_range grid(const struct layer_values *v, enum kernel_moe_grid entry)
{
    return plan_slice(v->indirect, entry * 16ull, 12);
}

static void stats_steps(struct network *n, int32_t layer)
{
    if (n->mode != NETWORK_TRAIN && n->mode != NETWORK_EVAL) return;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t experts = n->config->num_experts;
    uint32_t index = 0;
    for (int32_t i = 0; i < layer; i++) index += n->config->moe_layer[i];
    const struct plan_range stats = plan_slice(n->io.stats, 4ull * index * n->stats_stride,
                                               4ull * (4 + 2 * (uint64_t)experts));
    const struct plan_range entropy = network_temp_f32(n, experts, 1, "entropy", layer);
    for (struct part part = {0}; next_part(n, &part);) {
        const struct push_router push = part_push(n, layer, &part);
        plan_add(n->plan, KERNEL_ROUTER_STATS, 0, &push,
                 PLAN_BIND(v->probs[part.index], v->offsets, stats, entropy));
    }
    const struct push_router push = router_push(n, layer);
    plan_add(n->plan, KERNEL_ROUTER_TOTALS, 0, &push, PLAN_BIND(v->router_lse, entropy, stats));
}

// h [P][I], and in training what the activation was taken of: gate [P][I], where gated up [P][I]
static struct plan_range body_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->moe_intermediate_size;
    const uint32_t rows = network_moe_rows(n, layer), pairs = pairs_of(n, layer);
    struct layer_values *v = &n->layer[layer];
    const struct plan_range h = network_temp(n, pairs, inner, "h", layer);
    struct push_moe_matmul push = network_moe_push(n, layer, inner, hidden);
    push.save = n->mode == NETWORK_TRAIN;
    v->gate = push.save ? network_temp(n, pairs, inner, "gate", layer) : h;
    v->up = push.save && c->mlp_gated ? network_temp(n, pairs, inner, "up", layer) : v->gate;
    const struct plan_range up = network_weight(n, ROLE_EXPERT_UP, layer);
    if (c->mlp_gated)
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_UP, rows, &push,
                          PLAN_BIND(v->n_ffn, v->order, v->tiles,
                                    network_weight(n, ROLE_EXPERT_GATE, layer), up, h, v->gate,
                                    v->up),
                          grid(v, MOE_GRID_UP));
    else
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_ACT, rows, &push,
                          PLAN_BIND(v->n_ffn, v->order, v->tiles, up, h, v->gate),
                          grid(v, MOE_GRID_UP));
    return h;
}

// y [P][H]: lives until the combine
static struct plan_range expert_steps(struct network *n, int32_t layer)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->moe_intermediate_size;
    const uint32_t pairs = pairs_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range h = body_steps(n, layer);
    const struct plan_range y = network_temp(n, pairs, hidden, "y", layer);
    const struct push_moe_matmul down = network_moe_push(n, layer, hidden, inner);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NT, network_moe_rows(n, layer), &down,
                      PLAN_BIND(h, v->tiles, network_weight(n, ROLE_EXPERT_DOWN, layer), y),
                      grid(v, MOE_GRID_DOWN));
    return y;
}

void network_moe_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    router_steps(n, layer);
    sort_steps(n, layer);
    stats_steps(n, layer);
    const struct plan_range y = expert_steps(n, layer);
    n->x = network_temp(n, n->tokens, n->config->hidden_size, "x", layer);
    const struct push_moe_combine push = {.tokens = n->tokens,
                                          .cols = n->config->hidden_size,
                                          .top_k = network_router(n, layer)->top_k,
                                          .weighted = 1,
                                          .add = 1};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(y, v->inverse, v->gates, v->x_mid, n->x));
}

// ---- backward: SonicMoE's (Guo et al. 2025). dout [T][H] is read through the order, so the
// gradient of Y is never written, and Y itself is not kept: dgates come from dot(dh, h).

enum gather { GATHER_NONE, GATHER_B, GATHER_A };

static void expert_weight_grad(struct network *n, int32_t layer, enum model_role role,
                               struct plan_range a, struct plan_range b, enum gather gather)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->moe_intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    const bool down = role == ROLE_EXPERT_DOWN;
    struct push_moe_matmul push = network_moe_push(n, layer, down ? inner : hidden, 0);
    push.m = down ? hidden : inner;
    push.gather = gather;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_TN, network_moe_rows(n, layer), &push,
                      PLAN_BIND(a, b, v->order, v->ranges, network_grad(n, role, layer)),
                      grid(v, down ? MOE_GRID_DOWN_WEIGHT : MOE_GRID_UP_WEIGHT));
}

// dh [P][I] = rows of dx, as if each pair's gate weight were 1; then in place: gate and up become
// their gradients, dh becomes weight * h. Returns that.
static struct plan_range body_back(struct network *n, int32_t layer, struct plan_range dgates)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->moe_intermediate_size;
    const uint32_t pairs = pairs_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dh = network_temp(n, pairs, inner, "dh", layer);
    struct push_moe_matmul down = network_moe_push(n, layer, inner, hidden);
    down.gather = 1;
    const struct plan_range weight = network_weight(n, ROLE_EXPERT_DOWN, layer);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, network_moe_rows(n, layer), &down,
                      PLAN_BIND(n->dx, v->order, v->tiles, weight, dh, n->dx, weight),
                      grid(v, MOE_GRID_BACK_H));
    const struct push_moe_activate push = {pairs, inner, network_activation(n), c->mlp_gated};
    plan_add(n->plan, KERNEL_MOE_ACTIVATE_BACK, 0, &push,
             PLAN_BIND(v->gate, v->up, dh, v->inverse, v->gates, dgates));
    return dh;
}

// Gradients of the experts' weights; dgates; the gradient of the gathered rows [P][H], which is
// dgate wgate + dup wup in one pass.
static struct plan_range expert_back(struct network *n, int32_t layer, struct plan_range dgates)
{
    const struct config *c = n->config;
    const uint32_t hidden = c->hidden_size, inner = c->moe_intermediate_size;
    const uint32_t pairs = pairs_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range h = body_back(n, layer, dgates);
    expert_weight_grad(n, layer, ROLE_EXPERT_DOWN, n->dx, h, GATHER_A);
    if (c->mlp_gated)
        expert_weight_grad(n, layer, ROLE_EXPERT_GATE, v->gate, v->n_ffn, GATHER_B);
    expert_weight_grad(n, layer, ROLE_EXPERT_UP, v->up, v->n_ffn, GATHER_B);
    const struct plan_range dx = network_temp(n, pairs, hidden, "dx_pairs", layer);
    const struct plan_range up = network_weight(n, ROLE_EXPERT_UP, layer);
    const struct plan_range gate = c->mlp_gated ? network_weight(n, ROLE_EXPERT_GATE, layer) : up;
    struct push_moe_matmul push = network_moe_push(n, layer, hidden, inner);
    push.second = c->mlp_gated;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, network_moe_rows(n, layer), &push,
                      PLAN_BIND(v->gate, v->order, v->tiles, gate, dx, v->up, up),
                      grid(v, MOE_GRID_BACK_X));
    return dx;
}

static void router_part_back(struct network *n, int32_t layer, const struct part *part,
                             struct plan_range dgates, struct plan_range dn)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t experts = c->num_experts, hidden = c->hidden_size;
    const uint64_t picks = 4ull * network_router(n, layer)->top_k,
                   row = (uint64_t)hidden * n->store_bytes;
    const struct plan_range dlogits = network_temp(n, part->rows, experts, "drouter", layer);
    const struct push_router push = part_push(n, layer, part);
    plan_add(n->plan, KERNEL_ROUTER_BACK, 0, &push,
             PLAN_BIND(v->probs[part->index], rows_of(v->ids, part, picks),
                       rows_of(v->gates, part, picks), rows_of(dgates, part, picks),
                       rows_of(v->router_lse, part, 4), v->offsets, n->io.step, dlogits));
    network_linear_back_weight(n, dlogits, rows_of(v->n_ffn, part, row),
                               network_grad(n, ROLE_ROUTER, layer), part->rows, experts, hidden);
    network_linear_back_input(n, dlogits, network_weight(n, ROLE_ROUTER, layer),
                              rows_of(dn, part, row), part->rows, experts, hidden, true);
}

void network_moe_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t pairs = pairs_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dgates = network_temp_f32(n, pairs, 1, "dgates", layer);
    const struct plan_range dx_pairs = expert_back(n, layer, dgates);
    const struct push_moe_combine push = {.tokens = n->tokens,
                                          .cols = c->hidden_size,
                                          .top_k = network_router(n, layer)->top_k};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(dx_pairs, v->inverse, v->gates, dn, dn));
    for (struct part part = {0}; next_part(n, &part);)
        router_part_back(n, layer, &part, dgates, dn);
}
