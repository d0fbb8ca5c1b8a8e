// SPDX-License-Identifier: MIT
// The optimizer step as steps: the gradient norm (one reduction), the clip factor, which experts
// move, then each group's optimizer with the cast to the compute copy. What lies side by side and
// is treated alike shares a dispatch: a span of the flat space.
#include "src/base.h"
#include "src/codes.h"
#include "src/experts.h"
#include "src/plan_update.h"

enum { NORM_BLOCK = NETWORK_NORM_BLOCK };

struct span_list { struct span *span; uint32_t count; uint64_t limit; };

static struct span_list list_create(struct plan *plan, const struct params *params)
{
    const struct model *model = params->model;
    const uint64_t limit = params->gpu->caps.max_range / 4 / NORM_BLOCK * NORM_BLOCK;
    // parts of experts begin at multiples of MODEL_ALIGN, so up to half of the limit may be lost
    uint64_t space = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) space += model->tensor[i].space;
    const uint64_t most = model->tensor_count + 2 * (space / limit) + model->segment_count +
                          model->tensor_count;
    return (struct span_list){.span = arena_array(plan->arena, most, sizeof(struct span)),
                              .limit = limit};
}

static void add_dense(struct span_list *list, const struct model_tensor *tensor)
{
    const uint64_t end = tensor->offset + align_up(tensor->space, MODEL_ALIGN);
    struct span *last = list->count ? &list->span[list->count - 1] : NULL;
    if (last && !last->matrices && last->segment == tensor->segment &&
        last->end == tensor->offset && last->group == tensor->group &&
        end - last->begin <= list->limit) {
        last->end = end;
        return;
    }
    for (uint64_t at = tensor->offset; at < end; at += list->limit)
        list->span[list->count++] = (struct span){.tensor = tensor,
                                                  .segment = tensor->segment,
                                                  .group = tensor->group,
                                                  .begin = at,
                                                  .end = min_u64(at + list->limit, end)};
}

// Whether a stack of experts goes on where the last span ends: the next of the same layer, while
// that is the first one, else the next in the order of the first layer's.
static bool joins(const struct span_list *list, const struct model_tensor *tensor, uint32_t layer)
{
    if (!list->count) return false;
    struct span *last = &list->span[list->count - 1];
    const uint64_t count = tensor->space / tensor->experts;
    if (last->segment != tensor->segment || last->group != tensor->group || last->first != 0 ||
        last->count != count || last->end != tensor->offset ||
        last->end + tensor->space - last->begin > list->limit ||
        last->tensors * tensor->experts != last->matrices)
        return false;
    if (layer == last->layer && last->tensors == last->stacks) {
        last->stacks++;
        return true;
    }
    return layer == last->layer + last->tensors / last->stacks;
}

// A stack larger than the limit goes in parts, each of whole experts that begin at a multiple of
// MODEL_ALIGN.
static void add_matrices(struct span_list *list, const struct model_tensor *tensor, uint32_t layer,
                         bool join)
{
    const uint32_t matrices = max_u32(tensor->experts, 1);
    const uint64_t count = tensor->space / matrices;
    if (join && joins(list, tensor, layer)) {
        struct span *last = &list->span[list->count - 1];
        last->end += tensor->space;
        last->matrices += matrices;
        last->tensors++;
        return;
    }
    uint64_t step = list->limit / count;
    if (step < matrices) {
        uint64_t whole = 1; // experts that make a multiple
        while (whole * count % MODEL_ALIGN) whole *= 2;
        step = max_u64(step / whole, 1) * whole;
    }
    for (uint64_t first = 0; first < matrices; first += step) {
        const uint64_t some = min_u64(step, matrices - first);
        list->span[list->count++] = (struct span){.tensor = tensor,
                                                  .segment = tensor->segment,
                                                  .group = tensor->group,
                                                  .begin = tensor->offset + first * count,
                                                  .end = tensor->offset + (first + some) * count,
                                                  .count = count,
                                                  .matrices = (uint32_t)some,
                                                  .first = (uint32_t)first,
                                                  .layer = layer,
                                                  .tensors = 1,
                                                  .stacks = 1};
    }
}

// Spans in the order of the flat space: never across segments, groups or what one binding may
// cover. Where `split`, experts that move one by one as matrices; else without them.
static struct span_list spans_of(struct plan *plan, const struct params *params, bool split)
{
    const struct model *model = params->model;
    struct span_list list = list_create(plan, params);
    for (uint32_t g = 0; g < model->group_count; g++)
        for (uint32_t t = 0; t < model->tensor_count; t++) {
            const struct model_tensor *tensor = &model->tensor[t];
            if (tensor->ruled || tensor->streamed || tensor->group != g) continue;
            const bool muon = model->group[g].optim == CONFIG_MUON;
            // records are of one expert each, whichever way experts move
            const bool records = tensor->experts && !model_has_m(model, tensor);
            if (!split && model->group[g].by_expert) continue;
            if (split && (muon || model->group[g].by_expert || records))
                add_matrices(&list, tensor,
                             tensor->experts ? model_moe_index(model, (uint32_t)tensor->layer) : 0,
                             !muon);
            else add_dense(&list, tensor);
        }
    return list;
}

struct plan_range span_range(struct plan *plan, const struct params *params,
                             enum params_class which, const struct span *span)
{
    static const char *const name[PARAMS_CLASSES] = {"compute copies", "masters", "gradients", "m",
                                                     "v", "codes", "averages"};
    const uint64_t size = dtype_bytes(params_dtype(params, which));
    const uint64_t begin = params_offset(which, span->tensor) + span->begin - span->tensor->offset;
    return plan_external(plan, name[which], params->buffer[which][span->segment], begin * size,
                         (span->end - span->begin) * size);
}

// ---- which experts move

static struct plan_range moves_range(struct plan *plan, const struct params *params)
{
    return plan_external(plan, "moves", params->moves, 0, params->moves->params.bytes);
}

void network_touch(struct network *n, int32_t layer)
{
    const struct params *params = n->params;
    if (!params->moves) return;
    const uint64_t row = 4ull * params->moves_stride;
    const uint32_t owner = config_layer_owner(n->config, (uint32_t)layer);
    const struct push_count push = {n->config->num_experts};
    plan_add(n->plan, KERNEL_EXPERT_TOUCH, 0, &push,
             PLAN_BIND(n->layer[layer].offsets,
                       plan_slice(moves_range(n->plan, params),
                                  row * model_moe_index(n->model, owner), row)));
}

static void move_steps(struct plan *plan, const struct params *params, const struct network_io *io)
{
    if (!params->moves) return;
    const struct push_expert_steps push = {
        .count = params->moves_stride * params->moves_layers,
        .global = params->model->config.expert_optimizer == CONFIG_LAZY_GLOBAL};
    plan_section(plan, "experts");
    plan_add(plan, KERNEL_EXPERT_STEPS, 0, &push,
             PLAN_BIND(io->step, io->norm,
                       plan_external(plan, "steps of experts", params->expert_steps, 0,
                                     params->expert_steps->params.bytes),
                       moves_range(plan, params)));
}

// ---- zero, norm, update

void network_zero(struct plan *plan, struct params *params, const struct network_io *io)
{
    plan_section(plan, "zero");
    plan_fill(plan, io->loss, 0);
    plan_fill(plan, io->stats, 0);
    if (params->moves) plan_fill(plan, moves_range(plan, params), 0);
    if (params->experts) network_stream_zero(plan, params);
    for (uint32_t s = 0; s < params->model->segment_count; s++) {
        struct gpu_buffer *buffer = params->buffer[PARAMS_GRAD][s];
        plan_fill(plan, plan_external(plan, "gradients", buffer, 0, buffer->params.bytes), 0);
    }
}

// Where the partial sums of the stacks of experts begin, of tensor `until` (NULL: where they end):
// each matrix has its own, in this order, whether it lies in the flat space or in a slot.
static uint32_t stack_place(const struct model *model, uint32_t begin,
                            const struct model_tensor *until)
{
    uint32_t at = begin;
    for (uint32_t g = 0; g < model->group_count; g++)
        for (uint32_t i = 0; model->group[g].by_expert && i < model->tensor_count; i++) {
            const struct model_tensor *t = &model->tensor[i];
            if (t->ruled || t->group != g) continue;
            if (t == until) return at;
            at += t->experts * ceil_div(t->rows * t->cols, NORM_BLOCK);
        }
    return at;
}

static void dense_norms(struct plan *plan, const struct params *params,
                        const struct span_list *spans, struct plan_range partial)
{
    uint32_t index = 0;
    for (uint32_t i = 0; i < spans->count; i++) {
        const struct span *span = &spans->span[i];
        const struct push_sum push = {.count = (uint32_t)(span->end - span->begin),
                                      .index = index,
                                      .block = NORM_BLOCK};
        plan_add(plan, KERNEL_GRAD_NORM, 0, &push,
                 PLAN_BIND(span_range(plan, params, PARAMS_GRAD, span), partial));
        index += ceil_div(push.count, NORM_BLOCK);
    }
}

static void stack_norms(struct plan *plan, const struct params *params, uint32_t begin,
                        struct plan_range partial)
{
    const struct model *model = params->model;
    const struct span_list spans = spans_of(plan, params, true);
    for (uint32_t i = 0; i < spans.count; i++) {
        const struct span *span = &spans.span[i];
        if (!model->group[span->group].by_expert) continue;
        const uint32_t count = (uint32_t)(span->tensor->space / span->tensor->experts);
        const struct push_expert_norm push = {
            .count = count,
            .block = NORM_BLOCK,
            .matrices = (uint32_t)((span->end - span->begin) / count),
            .index = stack_place(model, begin, span->tensor) +
                     span->first * ceil_div(count, NORM_BLOCK)};
        const struct plan_range grad = span_range(plan, params, PARAMS_GRAD, span);
        plan_add(plan, KERNEL_EXPERT_NORM, 0, &push, PLAN_BIND(grad, grad, partial));
    }
}

static uint32_t dense_partials(struct plan *plan, const struct params *params)
{
    const struct span_list spans = spans_of(plan, params, false);
    uint32_t count = 0;
    for (uint32_t i = 0; i < spans.count; i++)
        count += (uint32_t)((spans.span[i].end - spans.span[i].begin + NORM_BLOCK - 1) /
                            NORM_BLOCK);
    return count;
}

struct plan_range network_squares(struct plan *plan, const struct params *params)
{
    const uint32_t dense = dense_partials(plan, params),
                   count = stack_place(params->model, dense, NULL);
    if (!params->experts) return plan_temp(plan, 4ull * count, "squares");
    for (uint32_t i = 0; i < params->model->tensor_count; i++) {
        const struct model_tensor *t = &params->model->tensor[i];
        if (t->streamed)
            experts_norm_place(params->experts, t, stack_place(params->model, dense, t),
                               NORM_BLOCK);
    }
    return experts_squares(params->experts, plan, count);
}

static void norm_steps(struct plan *plan, struct params *params, const struct network_io *io)
{
    const struct span_list spans = spans_of(plan, params, false);
    const struct plan_range partial = network_squares(plan, params);
    dense_norms(plan, params, &spans, partial);
    stack_norms(plan, params, dense_partials(plan, params), partial);
    plan_add(plan, KERNEL_GRAD_CLIP, 0, &(struct push_sum){.count = (uint32_t)(partial.bytes / 4)},
             PLAN_BIND(io->step, partial, io->norm));
}

struct plan_range span_moves(struct plan *plan, const struct params *params,
                             const struct network_io *io, const struct span *span)
{
    return params->model->group[span->group].by_expert ? moves_range(plan, params) : io->norm;
}

struct push_optimizer span_push(const struct params *params, const struct span *span)
{
    const struct config *c = &params->model->config;
    const struct model_group *group = &params->model->group[span->group];
    struct push_optimizer push = {
        .count = (uint32_t)(span->end - span->begin),
        .matrices = 1,
        .copy = c->master_weights && params->buffer[PARAMS_COMPUTE],
        .nesterov = group->nesterov,
        .rate = (float)group->rate,
        .weight_decay = (float)group->weight_decay,
        .beta1 = (float)group->beta1,
        .beta2 = (float)group->beta2,
        .eps = (float)c->adam_epsilon,
        .log_beta1 = kernel_log_beta(group->beta1),
        .log_beta2 = kernel_log_beta(group->beta2),
    };
    if (!span->matrices) return push;
    push.count = (uint32_t)span->count;
    push.matrices = span->matrices;
    if (!group->by_expert) return push;
    push.experts = c->num_experts;
    push.per_layer = span->stacks * c->num_experts;
    push.stride = params->moves_stride;
    push.first = span->layer * push.per_layer + span->first;
    return push;
}

// Its first block of random numbers.
static uint32_t span_draw(const struct span *span)
{
    const uint64_t before = span->matrices
                                ? span->first * (align_up(span->count, DRAW_ELEMENTS) /
                                                 DRAW_ELEMENTS)
                                : (span->begin - span->tensor->offset) / DRAW_ELEMENTS;
    return (uint32_t)(span->tensor->draw + before);
}

static void adamw_steps(struct plan *plan, struct params *params, const struct network_io *io,
                        const struct span *span)
{
    const struct push_optimizer push = span_push(params, span);
    const struct plan_range p = span_range(plan, params, PARAMS_MASTER, span);
    plan_add(plan, KERNEL_ADAMW, 0, &push,
             PLAN_BIND(io->step, io->norm, p, span_range(plan, params, PARAMS_GRAD, span),
                       span_range(plan, params, PARAMS_M, span),
                       span_range(plan, params, PARAMS_V, span),
                       push.copy ? span_range(plan, params, PARAMS_COMPUTE, span) : p,
                       span_moves(plan, params, io, span)));
}

// A record is no multiple of what the offset of a binding must be: bound from one that is.
static struct plan_range records_range(struct plan *plan, const struct params *params,
                                       const struct span *span, uint32_t *first)
{
    enum { ALIGNED = 16, BYTES = 4 * CODES_WORDS }; // 16 records are 33 times 256 bytes
    const uint64_t each = align_up(span->count, CODES_ELEMENTS) / CODES_ELEMENTS;
    const uint64_t at = span->matrices
                            ? span->first * each
                            : (span->begin - span->tensor->offset) / CODES_ELEMENTS;
    const uint64_t begin = span->tensor->record + at, from = begin / ALIGNED * ALIGNED;
    const uint64_t count = span->matrices ? span->matrices * each
                                          : align_up(span->end - span->begin, CODES_ELEMENTS) /
                                                CODES_ELEMENTS;
    *first = (uint32_t)(begin - from);
    return plan_external(plan, "codes", params->buffer[PARAMS_RECORDS][span->segment],
                         BYTES * from, BYTES * (*first + count));
}

static void adamw_8bit_steps(struct plan *plan, struct params *params, const struct network_io *io,
                             const struct span *span)
{
    struct push_adamw_8bit push = {.each = span_push(params, span)};
    const struct plan_range p = span_range(plan, params, PARAMS_MASTER, span),
                            records = records_range(plan, params, span, &push.record);
    plan_add(plan, KERNEL_ADAMW_8BIT, 0, &push,
             PLAN_BIND(io->step, io->norm, p, span_range(plan, params, PARAMS_GRAD, span), records,
                       push.each.copy ? span_range(plan, params, PARAMS_COMPUTE, span) : p,
                       span_moves(plan, params, io, span)));
}

// Without masters.
static void stochastic_steps(struct plan *plan, struct params *params,
                             const struct network_io *io, const struct span *span)
{
    const struct plan_range p = span_range(plan, params, PARAMS_COMPUTE, span),
                            g = span_range(plan, params, PARAMS_GRAD, span),
                            moves = span_moves(plan, params, io, span);
    struct push_adamw_stochastic push = {
        .each = span_push(params, span),
        .draw = span_draw(span),
        .nearest = !params->model->config.stochastic_rounding};
    if (params->model->group[span->group].optim == CONFIG_ADAMW_8BIT) {
        const struct plan_range records = records_range(plan, params, span, &push.record);
        plan_add(plan, KERNEL_ADAMW_8BIT_STOCHASTIC, 0, &push,
                 PLAN_BIND(io->step, io->norm, p, g, records, moves, moves));
    } else
        plan_add(plan, KERNEL_ADAMW_STOCHASTIC, 0, &push,
                 PLAN_BIND(io->step, io->norm, p, g, span_range(plan, params, PARAMS_M, span),
                           span_range(plan, params, PARAMS_V, span), moves, moves));
}

// Every weight, whether it moved or not.
static void average_steps(struct plan *plan, struct params *params, const struct network_io *io)
{
    const struct model *model = params->model;
    const uint64_t limit = params->gpu->caps.max_range / 4 / NORM_BLOCK * NORM_BLOCK;
    if (!params->buffer[PARAMS_AVERAGE]) return;
    plan_section(plan, "average");
    for (uint32_t s = 0; s < model->segment_count; s++)
        for (uint64_t at = 0; at < model->segment_elements[s]; at += limit) {
            const struct push_count push = {
                (uint32_t)min_u64(limit, model->segment_elements[s] - at)};
            plan_add(plan, KERNEL_AVERAGE, 0, &push,
                     PLAN_BIND(io->step,
                               plan_external(plan, "masters", params->buffer[PARAMS_MASTER][s],
                                             4 * at, 4ull * push.count),
                               plan_external(plan, "averages", params->buffer[PARAMS_AVERAGE][s],
                                             4 * at, 4ull * push.count)));
        }
}

static void sgd_steps(struct plan *plan, struct params *params, const struct network_io *io,
                      const struct span *span)
{
    const struct push_optimizer push = span_push(params, span);
    const struct plan_range p = span_range(plan, params, PARAMS_MASTER, span);
    plan_add(plan, KERNEL_SGD, 0, &push,
             PLAN_BIND(io->step, io->norm, p, span_range(plan, params, PARAMS_GRAD, span),
                       span_range(plan, params, PARAMS_M, span),
                       push.copy ? span_range(plan, params, PARAMS_COMPUTE, span) : p,
                       span_moves(plan, params, io, span)));
}

static void span_steps(struct plan *plan, struct params *params, const struct network_io *io,
                       const struct span *span)
{
    if (!params->model->config.master_weights) {
        stochastic_steps(plan, params, io, span); // optimizers that have no such step are refused
        return;
    }
    switch (params->model->group[span->group].optim) {
    case CONFIG_ADAMW: adamw_steps(plan, params, io, span); return;
    case CONFIG_ADAMW_8BIT: adamw_8bit_steps(plan, params, io, span); return;
    case CONFIG_MUON: muon_steps(plan, params, io, span); return;
    case CONFIG_SGD: sgd_steps(plan, params, io, span); return;
    }
}

void network_update(struct plan *plan, struct params *params, const struct network_io *io)
{
    plan_section(plan, "norm");
    norm_steps(plan, params, io);
    move_steps(plan, params, io);
    plan_section(plan, "optimizer");
    const struct span_list spans = spans_of(plan, params, true);
    for (uint32_t i = 0; i < spans.count; i++) span_steps(plan, params, io, &spans.span[i]);
    if (params->experts) network_stream_update(plan, params, io);
    network_route_update(plan, params, io);
    average_steps(plan, params, io);
}
