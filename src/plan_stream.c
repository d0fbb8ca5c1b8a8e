// SPDX-License-Identifier: MIT
// The experts of a streamed model as steps: behind the sort the host reads which experts have rows
// (experts.h), and the bodies run in turns, each over the experts that lie in slots by then.
#include "src/base.h"
#include "src/experts.h"
#include "src/plan_update.h"

static struct push_moe_place place_push(const struct network *n, int32_t layer, uint32_t window)
{
    const struct push_moe_sort sort = network_moe_sort(n, layer);
    const struct experts *x = n->params->experts;
    return kernel_moe_place(&sort, window * x->window_slots, x->window_slots);
}

static struct plan_range pool_of(const struct network *n, int array, enum model_role role,
                                 uint32_t window)
{
    const struct experts *x = n->params->experts;
    return experts_pool(x, n->plan, array, experts_matrix(x, role), window);
}

static struct moe_site window_site(struct network *n, int32_t layer, uint32_t window)
{
    const struct push_moe_place push = place_push(n, layer, window);
    const struct config *c = n->config;
    const struct layer_values *v = &n->layer[layer];
    const enum model_role gate = c->mlp_gated ? ROLE_EXPERT_GATE : ROLE_EXPERT_UP;
    struct moe_site site = {
        .tiles = network_temp_f32(n, push.max_tiles + 1, 4, "tiles_placed", layer),
        .ranges = network_temp_f32(n, push.ranges + 1, 4, "ranges_placed", layer),
        .indirect = network_temp_f32(n, MOE_GRIDS, 4, "indirect_placed", layer),
        .gate = pool_of(n, RECORD_COMPUTE, gate, window),
        .up = pool_of(n, RECORD_COMPUTE, ROLE_EXPERT_UP, window),
        .down = pool_of(n, RECORD_COMPUTE, ROLE_EXPERT_DOWN, window),
    };
    if (c->mlp_bias) {
        site.up_bias = pool_of(n, RECORD_COMPUTE, ROLE_EXPERT_UP_BIAS, window);
        site.down_bias = pool_of(n, RECORD_COMPUTE, ROLE_EXPERT_DOWN_BIAS, window);
    }
    if (n->mode == NETWORK_TRAIN) {
        site.gate_grad = pool_of(n, EXPERTS_GRAD, gate, window);
        site.up_grad = pool_of(n, EXPERTS_GRAD, ROLE_EXPERT_UP, window);
        site.down_grad = pool_of(n, EXPERTS_GRAD, ROLE_EXPERT_DOWN, window);
    }
    plan_add(n->plan, KERNEL_MOE_PLACE, 0, &push,
             PLAN_BIND(v->ranges, experts_places(n->params->experts, n->plan, push.ranges),
                       site.tiles, site.ranges, site.indirect));
    return site;
}

// Slots of a window, and where they begin.
static uint32_t slots_of(const struct experts *x, uint32_t window, uint32_t *first)
{
    *first = window * x->window_slots;
    return min_u32(x->window_slots, x->slots - *first);
}

// Sums of squares of gradients as they are behind a turn: the last turn that an expert has in a
// step leaves those that the norm is made of.
static void window_norm(struct plan *plan, const struct params *params, uint32_t window)
{
    const struct experts *x = params->experts;
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        struct push_expert_norm push = {.count = (uint32_t)x->record.matrix[i].count,
                                        .block = NETWORK_NORM_BLOCK,
                                        .mapped = 1};
        push.matrices = slots_of(x, window, &push.index);
        plan_add(plan, KERNEL_EXPERT_NORM, 0, &push,
                 PLAN_BIND(experts_pool(x, plan, EXPERTS_GRAD, i, window),
                           experts_table(x, plan, 1 + i), network_squares(plan, params)));
    }
}

// ---- who may be needed next

// The MoE layer whose experts come next, -1: none. `step` 1: forward, -1: backward.
static int32_t next_layer(const struct network *n, int32_t layer, int32_t step)
{
    const int32_t layers = (int32_t)n->config->num_hidden_layers;
    for (layer += step; layer >= 0 && layer < layers; layer += step)
        if (n->config->moe_layer[layer]) return layer;
    return -1;
}

static uint32_t experts_of(const struct network *n, int32_t layer)
{
    return model_moe_index(n->model, config_layer_owner(n->config, (uint32_t)layer));
}

// What the next layer's router would pick now, two sections early: its picks are for the host, who
// loads whom it finds there. All other values stay those of the layer's own turn.
static void guess_steps(struct network *n, int32_t layer, int32_t next)
{
    struct layer_values *v = &n->layer[next];
    const struct layer_values kept = *v;
    const uint32_t hidden = n->config->hidden_size;
    const struct plan_range weight = network_weight_if(n, ROLE_NORM_FFN, next),
                            rstd = network_temp_f32(n, n->tokens, 1, "rstd_guess", layer),
                            guesses = experts_guesses(n->params->experts, n->plan);
    v->n_ffn = network_temp(n, n->tokens, hidden, "n_guess", layer);
    network_norm(n, n->layer[layer].x_mid, weight.tensor ? &weight : NULL, v->n_ffn, rstd,
                 n->tokens, hidden);
    network_route(n, next);
    const uint64_t bytes = min_u64(guesses.bytes, v->ids.bytes);
    plan_fill(n->plan, guesses, KERNEL_NONE_ID);
    plan_copy(n->plan, plan_slice(v->ids, 0, bytes), plan_slice(guesses, 0, bytes));
    *v = kept;
}

static struct experts_point host_point(struct network *n, int32_t layer)
{
    struct experts_point point = {.layer = experts_of(n, layer), .next = EXPERTS_NOBODY};
    const bool back = n->dy.tensor > 0; // the gradient that the section has been given
    const int32_t next = n->params->experts->prefetch ? next_layer(n, layer, back ? -1 : 1) : -1;
    if (next < 0) return point;
    if (!back) guess_steps(n, layer, next);
    point.next = experts_of(n, next);
    point.known = back; // the same that forward had
    return point;
}

void network_stream(struct network *n, int32_t layer, network_stage_fn *stage, bool grads,
                    struct plan_range a, struct plan_range b)
{
    struct experts *x = n->params->experts;
    const struct plan_range ranges = n->layer[layer].ranges;
    const struct experts_point point = host_point(n, layer);
    plan_copy(n->plan, ranges, experts_ranges(x, n->plan, ranges.bytes));
    plan_host(n->plan,
              grads                      ? experts_visit_grads
              : n->mode == NETWORK_TRAIN ? experts_visit_forward
                                         : experts_visit,
              x, experts_point_pack(point));
    for (uint32_t w = 0; w < x->windows; w++) {
        const struct moe_site site = window_site(n, layer, w);
        stage(n, layer, &site, a, b);
        if (grads) window_norm(n->plan, n->params, w);
    }
    plan_host(n->plan, NULL, NULL, 0);
}

void network_stream_zero(struct plan *plan, const struct params *params)
{
    const struct experts *x = params->experts;
    plan_fill(plan, network_squares(plan, params), 0); // experts without rows have none
    for (uint32_t i = 0; i < x->record.matrix_count; i++)
        for (uint32_t w = 0; w < x->windows; w++)
            plan_fill(plan, experts_pool(x, plan, EXPERTS_GRAD, i, w), 0);
}

// ---- the optimizer

// One window of one matrix. What the optimizer does not keep is not there: pool[...] NULL.
struct site {
    struct push_optimizer push;
    uint32_t          matrix, window;
    struct plan_range moves, p, copy, g;
};

static struct plan_range state_of(struct plan *plan, const struct experts *x,
                                  const struct site *s, int array)
{
    return experts_pool(x, plan, array, s->matrix, s->window);
}

static void adamw_steps(struct plan *plan, const struct experts *x, const struct network_io *io,
                        const struct site *s, bool codes)
{
    const struct push_adamw_8bit push = {.each = s->push};
    if (codes)
        plan_add(plan, KERNEL_ADAMW_8BIT, 0, &push,
                 PLAN_BIND(io->step, io->norm, s->p, s->g, state_of(plan, x, s, RECORD_CODES),
                           s->copy, s->moves));
    else
        plan_add(plan, KERNEL_ADAMW, 0, &push.each,
                 PLAN_BIND(io->step, io->norm, s->p, s->g, state_of(plan, x, s, RECORD_M),
                           state_of(plan, x, s, RECORD_V), s->copy, s->moves));
}

static void stochastic_steps(struct plan *plan, const struct experts *x,
                             const struct network_io *io, const struct site *s, bool codes)
{
    const struct push_adamw_stochastic push = {
        .each = s->push, .mapped = 1, .nearest = !x->model->config.stochastic_rounding};
    const struct plan_range draws = experts_table(x, plan, 1 + x->record.matrix_count + s->matrix);
    if (codes)
        plan_add(plan, KERNEL_ADAMW_8BIT_STOCHASTIC, 0, &push,
                 PLAN_BIND(io->step, io->norm, s->p, s->g, state_of(plan, x, s, RECORD_CODES),
                           s->moves, draws));
    else
        plan_add(plan, KERNEL_ADAMW_STOCHASTIC, 0, &push,
                 PLAN_BIND(io->step, io->norm, s->p, s->g, state_of(plan, x, s, RECORD_M),
                           state_of(plan, x, s, RECORD_V), s->moves, draws));
}

static void update_matrix(struct plan *plan, const struct params *params,
                          const struct network_io *io, uint32_t matrix, struct plan_range moves)
{
    const struct experts *x = params->experts;
    const struct model_tensor *stack = experts_record_stack(&x->record, 0, matrix);
    const bool codes = params->model->group[stack->group].optim == CONFIG_ADAMW_8BIT;
    struct site s = {.push = span_push(params, &(struct span){.tensor = stack,
                                                              .group = stack->group}),
                     .matrix = matrix,
                     .moves = moves};
    s.push.copy = x->record.array[RECORD_MASTER] > 0;
    s.push.experts = s.push.per_layer = s.push.stride = x->slots;
    s.push.count = (uint32_t)x->record.matrix[matrix].count;
    for (s.window = 0; s.window < x->windows; s.window++) {
        s.push.matrices = slots_of(x, s.window, &s.push.first);
        s.copy = state_of(plan, x, &s, RECORD_COMPUTE);
        s.p = s.push.copy ? state_of(plan, x, &s, RECORD_MASTER) : s.copy;
        s.g = state_of(plan, x, &s, EXPERTS_GRAD);
        if (params->model->config.master_weights) adamw_steps(plan, x, io, &s, codes);
        else stochastic_steps(plan, x, io, &s, codes);
    }
}

void network_stream_update(struct plan *plan, const struct params *params,
                           const struct network_io *io)
{
    const struct experts *x = params->experts;
    plan_host(plan, experts_visit_update, params->experts, 0);
    const struct plan_range own = plan_temp(plan, 4ull * x->slots, "moves of slots");
    plan_add(plan, KERNEL_EXPERT_MOVES, 0, &(struct push_count){x->slots},
             PLAN_BIND(plan_external(plan, "moves", params->moves, 0, params->moves->params.bytes),
                       experts_table(x, plan, 0), own));
    for (uint32_t i = 0; i < x->record.matrix_count; i++) update_matrix(plan, params, io, i, own);
    plan_host(plan, NULL, NULL, 0);
}
