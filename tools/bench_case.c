// SPDX-License-Identifier: MIT
// A case of the benchmark: buffers filled once, a few steps, one plan that repeats them (bench.h).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"

// What a case may take by estimate, from peaks of which a kernel reaches a tenth and a fifth.
enum { BUDGET_MS = 3000, BUDGET_ASKED_MS = 60000 };

// ---- beginning

static void describe_variant(struct bench_case *c)
{
    const struct bench_case_params *p = &c->params;
    const struct kernel_size size = kernel_size_of(p->op, p->rows, p->push);
    const struct kernel_shape shape = kernels_shape(c->bench->kernels, p->op, p->store, &size);
    const char *store = dtype_name(p->store);
    if (shape.rows > 1 || shape.variant != KERNEL_FLAT)
        snprintf(c->variant, sizeof c->variant, "%s %s %ux%u", store,
                 kernel_variant_name(shape.variant), shape.rows, shape.columns);
    else snprintf(c->variant, sizeof c->variant, "%s", store);
}

static bool affordable(const struct bench_case *c)
{
    const struct bench_peaks *peaks = &c->bench->peaks;
    const double flop_ms = 1e-6 * c->flops / (0.1 * peaks->fma_f32_gflops);
    const double byte_ms = 1e-6 * c->bytes / (0.2 * peaks->copy_gbps);
    return (BENCH_RUNS + 2) * fmax(flop_ms, byte_ms) <=
           (c->bench->filter ? BUDGET_ASKED_MS : BUDGET_MS);
}

bool bench_case_begin(struct bench_case *c, struct bench *bench,
                      const struct bench_case_params *params, const char *shape, ...)
{
    const struct kernel_info *info = kernel_info(params->op);
    *c = (struct bench_case){.bench = bench, .params = *params};
    if (!bench_has_store(bench, params->store)) return false;
    if (!params->name) c->params.name = info->name;
    va_list args;
    va_start(args, shape);
    vsnprintf(c->shape, sizeof c->shape, shape, args);
    va_end(args);
    describe_variant(c);
    c->flops = info->flops(params->push);
    c->bytes = params->bytes > 0 ? params->bytes
                                 : info->bytes(params->push, (uint32_t)dtype_bytes(params->store));
    return affordable(c) &&
           bench_wants(bench, params->level, params->family, c->params.name, c->shape, c->variant);
}

// ---- buffers

static uint32_t add_buffer(struct bench_case *c, const void *data, uint64_t bytes)
{
    if (c->buffer_count == BENCH_MAX_BUFFERS) abort();
    struct gpu *gpu = c->bench->gpu;
    struct gpu_buffer *buffer = NULL;
    if (!c->failed)
        buffer =
            gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = "bench", .bytes = bytes});
    if (!buffer || !gpu_buffer_write(gpu, buffer, 0, data, bytes)) c->failed = true;
    c->buffer[c->buffer_count] = buffer;
    return c->buffer_count++;
}

static enum dtype resolve(const struct bench_case *c, int type)
{
    return type == BENCH_STORE ? c->params.store : (enum dtype)type;
}

// The same numbers again and again: no kernel's speed depends on them.
uint32_t bench_case_normal(struct bench_case *c, int type, uint64_t count, double scale)
{
    const enum dtype dtype = resolve(c, type);
    const size_t size = dtype_bytes(dtype), some = min_u64(count, c->bench->normal_count);
    uint8_t *data = malloc(align_up(count * size, 4));
    if (!data) abort();
    memset(data + count * size / 4 * 4, 0, align_up(count * size, 4) - count * size / 4 * 4);
    for (size_t i = 0; i < some; i++) dtype_store(data, i, dtype, scale * c->bench->normal[i]);
    for (uint64_t at = some; at < count; at += some)
        memcpy(data + at * size, data, min_u64(some, count - at) * size);
    const uint32_t index = add_buffer(c, data, align_up(count * size, 4));
    free(data);
    return index;
}

uint32_t bench_case_zero(struct bench_case *c, int type, uint64_t count)
{
    const uint64_t bytes = align_up(count * dtype_bytes(resolve(c, type)), 4);
    uint8_t *data = calloc(1, bytes);
    if (!data) abort();
    const uint32_t index = add_buffer(c, data, bytes);
    free(data);
    return index;
}

uint32_t bench_case_words(struct bench_case *c, const void *words, uint64_t count)
{
    return add_buffer(c, words, 4 * count);
}

// ---- steps

static void add_step(struct bench_case *c, enum kernel_op op, const void *push,
                     const uint32_t *bind, uint32_t bind_count, int32_t indirect)
{
    if (c->step_count == BENCH_MAX_STEPS || bind_count > GPU_MAX_BINDINGS) abort();
    struct bench_step *step = &c->step[c->step_count++];
    *step = (struct bench_step){.op = op,
                                .rows = c->params.rows,
                                .bind_count = bind_count,
                                .indirect = indirect};
    memcpy(step->push, push, kernel_info(op)->push_bytes);
    memcpy(step->bind, bind, bind_count * sizeof *bind);
}

void bench_case_step(struct bench_case *c, const uint32_t *bind, uint32_t bind_count,
                     int32_t indirect)
{
    add_step(c, c->params.op, c->params.push, bind, bind_count, indirect);
}

void bench_case_step_of(struct bench_case *c, enum kernel_op op, const void *push,
                        const uint32_t *bind, uint32_t bind_count)
{
    add_step(c, op, push, bind, bind_count, BENCH_DIRECT);
    c->flops += kernel_info(op)->flops(push);
    c->bytes += kernel_info(op)->bytes(push, (uint32_t)dtype_bytes(c->params.store));
}

// ---- running

// Buffers become the plan's tensors in their order, so that buffer i is range {i + 1}.
static struct plan *make_plan(const struct bench_case *c, uint32_t repeats)
{
    struct plan *plan =
        plan_create(c->bench->gpu, c->bench->kernels, c->params.name, c->params.store);
    struct plan_range buffer[BENCH_MAX_BUFFERS], bind[GPU_MAX_BINDINGS];
    for (uint32_t i = 0; i < c->buffer_count; i++)
        buffer[i] = plan_external(plan, "bench", c->buffer[i], 0, c->buffer[i]->params.bytes);
    for (uint32_t i = 0; i < repeats; i++)
        for (const struct bench_step *step = c->step; step < c->step + c->step_count; step++) {
            for (uint32_t b = 0; b < step->bind_count; b++) bind[b] = buffer[step->bind[b]];
            const struct plan_range grid = step->indirect == BENCH_DIRECT
                                               ? (struct plan_range){0}
                                               : plan_slice(buffer[step->indirect], 0, 12);
            plan_add_indirect(plan, step->op, step->rows, step->push, bind, step->bind_count, grid);
        }
    if (!plan_finish(plan)) plan_destroy(&plan);
    return plan;
}

struct timed { uint32_t repeats; double ms[BENCH_RUNS]; };

// The first run compiles and is what the plan is cut by; the second tells how long one takes; then
// the samples, where it is long enough.
static bool run_repeats(const struct bench_case *c, struct timed *t, double *once)
{
    struct plan *plan = make_plan(c, t->repeats);
    struct run *run = plan ? run_create(plan) : NULL;
    bool ok = run && bench_run_once(c->bench, run, once) && run_settle(run) &&
              bench_run_once(c->bench, run, once);
    const bool enough = *once >= BENCH_MIN_MS * 0.8 || t->repeats >= BENCH_MAX_REPEATS;
    for (uint32_t i = 0; i < BENCH_RUNS && ok && enough; i++)
        ok = bench_run_once(c->bench, run, &t->ms[i]);
    if (ok && !enough) {
        const double more = ceil(t->repeats * BENCH_MIN_MS * 1.1 / fmax(*once, 1e-4));
        t->repeats =
            more < BENCH_MAX_REPEATS ? max_u32((uint32_t)more, t->repeats + 1) : BENCH_MAX_REPEATS;
    }
    run_destroy(&run);
    plan_destroy(&plan);
    return ok;
}

static bool measure(const struct bench_case *c, struct bench_time *time)
{
    struct timed t = {.repeats = 1};
    for (uint32_t before = 0; t.repeats != before;) {
        double once = 0;
        before = t.repeats;
        if (!run_repeats(c, &t, &once)) return false;
    }
    for (uint32_t i = 0; i < BENCH_RUNS; i++) t.ms[i] /= t.repeats;
    *time = bench_median(t.ms, BENCH_RUNS);
    return true;
}

bool bench_case_run(struct bench_case *c)
{
    struct bench_time time;
    const bool ok = !c->failed && measure(c, &time);
    if (ok)
        bench_add(c->bench, &(struct bench_result){.family = c->params.family,
                                                   .name = c->params.name,
                                                   .shape = c->shape,
                                                   .variant = c->variant,
                                                   .time = time,
                                                   .flops = c->flops,
                                                   .bytes = c->bytes});
    for (uint32_t i = 0; i < c->buffer_count; i++) gpu_buffer_destroy(c->bench->gpu, &c->buffer[i]);
    return ok;
}
