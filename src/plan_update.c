// SPDX-License-Identifier: MIT
// The optimizer step as steps: the gradient norm (one reduction), the clip factor, AdamW with the
// cast to the compute copy. Neighbouring tensors with the same decay share a dispatch: a span of
// the flat space.
#include "src/base.h"
#include "src/plan_model.h"

enum { NORM_BLOCK = 1 << 14 }; // elements a partial sum covers

struct span { uint32_t segment; uint64_t begin, end; bool decay; };

// Spans of the flat space in order (src/model.c: what decays comes first): never across segments,
// decay groups, or what one binding may cover.
static uint32_t spans_of(const struct params *params, bool split_decay, struct span *spans)
{
    const struct model *model = params->model;
    const uint64_t limit = params->gpu->caps.max_range / 4 / NORM_BLOCK * NORM_BLOCK;
    uint32_t count = 0;
    for (uint32_t t = 0; t < 2 * model->tensor_count; t++) {
        const struct model_tensor *tensor = &model->tensor[t % model->tensor_count];
        if (tensor->ruled || tensor->decay != (t < model->tensor_count)) continue;
        const uint64_t end = tensor->offset + align_up(tensor->count, MODEL_ALIGN);
        struct span *last = count ? &spans[count - 1] : NULL;
        const bool joins =
            last && last->segment == tensor->segment && last->end == tensor->offset &&
            (!split_decay || last->decay == tensor->decay) && end - last->begin <= limit;
        if (joins) {
            last->end = end;
            continue;
        }
        for (uint64_t at = tensor->offset; at < end; at += limit)
            spans[count++] =
                (struct span){tensor->segment, at, min_u64(at + limit, end), tensor->decay};
    }
    return count;
}

static uint32_t span_limit(const struct params *params)
{
    const uint64_t limit = params->gpu->caps.max_range / 4 / NORM_BLOCK * NORM_BLOCK;
    return params->model->tensor_count + (uint32_t)(params->model->parameters / limit) +
           params->model->segment_count + 1;
}

static struct plan_range span_range(struct plan *plan, const struct params *params,
                                    enum params_class which, const struct span *span)
{
    static const char *const name[PARAMS_CLASSES] = {"compute copies", "masters", "gradients", "m",
                                                     "v"};
    const uint64_t size = dtype_bytes(params_dtype(params, which));
    return plan_external(plan, name[which], params->buffer[which][span->segment],
                         span->begin * size, (span->end - span->begin) * size);
}

void network_zero(struct plan *plan, struct params *params, const struct network_io *io)
{
    plan_section(plan, "zero");
    plan_fill(plan, io->loss, 0);
    plan_fill(plan, io->stats, 0);
    for (uint32_t s = 0; s < params->model->segment_count; s++) {
        struct gpu_buffer *buffer = params->buffer[PARAMS_GRAD][s];
        plan_fill(plan, plan_external(plan, "gradients", buffer, 0, buffer->params.bytes), 0);
    }
}

static void norm_steps(struct plan *plan, struct params *params, const struct network_io *io,
                       struct span *spans)
{
    const uint32_t count = spans_of(params, false, spans);
    uint32_t partials = 0;
    for (uint32_t i = 0; i < count; i++)
        partials += (uint32_t)((spans[i].end - spans[i].begin + NORM_BLOCK - 1) / NORM_BLOCK);
    const struct plan_range partial = plan_temp(plan, 4ull * partials, "squares");
    uint32_t index = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct push_sum push = {.count = (uint32_t)(spans[i].end - spans[i].begin),
                                      .index = index,
                                      .block = NORM_BLOCK};
        plan_add(plan, KERNEL_GRAD_NORM, 0, &push,
                 PLAN_BIND(span_range(plan, params, PARAMS_GRAD, &spans[i]), partial));
        index += ceil_div(push.count, NORM_BLOCK);
    }
    const struct push_sum push = {.count = partials};
    plan_add(plan, KERNEL_GRAD_CLIP, 0, &push, PLAN_BIND(io->step, partial, io->norm));
}

void network_update(struct plan *plan, struct params *params, const struct network_io *io)
{
    const struct config *c = &params->model->config;
    struct span *spans = arena_array(plan->arena, span_limit(params), sizeof *spans);
    plan_section(plan, "norm");
    norm_steps(plan, params, io, spans);
    plan_section(plan, "adamw");
    const uint32_t count = spans_of(params, true, spans);
    const bool copy = params->buffer[PARAMS_COMPUTE] != NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct push_adamw push = {
            .count = (uint32_t)(spans[i].end - spans[i].begin),
            .copy = copy,
            .beta1 = (float)c->adam_beta1,
            .beta2 = (float)c->adam_beta2,
            .eps = (float)c->adam_epsilon,
            .weight_decay = spans[i].decay ? (float)c->weight_decay : 0,
        };
        const struct plan_range p = span_range(plan, params, PARAMS_MASTER, &spans[i]);
        plan_add(plan, KERNEL_ADAMW, 0, &push,
                 PLAN_BIND(io->step, io->norm, p, span_range(plan, params, PARAMS_GRAD, &spans[i]),
                           span_range(plan, params, PARAMS_M, &spans[i]),
                           span_range(plan, params, PARAMS_V, &spans[i]),
                           copy ? span_range(plan, params, PARAMS_COMPUTE, &spans[i]) : p));
    }
    network_route_update(plan, params, io);
}
