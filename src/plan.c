// SPDX-License-Identifier: MIT
// Building a plan: tensors and steps into growing lists. Memory and barriers are plan_memory.c's.
#include "src/plan.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/base.h"

struct plan *plan_create(struct gpu *gpu, struct kernels *kernels, const char *name,
                         enum dtype store)
{
    struct arena *arena = arena_create("plan");
    struct plan *plan = arena_alloc(arena, sizeof *plan);
    *plan = (struct plan){.name = arena_strdup(arena, name),
                          .gpu = gpu,
                          .kernels = kernels,
                          .store = store,
                          .section = "",
                          .arena = arena};
    plan_host(plan, NULL, NULL, 0);
    return plan;
}

void plan_destroy(struct plan **plan)
{
    if (!*plan) return;
    struct plan *p = *plan;
    for (uint32_t i = 0; i < p->arena_count; i++) gpu_buffer_destroy(p->gpu, &p->arena_buffer[i]);
    free(p->tensor);
    free(p->step);
    free(p->stretch);
    struct arena *arena = p->arena;
    arena_destroy(&arena);
    *plan = NULL;
}

static char *format_text(struct plan *plan, const char *format, va_list args)
{
    char text[128];
    vsnprintf(text, sizeof text, format, args);
    return arena_strdup(plan->arena, text);
}

void plan_section(struct plan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    plan->section = format_text(plan, format, args);
    va_end(args);
}

static void *grow(void *list, uint32_t count, uint32_t *capacity, size_t bytes)
{
    if (count < *capacity) return list;
    *capacity = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(list, *capacity * bytes);
    if (!grown) abort();
    return grown;
}

void plan_host(struct plan *plan, plan_visit_fn *visit, void *user, uint32_t id)
{
    plan->stretch =
        grow(plan->stretch, plan->stretch_count, &plan->stretch_capacity, sizeof *plan->stretch);
    plan->stretch[plan->stretch_count++] = (struct plan_stretch){
        .begin = plan->step_count, .end = plan->step_count, .visit = visit, .user = user, .id = id};
}

static struct plan_range add_tensor(struct plan *plan, struct plan_tensor tensor)
{
    plan->tensor =
        grow(plan->tensor, plan->tensor_count, &plan->tensor_capacity, sizeof *plan->tensor);
    tensor.first = UINT32_MAX;
    plan->tensor[plan->tensor_count++] = tensor;
    return (struct plan_range){.tensor = plan->tensor_count, .bytes = tensor.bytes};
}

struct plan_range plan_temp(struct plan *plan, uint64_t bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *name = format_text(plan, format, args);
    va_end(args);
    bytes = align_up(max_u64(bytes, 4), 4);
    plan->temp_bytes += bytes;
    return add_tensor(plan, (struct plan_tensor){.name = name, .bytes = bytes});
}

struct plan_range plan_external(struct plan *plan, const char *name, struct gpu_buffer *buffer,
                                uint64_t offset, uint64_t bytes)
{
    return add_tensor(plan, (struct plan_tensor){.name = arena_strdup(plan->arena, name),
                                                 .bytes = bytes,
                                                 .buffer = buffer,
                                                 .offset = offset,
                                                 .external = true});
}

struct plan_range plan_slice(struct plan_range range, uint64_t offset, uint64_t bytes)
{
    return (struct plan_range){range.tensor, range.offset + offset, bytes};
}

static struct plan_step *add_step(struct plan *plan, enum plan_kind kind)
{
    plan->step = grow(plan->step, plan->step_count, &plan->step_capacity, sizeof *plan->step);
    struct plan_step *step = &plan->step[plan->step_count++];
    *step = (struct plan_step){.kind = kind, .section = plan->section};
    plan->stretch[plan->stretch_count - 1].end = plan->step_count;
    return step;
}

static void bind(struct plan *plan, struct plan_step *step, struct plan_range range)
{
    const uint32_t index = (uint32_t)(step - plan->step);
    step->bind[step->bind_count++] = range;
    if (!range.tensor) return;
    struct plan_tensor *tensor = &plan->tensor[range.tensor - 1];
    tensor->first = min_u32(tensor->first, index);
    tensor->last = max_u32(tensor->last, index);
}

static void check_ranges(struct plan *plan, const struct plan_step *step)
{
    const struct gpu_caps *caps = &plan->gpu->caps;
    for (uint32_t b = 0; b < step->bind_count; b++) {
        const struct plan_range *range = &step->bind[b];
        const struct plan_tensor *tensor = range->tensor ? &plan->tensor[range->tensor - 1] : NULL;
        if (!tensor || range->offset + range->bytes > tensor->bytes) {
            log_error("plan %s: %s: binding %u is outside its tensor %s (a fault of this program)",
                      plan->name, step->section, b, tensor ? tensor->name : "(none)");
            plan->failed = true;
        } else if (range->bytes > caps->max_range) {
            log_error("plan %s: %s: %s needs %llu bytes in one binding, device %s allows %llu; use "
                      "a smaller batch, "
                      "a 16-bit torch_dtype or another device",
                      plan->name, step->section, tensor->name, (unsigned long long)range->bytes,
                      caps->name, (unsigned long long)caps->max_range);
            plan->failed = true;
        }
    }
}

void plan_add_indirect(struct plan *plan, enum kernel_op op, uint32_t rows, const void *push,
                       const struct plan_range *binds, uint32_t bind_count,
                       struct plan_range indirect)
{
    if (plan->failed) return;
    const struct kernel_info *info = kernel_info(op);
    struct plan_step *step = add_step(plan, PLAN_DISPATCH);
    step->op = op;
    const struct kernel_size size = kernel_size_of(op, rows, push);
    step->kernel = kernels_get(plan->kernels, op, plan->store, &size);
    if (!step->kernel) {
        plan->failed = true;
        return;
    }
    if (strlen(info->access) != bind_count) {
        log_error("plan %s: %s has %zu bindings, %u given (a fault of this program)", plan->name,
                  info->name, strlen(info->access), bind_count);
        plan->failed = true;
        return;
    }
    memcpy(step->push, push, info->push_bytes);
    kernels_note(plan->kernels, op, plan->store, &size, info->flops(push));
    for (uint32_t b = 0; b < bind_count; b++) bind(plan, step, binds[b]);
    check_ranges(plan, step);
    step->indirect = indirect;
    if (indirect.tensor) {
        struct plan_tensor *tensor = &plan->tensor[indirect.tensor - 1];
        tensor->last = plan->step_count - 1;
    } else {
        info->groups(push, &step->kernel->shape, step->groups);
    }
}

void plan_add(struct plan *plan, enum kernel_op op, uint32_t rows, const void *push,
              const struct plan_range *binds, uint32_t bind_count)
{
    plan_add_indirect(plan, op, rows, push, binds, bind_count, (struct plan_range){0});
}

void plan_fill(struct plan *plan, struct plan_range range, uint32_t word)
{
    if (plan->failed) return;
    struct plan_step *step = add_step(plan, PLAN_FILL);
    bind(plan, step, range);
    memcpy(step->push, &word, sizeof word);
}

void plan_copy(struct plan *plan, struct plan_range from, struct plan_range to)
{
    if (plan->failed) return;
    struct plan_step *step = add_step(plan, PLAN_COPY);
    bind(plan, step, from);
    bind(plan, step, to);
}

const char *plan_step_name(const struct plan_step *step)
{
    switch (step->kind) {
    case PLAN_DISPATCH: return step->kernel->name;
    case PLAN_FILL: return "fill";
    case PLAN_COPY: return "copy";
    }
    return "";
}

struct gpu_bind plan_bind(const struct plan *plan, const struct plan_range *range)
{
    const struct plan_tensor *tensor = &plan->tensor[range->tensor - 1];
    return (struct gpu_bind){tensor->buffer, tensor->offset + range->offset, range->bytes};
}

void plan_step_cost(const struct plan *plan, const struct plan_step *step, double *flops,
                    double *bytes)
{
    const struct kernel_info *info = kernel_info(step->op);
    const bool dispatch = step->kind == PLAN_DISPATCH;
    *flops = dispatch ? info->flops(step->push) : 0;
    *bytes = dispatch ? info->bytes(step->push, (uint32_t)dtype_bytes(plan->store))
                      : (double)step->bind[0].bytes * (step->kind == PLAN_COPY ? 2 : 1);
}

double plan_flops(const struct plan *plan)
{
    double flops = 0;
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->step[i].kind == PLAN_DISPATCH)
            flops += kernel_info(plan->step[i].op)->flops(plan->step[i].push);
    return flops;
}
