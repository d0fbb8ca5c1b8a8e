// SPDX-License-Identifier: MIT
// The mixture-of-experts layer as steps: router (plan_router.c) -> stable counting sort of the
// (token, pick) pairs -> tile table -> grouped up matmul with gather and activation inside ->
// grouped down -> weighted combine. Backward mirrors it. Group counts that depend on routing come
// from the device (indirect dispatch).
#include <math.h>

#include "src/base.h"
#include "src/plan_model.h"

const struct config_router *network_router(const struct network *n, int32_t layer)
{
    return &n->config->layer_router[layer];
}

static uint32_t pairs_of(const struct network *n, int32_t layer)
{
    return n->tokens * network_router(n, layer)->top_k;
}

uint32_t network_capacity(const struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    const bool choice = router->type == CONFIG_ROUTER_EXPERT_CHOICE;
    const double each = (double)(choice ? n->tokens : pairs_of(n, layer)) / n->config->num_experts,
                 most = choice ? n->tokens : UINT32_MAX;
    return (uint32_t)fmin(ceil(router->capacity_factor * each), most);
}

// Most pairs that are ever sorted: those of expert choice are known.
static uint32_t rows_of(const struct network *n, int32_t layer)
{
    if (network_router(n, layer)->type != CONFIG_ROUTER_EXPERT_CHOICE) return pairs_of(n, layer);
    return network_capacity(n, layer) * n->config->num_experts;
}

uint32_t network_moe_rows(const struct network *n, int32_t layer)
{
    return max_u32(rows_of(n, layer) / n->config->num_experts, 1);
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

struct push_moe_sort network_moe_sort(const struct network *n, int32_t layer)
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

// So that the grouped matmuls leave out what an expert does not have.
static void widths_step(struct network *n, int32_t layer, uint32_t tiles, uint32_t ranges)
{
    struct gpu_buffer *const widths = n->params->widths;
    const struct layer_values *v = &n->layer[layer];
    if (!widths) return;
    const struct push_moe_widths push = {tiles + ranges, tiles, n->config->num_experts};
    plan_add(n->plan, KERNEL_MOE_WIDTHS, 0, &push,
             PLAN_BIND(plan_external(n->plan, "widths", widths, 0, widths->params.bytes), v->tiles,
                       v->ranges));
}

struct sort_values network_sort(struct network *n, int32_t layer,
                                const struct push_moe_sort *push, struct plan_range ids)
{
    struct sort_values s;
    const uint32_t ranges = min_u32(push->experts, push->pairs) + 1;
    const struct plan_range counts =
        network_temp_f32(n, push->blocks, push->experts, "counts", layer);
    struct plan_range totals = counts; // not touched where there is one slice
    if (push->slices > 1) {
        totals = network_temp_f32(n, push->experts, 1, "totals", layer);
        plan_fill(n->plan, totals, 0);
    }
    s.offsets = network_temp_f32(n, push->experts + 1, 1, "offsets", layer);
    s.tiles = network_temp_f32(n, push->max_tiles + 1, 4, "tiles", layer);
    s.ranges = network_temp_f32(n, ranges, 4, "ranges", layer);
    s.indirect = network_temp_f32(n, MOE_GRIDS, 4, "indirect", layer);
    s.order = network_temp_f32(n, push->pairs, 1, "order", layer);
    s.inverse = network_temp_f32(n, push->pairs, 1, "inverse", layer);
    plan_add(n->plan, KERNEL_MOE_COUNT, 0, push, PLAN_BIND(ids, counts, totals));
    plan_add(n->plan, KERNEL_MOE_SCAN, 0, push,
             PLAN_BIND(counts, totals, s.offsets, s.tiles, s.ranges, s.indirect));
    plan_add(n->plan, KERNEL_MOE_SCATTER, 0, push,
             PLAN_BIND(ids, counts, s.order, s.inverse));
    return s;
}

static void sort_steps(struct network *n, int32_t layer, struct plan_range ids)
{
    struct layer_values *v = &n->layer[layer];
    const struct push_moe_sort push = network_moe_sort(n, layer);
    const struct sort_values s = network_sort(n, layer, &push, ids);
    v->offsets = s.offsets, v->tiles = s.tiles, v->ranges = s.ranges, v->indirect = s.indirect;
    v->order = s.order, v->inverse = s.inverse;
    const uint32_t ranges = min_u32(push.experts, push.pairs) + 1;
    widths_step(n, layer, push.max_tiles + 1, ranges);
}

// Every expert keeps its first rows, as many as its share of the tokens times the capacity factor;
// then the sort once more, without the others. Only training drops.
static void drop_steps(struct network *n, int32_t layer)
{
    const struct config_router *router = network_router(n, layer);
    struct layer_values *v = &n->layer[layer];
    v->kept = v->ids;
    v->wanted = v->offsets;
    v->wanted_order = v->order;
    if (n->mode != NETWORK_TRAIN || router->capacity_factor == 0 ||
        router->type == CONFIG_ROUTER_EXPERT_CHOICE)
        return;
    const struct push_moe_capacity push = {.pairs = pairs_of(n, layer),
                                           .experts = n->config->num_experts,
                                           .capacity = network_capacity(n, layer)};
    v->kept = network_temp_f32(n, push.pairs, 1, "kept", layer);
    plan_add(n->plan, KERNEL_MOE_CAPACITY, 0, &push,
             PLAN_BIND(v->ids, v->inverse, v->offsets, v->kept));
    sort_steps(n, layer, v->kept);
}

static struct plan_range grid_of(struct plan_range indirect, enum kernel_moe_grid entry)
{
    return plan_slice(indirect, entry * 16ull, 12);
}

static struct moe_site resident_site(const struct network *n, int32_t layer)
{
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range up = network_weight(n, ROLE_EXPERT_UP, layer), none = {0};
    const bool gated = n->config->mlp_gated, train = n->mode == NETWORK_TRAIN;
    return (struct moe_site){
        .tiles = v->tiles,
        .ranges = v->ranges,
        .indirect = v->indirect,
        .gate = gated ? network_weight(n, ROLE_EXPERT_GATE, layer) : up,
        .up = up,
        .down = network_weight(n, ROLE_EXPERT_DOWN, layer),
        .up_bias = network_weight_if(n, ROLE_EXPERT_UP_BIAS, layer),
        .down_bias = network_weight_if(n, ROLE_EXPERT_DOWN_BIAS, layer),
        .gate_grad = gated && train ? network_grad(n, ROLE_EXPERT_GATE, layer) : none,
        .up_grad = train ? network_grad(n, ROLE_EXPERT_UP, layer) : none,
        .down_grad = train ? network_grad(n, ROLE_EXPERT_DOWN, layer) : none,
    };
}

// A stage of the experts: where they come and go in as many turns as it takes. `grads`: it adds to
// their gradients.
static void stage_steps(struct network *n, int32_t layer, network_stage_fn *stage, bool grads,
                        struct plan_range a, struct plan_range b)
{
    if (n->params->experts) {
        network_stream(n, layer, stage, grads, a, b);
        return;
    }
    const struct moe_site site = resident_site(n, layer);
    stage(n, layer, &site, a, b);
}

static void up_steps(struct network *n, int32_t layer, const struct moe_site *site,
                     struct plan_range h)
{
    const struct config *c = n->config;
    const uint32_t rows = network_moe_rows(n, layer);
    const struct layer_values *v = &n->layer[layer];
    struct push_moe_matmul push =
        network_moe_push(n, layer, c->moe_intermediate_size, c->hidden_size);
    push.save = n->mode == NETWORK_TRAIN;
    push.bias = c->mlp_bias;
    if (c->mlp_gated)
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_UP, rows, &push,
                          PLAN_BIND(v->n_ffn, v->order, site->tiles, site->gate, site->up, h,
                                    v->gate, v->up),
                          grid_of(site->indirect, MOE_GRID_UP));
    else
        plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_ACT, rows, &push,
                          PLAN_BIND(v->n_ffn, v->order, site->tiles, site->up, h, v->gate,
                                    c->mlp_bias ? site->up_bias : site->up),
                          grid_of(site->indirect, MOE_GRID_UP));
}

// h [P][I] and y [P][H] of the site's rows, in training v->gate and v->up as well
static void body_stage(struct network *n, int32_t layer, const struct moe_site *site,
                       struct plan_range h, struct plan_range y)
{
    struct push_moe_matmul down =
        network_moe_push(n, layer, n->config->hidden_size, n->config->moe_intermediate_size);
    down.bias = n->config->mlp_bias;
    up_steps(n, layer, site, h);
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NT, network_moe_rows(n, layer), &down,
                      PLAN_BIND(h, site->tiles, site->down, y,
                                down.bias ? site->down_bias : site->down),
                      grid_of(site->indirect, MOE_GRID_DOWN));
}

// y [P][H], which lives until the combine; of training stays what the activation was taken of:
// gate [P][I], where gated up [P][I]
static struct plan_range expert_steps(struct network *n, int32_t layer)
{
    const struct config *c = n->config;
    const uint32_t pairs = rows_of(n, layer), inner = c->moe_intermediate_size;
    const bool save = n->mode == NETWORK_TRAIN;
    struct layer_values *v = &n->layer[layer];
    const struct plan_range h = network_temp(n, pairs, inner, "h", layer);
    v->gate = save ? network_temp(n, pairs, inner, "gate", layer) : h;
    v->up = save && c->mlp_gated ? network_temp(n, pairs, inner, "up", layer) : v->gate;
    const struct plan_range y = network_temp(n, pairs, c->hidden_size, "y", layer);
    stage_steps(n, layer, body_stage, false, h, y);
    return y;
}

// What was picked, for the host: the first tokens, as many as it has room for.
static void picks_steps(struct network *n, int32_t layer)
{
    const struct layer_values *v = &n->layer[layer];
    uint32_t index = 0;
    for (int32_t i = 0; i < layer; i++) index += n->config->moe_layer[i];
    if (n->io.picks)
        plan_copy(n->plan, plan_slice(v->ids, 0, n->io.picks[index].bytes), n->io.picks[index]);
    if (n->io.gates)
        plan_copy(n->plan, plan_slice(v->gates, 0, n->io.gates[index].bytes), n->io.gates[index]);
}

void network_moe_steps(struct network *n, int32_t layer)
{
    struct layer_values *v = &n->layer[layer];
    network_route(n, layer);
    picks_steps(n, layer);
    sort_steps(n, layer, v->ids);
    drop_steps(n, layer);
    network_route_stats(n, layer);
    const struct plan_range y = expert_steps(n, layer);
    const struct push_moe_combine push = {.tokens = n->tokens,
                                          .cols = n->config->hidden_size,
                                          .top_k = network_router(n, layer)->top_k,
                                          .weighted = 1,
                                          .add = !n->config->channel_scales};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(y, v->inverse, v->gates, v->x_mid, v->y_ffn));
    network_shared_steps(n, layer);
}

// ---- backward: SonicMoE's (Guo et al. 2025). dout [T][H] is read through the order, so the
// gradient of Y is never written, and Y itself is not kept: dgates come from dot(dh, h).

enum gather { GATHER_NONE, GATHER_B, GATHER_A };

// grad_e += a^T b over the site's experts; down: [hidden][inner], else [inner][hidden]
static void weight_grad(struct network *n, int32_t layer, const struct moe_site *site, bool down,
                        struct plan_range a, struct plan_range b, struct plan_range grad)
{
    const uint32_t hidden = n->config->hidden_size, inner = n->config->moe_intermediate_size;
    struct push_moe_matmul push = network_moe_push(n, layer, down ? inner : hidden, 0);
    push.m = down ? hidden : inner;
    push.gather = down ? GATHER_A : GATHER_B;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_TN, network_moe_rows(n, layer), &push,
                      PLAN_BIND(a, b, n->layer[layer].order, site->ranges, grad),
                      grid_of(site->indirect, down ? MOE_GRID_DOWN_WEIGHT : MOE_GRID_UP_WEIGHT));
}

// dh [P][I] = rows of dy, as if each pair's gate weight were 1; b is not used
static void back_h_stage(struct network *n, int32_t layer, const struct moe_site *site,
                         struct plan_range dh, struct plan_range b)
{
    (void)b;
    struct push_moe_matmul down =
        network_moe_push(n, layer, n->config->moe_intermediate_size, n->config->hidden_size);
    down.gather = 1;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, network_moe_rows(n, layer), &down,
                      PLAN_BIND(n->dy, n->layer[layer].order, site->tiles, site->down, dh, n->dy,
                                site->down),
                      grid_of(site->indirect, MOE_GRID_BACK_H));
}

// Gradients of the weights, and dx [P][H] of the gathered rows: dgate wgate + dup wup in one pass.
static void back_x_stage(struct network *n, int32_t layer, const struct moe_site *site,
                         struct plan_range h, struct plan_range dx)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    weight_grad(n, layer, site, true, n->dy, h, site->down_grad);
    if (c->mlp_gated) weight_grad(n, layer, site, false, v->gate, v->n_ffn, site->gate_grad);
    weight_grad(n, layer, site, false, v->up, v->n_ffn, site->up_grad);
    struct push_moe_matmul push =
        network_moe_push(n, layer, c->hidden_size, c->moe_intermediate_size);
    push.second = c->mlp_gated;
    plan_add_indirect(n->plan, KERNEL_MOE_MATMUL_NN, network_moe_rows(n, layer), &push,
                      PLAN_BIND(v->gate, v->order, site->tiles, site->gate, dx, v->up, site->up),
                      grid_of(site->indirect, MOE_GRID_BACK_X));
}

// Gradients of the biases; dgates takes what the second one is worth.
static void bias_back(struct network *n, int32_t layer, struct plan_range dgates)
{
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const uint32_t top_k = network_router(n, layer)->top_k;
    const struct push_moe_column_sum up = {c->num_experts, c->moe_intermediate_size, top_k, 0},
                                     down = {c->num_experts, c->hidden_size, top_k, 1};
    const struct push_moe_bias_back gates = {pairs_of(n, layer), c->num_experts, c->hidden_size,
                                             top_k};
    plan_add(n->plan, KERNEL_MOE_COLUMN_SUM, 0, &up,
             PLAN_BIND(v->up, v->order, v->offsets, v->gates,
                       network_grad(n, ROLE_EXPERT_UP_BIAS, layer)));
    plan_add(n->plan, KERNEL_MOE_COLUMN_SUM, 0, &down,
             PLAN_BIND(n->dy, v->order, v->offsets, v->gates,
                       network_grad(n, ROLE_EXPERT_DOWN_BIAS, layer)));
    plan_add(n->plan, KERNEL_MOE_BIAS_BACK, 0, &gates,
             PLAN_BIND(n->dy, v->kept, network_weight(n, ROLE_EXPERT_DOWN_BIAS, layer), dgates));
}

// Gradients of the experts' weights; dgates; the gradient of the gathered rows [P][H]. In place
// gate and up become their gradients, dh becomes weight * h.
static struct plan_range expert_back(struct network *n, int32_t layer, struct plan_range dgates)
{
    const struct config *c = n->config;
    const uint32_t rows = rows_of(n, layer), inner = c->moe_intermediate_size;
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dh = network_temp(n, rows, inner, "dh", layer);
    stage_steps(n, layer, back_h_stage, false, dh, dh);
    const struct push_moe_activate push = {pairs_of(n, layer), inner, network_activation(n),
                                           c->mlp_gated};
    plan_add(n->plan, KERNEL_MOE_ACTIVATE_BACK, 0, &push,
             PLAN_BIND(v->gate, v->up, dh, v->inverse, v->gates, dgates));
    if (c->mlp_bias) bias_back(n, layer, dgates);
    const struct plan_range dx = network_temp(n, rows, c->hidden_size, "dx_pairs", layer);
    stage_steps(n, layer, back_x_stage, true, dh, dx);
    return dx;
}

void network_moe_back(struct network *n, int32_t layer, struct plan_range dn)
{
    const struct config *c = n->config;
    network_touch(n, layer);
    const uint32_t pairs = pairs_of(n, layer);
    const struct layer_values *v = &n->layer[layer];
    const struct plan_range dgates = network_temp_f32(n, pairs, 1, "dgates", layer);
    const struct plan_range dx_pairs = expert_back(n, layer, dgates);
    const struct push_moe_combine push = {.tokens = n->tokens,
                                          .cols = c->hidden_size,
                                          .top_k = network_router(n, layer)->top_k};
    plan_add(n->plan, KERNEL_MOE_COMBINE, 0, &push,
             PLAN_BIND(dx_pairs, v->inverse, v->gates, dn, dn));
    network_shared_back(n, layer, dn);
    network_route_back(n, layer, dgates, dn);
}
