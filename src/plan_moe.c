// SPDX-License-Identifier: MIT
// The mixture-of-experts layer as steps: router -> stable counting sort of the (token, pick) pairs
// -> tile table -> grouped SwiGLU matmul with the gather inside -> grouped down matmul -> weighted
// combine. Backward mirrors it. Group counts that depend on routing come from the device (indirect
// dispatch).
#include "src/base.h"
#include "src/plan_model.h"

enum { SORT_BLOCK = 256, SORT_COUNTS = 1 << 20 };

uint32_t network_moe_rows(const struct network *n)
{
    return max_u32(n->tokens * n->config->num_experts_per_tok / n->config->num_experts, 1);
}

struct push_moe_matmul network_moe_push(const struct network *n, uint32_t cols, uint32_t inner)
{
    const struct config *c = n->config;
    return (struct push_moe_matmul){.pairs = n->tokens * c->num_experts_per_tok,
                                    .experts = c->num_experts,
                                    .n = cols,
                                    .k = inner,
                                    .top_k = c->num_experts_per_tok};
}

static struct push_router router_push(const struct network *n)
{
    const struct config *c = n->config;
    // coefficients are of the mean over the MoE layers
    const float share = 1.0f / (float)config_moe_layers(c);
    return (struct push_router){.tokens = n->tokens,
                                .experts = c->num_experts,
                                .top_k = c->num_experts_per_tok,
                                .renormalise = c->norm_topk_prob,
                                .inv_temperature = (float)(1.0 / c->router_temperature),
                                .balance_coef = (float)c->router_aux_loss_coef * share,
                                .z_coef = (float)c->router_z_loss_coef * share};
}

static void router_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    struct layer_values *v = &n->layer[layer];
    v->logits = network_temp_f32(n, n->tokens, c->num_experts, "router_logits", layer);
    v->probs = network_temp_f32(n, n->tokens, c->num_experts, "probs", layer);
    v->ids = network_temp_f32(n, n->tokens, c->num_experts_per_tok, "picks", layer);
    v->gates = network_temp_f32(n, n->tokens, c->num_experts_per_tok, "gates", layer);
    v->router_lse = network_temp_f32(n, n->tokens, 1, "router_lse", layer);
    network_linear_f32(n, v->n_ffn, network_weight(n, ROLE_ROUTER, layer), v->logits, n->tokens,
                       c->num_experts, c->hidden_size);
    const struct push_router push = router_push(n);
    plan_add(n->plan, KERNEL_ROUTER, 0, &push,
             PLAN_BIND(v->logits, v->probs, v->ids, v->gates, v->router_lse));
}

static struct kernel_shape shape_of(const struct network *n, enum kernel_op op, uint32_t cols,
                                    uint32_t inner)
{
    const struct kernel_size size = {network_moe_rows(n), cols, inner};
    return kernels_shape(n->plan->kernels, op, n->plan->store, &size);
}

// Workgroups along the columns of a grouped matmul; the rows come from the tile table.
static uint32_t columns_of(const struct network *n, enum kernel_op op, uint32_t cols,
                           uint32_t inner)
{
    const struct kernel_shape shape = shape_of(n, op, cols, inner);
    return kernel_moe_columns(op, &shape, cols);
}

static struct push_moe_sort sort_push(const struct network *n)
{
    const struct config *c = n->config;
    const uint32_t pairs = n->tokens * c->num_experts_per_tok;
    const uint64_t counts = (uint64_t)pairs * c->num_experts / SORT_COUNTS;
    const uint32_t block = max_u32(SORT_BLOCK, (uint32_t)counts);
    const uint32_t hidden = c->hidden_size, inner = c->moe_intermediate_size;
    const uint32_t tile = shape_of(n, KERNEL_MOE_MATMUL_UP, inner, hidden).rows;
    return (struct push_moe_sort){
        .pairs = pairs,
        .experts = c->num_experts,
        .block = block,
        .blocks = ceil_div(pairs, block),
        .tile_rows = tile,
        .max_tiles = pairs / tile + min_u32(c->num_experts, pairs),
        .columns = {columns_of(n, KERNEL_MOE_MATMUL_UP, inner, hidden),
                    columns_of(n, KERNEL_MOE_MATMUL_NT, hidden, inner),
                    columns_of(n, KERNEL_MOE_MATMUL_NN, inner, hidden),
                    columns_of(n, KERNEL_MOE_MATMUL_NN, hidden, inner)},
    };
}

static void sort_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    const struct push_moe_sort push = sort_push(n);
    const struct plan_range counts =
        network_temp_f32(n, push.blocks, push.experts, "counts", layer);
    v->offsets = network_temp_f32(n, push.experts + 1, 1, "offsets", layer);
    v->tiles = network_temp_f32(n, push.max_tiles, 4, "tiles", layer);
    v->indirect = network_temp_f32(n, 4, 4, "indirect", layer);
    v->order = network_temp_f32(n, push.pairs, 1, "order", layer);
    v->inverse = network_temp_f32(n, push.pairs, 1, "inverse", layer);
    plan_add(n->plan, KERNEL_MOE_COUNT, 0, &push, PLAN_BIND(v->ids, counts));
    plan_add(n->plan, KERNEL_MOE_SCAN, 0, &push,
             PLAN_BIND(counts, v->offsets, v->tiles, v->indirect));
    plan_add(n->plan, KERNEL_MOE_SCATTER, 0, &push,
             PLAN_BIND(v->ids, counts, v->order, v->inverse));
}

static struct plan_range grid(const struct layer_values *v, uint32_t entry)
{
    return plan_slice(v->indirect, entry * 16ull, 12);
}

static void stats_step(struct network *n, int32_t layer)
{
    if (n->mode != NETWORK_TRAIN && n->mode != NETWORK_EVAL) return;
    const struct layer_values *v = &n->layer[layer];
    uint32_t index = 0;
    for (int32_t i = 0; i < layer; i++) index += n->config->moe_layer[i];
    const struct push_router push = router_push(n);
    plan_add(n->plan, KERNEL_ROUTER_STATS, 0, &push,
             PLAN_BIND(v->probs, v->router_lse, v->offsets,
                       plan_slice(n->io.stats, 4ull * index * n->stats_stride,
                                  4ull * (4 + 2 * (uint64_t)n->config->num_experts))));
}

static void expert_steps(struct network *n, int32_t layer)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->moe_intermediate_size;
    const uint32_t rows = network_moe_rows(n), pairs = n->tokens * n->config->num_experts_per_tok;
    struct layer_values *v = &n->layer[layer];
    v->h = network_temp(n, pairs, inner, "h", layer);
    v->gate = v->up = v->h;
    struct push_moe_matmul up = network_moe_push(n, inner, hidden);
    up.save = n->mode == NETWORK_TRAIN;
    if (up.save) {
        v->gate = network_temp(n, pairs, inner, "gate", layer);
        v->up = network_temp(n, pairs, inner, "up", layer);
    }
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_UP, rows, &up,
                      PLAN_BIND(v->n_ffn, v->order, v->tiles,
                                network_weight(n, ROLE_EXPERT_GATE, layer),
                                network_weight(n, ROLE_EXPERT_UP, layer), v->h, v->gate, v->up),
                      grid(v, 0));
    v->y = network_temp(n, pairs, hidden, "y", layer);
    const struct push_moe_matmul down = network_moe_push(n, hidden, inner);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NT, rows, &down,
                      PLAN_BIND(v->h, v->tiles, network_weight(n, ROLE_EXPERT_DOWN, layer), v->y),
                      grid(v, 1));
}

void network_moe_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    router_steps(n, layer);
    sort_steps(n, layer);
    stats_step(n, layer);
    expert_steps(n, layer);
    n->x = network_temp(n, n->tokens, n->config->hidden_size, "x", layer);
    const struct push_moe_combine push = {.tokens = n->tokens,
                                          .cols = n->config->hidden_size,
                                          .top_k = n->config->num_experts_per_tok,
                                          .weighted = 1,
                                          .add = 1};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(v->y, v->inverse, v->gates, v->x_mid, n->x));
}

// ---- backward

static void expert_weight_grad(struct network *n, int32_t layer, enum model_role role,
                               struct plan_range a, struct plan_range b, uint32_t m, uint32_t cols,
                               bool gather)
{
    const struct layer_values *v = &n->layer[layer];
    struct push_moe_matmul push = network_moe_push(n, cols, 0);
    push.m = m;
    push.gather = gather;
    plan_add(n->plan, KERNEL_MOE_MATMUL_TN, 64, &push,
             PLAN_BIND(a, b, v->order, v->offsets, network_grad(n, role, layer)));
}

// dy [P][H] -> gradients of the three weight stacks, and the gradient of the gathered rows [P][H]
static struct plan_range expert_back(struct network *n, int32_t layer, struct plan_range dy)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->moe_intermediate_size;
    const uint32_t rows = network_moe_rows(n), pairs = n->tokens * n->config->num_experts_per_tok;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dh = network_temp(n, pairs, inner, "dh", layer),
                            dup = network_temp(n, pairs, inner, "dup", layer);
    const struct plan_range h = network_temp(n, pairs, inner, "h_again", layer);
    const struct push_moe_matmul down = network_moe_push(n, inner, hidden);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, rows, &down,
                      PLAN_BIND(dy, v->tiles, network_weight(n, ROLE_EXPERT_DOWN, layer), dh),
                      grid(v, 2));
    const struct push_count count = {pairs * inner};
    plan_add(n->plan, KERNEL_SWIGLU_BACK, 0, &count, PLAN_BIND(v->gate, v->up, dh, dh, dup, h));
    expert_weight_grad(n, layer, ROLE_EXPERT_DOWN, dy, h, hidden, inner, false);
    expert_weight_grad(n, layer, ROLE_EXPERT_GATE, dh, v->n_ffn, inner, hidden, true);
    expert_weight_grad(n, layer, ROLE_EXPERT_UP, dup, v->n_ffn, inner, hidden, true);
    const struct plan_range dx = network_temp(n, pairs, hidden, "dx_pairs", layer);
    struct push_moe_matmul up = network_moe_push(n, hidden, inner);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, rows, &up,
                      PLAN_BIND(dh, v->tiles, network_weight(n, ROLE_EXPERT_GATE, layer), dx),
                      grid(v, 3));
    up.add = 1;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, rows, &up,
                      PLAN_BIND(dup, v->tiles, network_weight(n, ROLE_EXPERT_UP, layer), dx),
                      grid(v, 3));
    return dx;
}

static void router_back(struct network *n, int32_t layer, struct plan_range dgates,
                        struct plan_range dn)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dlogits = network_temp(n, n->tokens, c->num_experts, "drouter", layer);
    const struct push_router push = router_push(n);
    plan_add(n->plan, KERNEL_ROUTER_BACK, 0, &push,
             PLAN_BIND(v->probs, v->ids, v->gates, dgates, v->router_lse, v->offsets, n->io.step,
                       dlogits));
    network_linear_back_weight(n, dlogits, v->n_ffn, network_grad(n, ROLE_ROUTER, layer),
                               n->tokens, c->num_experts, c->hidden_size);
    network_linear_back_input(n, dlogits, network_weight(n, ROLE_ROUTER, layer), dn, n->tokens,
                              c->num_experts, c->hidden_size, true);
}

void network_moe_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    const uint32_t pairs = n->tokens * c->num_experts_per_tok;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dy = network_temp(n, pairs, c->hidden_size, "dy", layer);
    const struct plan_range dgates = network_temp_f32(n, pairs, 1, "dgates", layer);
    struct push_moe_combine push = {.tokens = n->tokens,
                                    .cols = c->hidden_size,
                                    .top_k = c->num_experts_per_tok,
                                    .weighted = 1};
    plan_add(n->plan, KERNEL_MOE_COMBINE_BACK, 0, &push,
             PLAN_BIND(n->dx, v->y, v->inverse, v->gates, dy, dgates));
    const struct plan_range dx_pairs = expert_back(n, layer, dy);
    push.weighted = 0;
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(dx_pairs, v->inverse, v->gates, dn, dn));
    router_back(n, layer, dgates, dn);
}
