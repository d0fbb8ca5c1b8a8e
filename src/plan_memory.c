// SPDX-License-Identifier: MIT
// Lifetimes -> offsets in arenas; read and written ranges -> barriers. Both can be verified by an
// independent, slower look at the finished plan.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/base.h"
#include "src/plan.h"

enum { TEMP_ALIGN = 256 };

// ---- lives: a stretch that may be repeated finds all that it reads as it was, so nothing else may
// lie there before it ends for good

static void extend_lives(struct plan *plan)
{
    for (uint32_t s = 0; s < plan->stretch_count; s++) {
        const struct plan_stretch *stretch = &plan->stretch[s];
        for (uint32_t i = 0; stretch->visit && i < plan->tensor_count; i++) {
            struct plan_tensor *tensor = &plan->tensor[i];
            if (tensor->first >= stretch->end || tensor->last < stretch->begin) continue;
            tensor->first = min_u32(tensor->first, stretch->begin);
            tensor->last = max_u32(tensor->last, stretch->end - 1);
        }
    }
}

// ---- offsets: largest first, each at the lowest place free for its whole lifetime

struct placed { uint32_t tensor; uint32_t bin; uint64_t begin, end; };

struct placement {
    const struct plan *plan;
    struct placed     *placed; // sorted by (bin, begin)
    uint32_t           count, bin_count;
    uint64_t           bin_bytes[64];
};

static bool lives_overlap(const struct plan_tensor *a, const struct plan_tensor *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static uint64_t lowest_offset(const struct placement *p, uint32_t tensor, uint32_t bin)
{
    const struct plan_tensor *own = &p->plan->tensor[tensor];
    const uint64_t bytes = align_up(own->bytes, TEMP_ALIGN);
    uint64_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct placed *other = &p->placed[i];
        if (other->bin != bin || !lives_overlap(own, &p->plan->tensor[other->tensor])) continue;
        if (other->begin >= at + bytes) break; // sorted: the gap before it is large enough
        at = max_u64(at, other->end);
    }
    return at;
}

static void insert(struct placement *p, struct placed placed)
{
    uint32_t i = p->count++;
    while (i > 0 &&
           (p->placed[i - 1].bin > placed.bin ||
            (p->placed[i - 1].bin == placed.bin && p->placed[i - 1].begin > placed.begin))) {
        p->placed[i] = p->placed[i - 1];
        i--;
    }
    p->placed[i] = placed;
}

static bool place(struct placement *p, uint32_t tensor, uint64_t limit)
{
    const uint64_t bytes = align_up(p->plan->tensor[tensor].bytes, TEMP_ALIGN);
    for (uint32_t bin = 0; bin < COUNT_OF(p->bin_bytes) && bytes <= limit; bin++) {
        const uint64_t at = lowest_offset(p, tensor, bin);
        if (at + bytes > limit) continue;
        insert(p, (struct placed){tensor, bin, at, at + bytes});
        p->bin_bytes[bin] = max_u64(p->bin_bytes[bin], at + bytes);
        p->bin_count = max_u32(p->bin_count, bin + 1);
        return true;
    }
    log_error("plan %s: temporary %s of %llu bytes does not fit a device allocation of %llu; use a "
              "smaller batch",
              p->plan->name, p->plan->tensor[tensor].name, (unsigned long long)bytes,
              (unsigned long long)limit);
    return false;
}

static int by_size(const void *a, const void *b, void *user)
{
    const struct plan *plan = user;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const uint64_t bx = plan->tensor[x].bytes, by = plan->tensor[y].bytes;
    return bx != by ? (bx < by ? 1 : -1) : (x > y) - (x < y);
}

static bool make_arenas(struct plan *plan, const struct placement *p)
{
    plan->arena_buffer =
        arena_array(plan->arena, max_u32(p->bin_count, 1), sizeof *plan->arena_buffer);
    for (uint32_t bin = 0; bin < p->bin_count; bin++) {
        plan->arena_buffer[bin] =
            gpu_buffer_create(plan->gpu,
                              &(struct gpu_buffer_params){.name = arena_printf(plan->arena,
                                                                               "activations of %s",
                                                                               plan->name),
                                                          .bytes = p->bin_bytes[bin]});
        if (!plan->arena_buffer[bin]) return false;
        plan->arena_count++;
        plan->arena_bytes += p->bin_bytes[bin];
    }
    for (uint32_t i = 0; i < p->count; i++) {
        struct plan_tensor *tensor = &plan->tensor[p->placed[i].tensor];
        tensor->buffer = plan->arena_buffer[p->placed[i].bin];
        tensor->offset = p->placed[i].begin;
    }
    return true;
}

static bool assign_memory(struct plan *plan)
{
    uint32_t *order = calloc(plan->tensor_count + 1, sizeof *order);
    struct placement p = {.plan = plan, .placed = calloc(plan->tensor_count + 1, sizeof *p.placed)};
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->tensor_count; i++)
        if (!plan->tensor[i].external && plan->tensor[i].first <= plan->tensor[i].last)
            order[count++] = i;
    qsort_r(order, count, sizeof *order, by_size, plan);
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++)
        ok = place(&p, order[i], plan->gpu->caps.max_allocation);
    ok = ok && make_arenas(plan, &p);
    free(order);
    free(p.placed);
    return ok;
}

// ---- barriers: a step waits when it touches what an earlier step since the last barrier wrote, or
// writes what one read

struct touch { const struct gpu_buffer *buffer; uint64_t begin, end; bool write; };

static uint32_t touches_of(const struct plan *plan, const struct plan_step *step, struct touch *out)
{
    uint32_t count = 0;
    for (uint32_t b = 0; b < step->bind_count; b++) {
        const struct plan_range *range = &step->bind[b];
        const struct plan_tensor *tensor = &plan->tensor[range->tensor - 1];
        bool write = b == 1 || step->kind == PLAN_FILL; // copies write their second range
        if (step->kind == PLAN_DISPATCH) write = kernel_info(step->op)->access[b] != 'r';
        const uint64_t begin = tensor->offset + range->offset;
        out[count++] = (struct touch){tensor->buffer, begin, begin + range->bytes, write};
    }
    if (step->indirect.tensor) {
        const struct plan_tensor *tensor = &plan->tensor[step->indirect.tensor - 1];
        const uint64_t begin = tensor->offset + step->indirect.offset;
        out[count++] = (struct touch){tensor->buffer, begin, begin + step->indirect.bytes, false};
    }
    return count;
}

static bool conflict(const struct touch *a, const struct touch *b)
{
    return (a->write || b->write) && a->buffer == b->buffer && a->begin < b->end &&
           b->begin < a->end;
}

static bool any_conflict(const struct touch *a, uint32_t a_count, const struct touch *b,
                         uint32_t b_count)
{
    for (uint32_t i = 0; i < a_count; i++)
        for (uint32_t j = 0; j < b_count; j++)
            if (conflict(&a[i], &b[j])) return true;
    return false;
}

enum { OPEN_MAX = 512 };

static void assign_barriers(struct plan *plan)
{
    struct touch open[OPEN_MAX], own[GPU_MAX_BINDINGS + 1];
    uint32_t open_count = 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct plan_step *step = &plan->step[i];
        const uint32_t own_count = touches_of(plan, step, own);
        step->barrier =
            any_conflict(open, open_count, own, own_count) || open_count + own_count > OPEN_MAX;
        if (step->barrier) open_count = 0;
        memcpy(open + open_count, own, own_count * sizeof *own);
        open_count += own_count;
    }
}

bool plan_finish(struct plan *plan)
{
    if (plan->failed) return false;
    extend_lives(plan);
    if (!assign_memory(plan)) return false;
    assign_barriers(plan);
    return true;
}

// ---- verification

static bool verify_memory(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->tensor_count; i++)
        for (uint32_t j = 0; j < i; j++) {
            const struct plan_tensor *a = &plan->tensor[i], *b = &plan->tensor[j];
            if (a->external || b->external || a->first > a->last || b->first > b->last) continue;
            if (a->buffer != b->buffer || !lives_overlap(a, b)) continue;
            if (a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes) {
                log_error("plan %s: %s and %s live together in the same memory", plan->name,
                          a->name, b->name);
                return false;
            }
        }
    return true;
}

bool plan_verify(const struct plan *plan)
{
    if (!verify_memory(plan)) return false;
    struct touch a[GPU_MAX_BINDINGS + 1], b[GPU_MAX_BINDINGS + 1];
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const uint32_t a_count = touches_of(plan, &plan->step[i], a);
        for (uint32_t j = i; j-- > 0 && !plan->step[j + 1].barrier;) {
            const uint32_t b_count = touches_of(plan, &plan->step[j], b);
            if (!any_conflict(a, a_count, b, b_count)) continue;
            log_error("plan %s: steps %u and %u conflict without a barrier", plan->name, j, i);
            return false;
        }
    }
    return true;
}
