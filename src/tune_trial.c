// SPDX-License-Identifier: MIT
// Kernels with inputs, recorded and timed (tune_trial.h). Each part has a buffer of its own; split
// sums read what the matmul before them wrote.
#include "src/tune_trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/base.h"
#include "src/kernel_case.h"

enum { DISPATCHES = 2, MOST_COMPARED = 1 << 20, MOST_PAIRS = 32 };

// One dispatch: a case in a buffer of its own.
struct bound {
    struct kernel_case  c;
    struct gpu_buffer  *buffer;
    uint64_t            offset[GPU_MAX_BINDINGS];
    struct gpu_dispatch dispatch;
};

struct part {
    struct bound bound[DISPATCHES]; // a kernel, and the sum behind it
    uint32_t     count;
};

struct trial {
    struct gpu          *gpu;
    struct arena        *arena;
    struct part          part[TRIAL_MAX_PARTS];
    uint32_t             part_count, repeats, runs;
    struct gpu_commands *commands;
    trial_pretend       *pretend;
    void                *user;
};

// ---- making

static uint32_t bindings_of(const struct kernel_case *c)
{
    return (uint32_t)strlen(kernel_info(c->kernel->op)->access);
}

static bool bound_make(struct trial *t, struct bound *b, const struct kernel *kernel,
                       const struct kernel_size *size, uint32_t parts)
{
    b->c = (struct kernel_case){.kernel = kernel, .arena = t->arena, .size = *size, .parts = parts};
    kernel_case_fill(&b->c);
    const uint64_t bytes = kernel_case_layout(&b->c, t->gpu->caps.offset_alignment, b->offset);
    b->buffer = gpu_buffer_create(
        t->gpu, &(struct gpu_buffer_params){"tune", bytes, GPU_MEMORY_DEVICE});
    if (!b->buffer) return false;
    for (uint32_t i = 0; i < bindings_of(&b->c); i++)
        if (!gpu_buffer_write(t->gpu, b->buffer, b->offset[i], b->c.binding[i].data,
                              b->c.binding[i].bytes))
            return false;
    b->dispatch = kernel_case_dispatch(&b->c, b->buffer, b->offset);
    return true;
}

static bool part_make(struct trial *t, struct part *part, const struct trial_part *what)
{
    enum { PARTIAL_OF_MATMUL = 3 };
    const uint32_t parts = what->sum ? what->parts : 0;
    part->count = 1;
    if (!bound_make(t, &part->bound[0], what->kernel, &what->size, parts)) return false;
    if (!what->sum) return true;
    part->count = 2;
    if (!bound_make(t, &part->bound[1], what->sum, &what->size, parts)) return false;
    part->bound[1].dispatch.bind[0] = part->bound[0].dispatch.bind[PARTIAL_OF_MATMUL];
    return true;
}

// What the last dispatch of a part wrote takes the place of the case's poison.
static bool remember(struct trial *t)
{
    for (uint32_t p = 0; p < t->part_count; p++) {
        struct bound *b = &t->part[p].bound[t->part[p].count - 1];
        for (uint32_t i = 0; i < bindings_of(&b->c); i++)
            if (kernel_info(b->c.kernel->op)->access[i] != 'r' &&
                !gpu_buffer_read(t->gpu, b->buffer, b->offset[i], b->c.binding[i].data,
                                 b->c.binding[i].bytes))
                return false;
    }
    return true;
}

struct trial *trial_create(struct gpu *gpu, const struct trial_part *part, uint32_t count)
{
    struct arena *arena = arena_create("tune");
    struct trial *t = arena_alloc(arena, sizeof *t);
    t->gpu = gpu;
    t->arena = arena;
    bool ok = count <= TRIAL_MAX_PARTS;
    for (uint32_t i = 0; ok && i < count; i++, t->part_count++)
        ok = part_make(t, &t->part[i], &part[i]);
    if (!ok || !trial_repeat(t, 1) || !isfinite(trial_run(t)) || !remember(t)) trial_destroy(&t);
    return t;
}

void trial_destroy(struct trial **trial)
{
    struct trial *t = *trial;
    if (!t) return;
    gpu_commands_destroy(t->gpu, &t->commands);
    for (uint32_t p = 0; p < TRIAL_MAX_PARTS; p++)
        for (uint32_t i = 0; i < DISPATCHES; i++)
            gpu_buffer_destroy(t->gpu, &t->part[p].bound[i].buffer);
    struct arena *arena = t->arena;
    arena_destroy(&arena);
    *trial = NULL;
}

void trial_set_pretend(struct trial *t, trial_pretend *pretend, void *user)
{
    t->pretend = pretend;
    t->user = user;
    t->runs = 0;
}

bool trial_repeat(struct trial *t, uint32_t repeats)
{
    if (t->commands && t->repeats == repeats) return true;
    gpu_commands_destroy(t->gpu, &t->commands);
    t->commands = gpu_commands_create(t->gpu, &(struct gpu_commands_params){"tune", 2});
    t->repeats = repeats;
    if (!t->commands) return false;
    gpu_commands_timestamp(t->commands, 0);
    for (uint32_t r = 0; r < repeats; r++)
        for (uint32_t p = 0; p < t->part_count; p++)
            for (uint32_t i = 0; i < t->part[p].count; i++) {
                gpu_commands_dispatch(t->commands, &t->part[p].bound[i].dispatch);
                gpu_commands_barrier(t->commands);
            }
    gpu_commands_timestamp(t->commands, 1);
    return gpu_commands_end(t->commands);
}

// ---- timing

static double pretended(struct trial *t, double ms)
{
    double sum = 0;
    for (uint32_t p = 0; p < t->part_count; p++)
        sum += t->pretend(t->user, t->part[p].bound[0].c.kernel, t->runs, ms);
    t->runs++;
    return sum;
}

double trial_run(struct trial *t)
{
    double at[2];
    const double began = os_seconds();
    const uint64_t ticket = gpu_submit(t->gpu, &t->commands, 1);
    if (!ticket || !gpu_wait(t->gpu, ticket)) return INFINITY;
    double ms = 1e3 * (os_seconds() - began);
    if (gpu_commands_times(t->gpu, t->commands, at)) ms = at[1];
    ms /= t->repeats;
    return t->pretend ? pretended(t, ms) : ms;
}

double trial_flops(const struct trial *t)
{
    double flops = 0;
    for (uint32_t p = 0; p < t->part_count; p++) {
        const struct kernel_case *c = &t->part[p].bound[0].c;
        flops += kernel_info(c->kernel->op)->flops(c->push);
    }
    return flops;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double trial_compare(struct trial *a, struct trial *b, uint32_t pairs, uint32_t *below)
{
    double ratio[MOST_PAIRS];
    *below = 0;
    for (uint32_t i = 0; i < pairs; i++) {
        // in turn first, so that neither always runs behind the other's caches
        const double early = trial_run(i % 2 ? b : a), late = trial_run(i % 2 ? a : b);
        ratio[i] = i % 2 ? early / late : late / early;
        if (!isfinite(early) || !isfinite(late)) return INFINITY;
        *below += ratio[i] < 1;
    }
    qsort(ratio, pairs, sizeof *ratio, by_size);
    return ratio[pairs / 2];
}

// ---- comparing

// Of the normalised mean square error between two that both round.
static double tolerance_of(enum dtype type)
{
    switch (type) {
    case DTYPE_BF16: return 4e-5;
    case DTYPE_F16: return 4e-6;
    default: return 1e-8;
    }
}

static bool same_binding(const struct kernel_case_binding *a, const struct kernel_case_binding *b)
{
    const enum dtype type = (enum dtype)a->type;
    const uint64_t stride = a->count / MOST_COMPARED | 1;
    double error = 0, square = 0;
    if (a->count != b->count || a->type != b->type) return false;
    for (uint64_t i = 0; i < a->count; i += stride) {
        const double x = dtype_load(a->data, i, type), y = dtype_load(b->data, i, type);
        if (isnan(x) && isnan(y)) continue; // poison that neither wrote over
        if (!isfinite(x) || !isfinite(y)) return false;
        error += (x - y) * (x - y);
        square += x * x;
    }
    return (square > 0 ? error / square : error) <= tolerance_of(type);
}

static const struct kernel_case_binding *output_of(const struct part *part, uint32_t index)
{
    const struct kernel_case *c = &part->bound[part->count - 1].c;
    for (uint32_t b = 0; b < bindings_of(c); b++)
        if (kernel_info(c->kernel->op)->access[b] != 'r' && index-- == 0) return &c->binding[b];
    return NULL;
}

bool trial_agree(const struct trial *a, const struct trial *b)
{
    for (uint32_t p = 0; p < a->part_count; p++)
        for (uint32_t i = 0;; i++) {
            const struct kernel_case_binding *x = output_of(&a->part[p], i);
            const struct kernel_case_binding *y = output_of(&b->part[p], i);
            if (!x || !y) break;
            if (!same_binding(x, y)) return false;
        }
    return true;
}
