// SPDX-License-Identifier: MIT
// A case of the benchmark: buffers filled once, a few steps, one plan that repeats them (bench.h).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"

// What a case may take by estimate, from peaks of which a kernel reaches a tenth and a fifth.
enum { BUDGET_MS = 5000, BUDGET_ASKED_MS = 60000 };
static const double CPU_FLOPS = 24e9, CPU_BYTES = 4e9; // a second or two on two cores

// ---- beginning

static void describe_variant(struct bench_case *c)
{
    const struct bench_case_params *p = &c->params;
    const struct kernel_size size = kernel_size_of(p->op, p->rows, p->push);
    const struct kernel_shape shape = kernels_shape(c->bench->kernels, p->op, p->store, &size);
    snprintf(c->variant, sizeof c->variant, "%s %s", dtype_name(p->store),
             kernel_variant_name(shape.variant));
    if (shape.rows == 1 && shape.variant == KERNEL_FLAT) return;
    const size_t length = strlen(c->variant);
    snprintf(c->variant + length, sizeof c->variant - length, " %ux%u", shape.rows, shape.columns);
}

bool bench_affordable(struct bench *bench, double flops, double bytes, uint32_t runs)
{
    const double flop_ms = 1e-6 * flops / (0.1 * bench->peaks.fma_f32_gflops);
    const double byte_ms = 1e-6 * bytes / (0.2 * bench->peaks.copy_gbps);
    bool ok = runs * fmax(flop_ms, byte_ms) <= (bench->filter ? BUDGET_ASKED_MS : BUDGET_MS);
    if (!bench->filter && bench->gpu->caps.type == GPU_TYPE_CPU)
        ok = runs * flops <= CPU_FLOPS && runs * bytes <= CPU_BYTES;
    if (!ok) bench->slow++;
    return ok;
}

void bench_case_init(struct bench_case *c, struct bench *bench,
                     const struct bench_case_params *params)
{
    const struct kernel_info *info = kernel_info(params->op);
    *c = (struct bench_case){.bench = bench, .params = *params};
    if (!params->name) c->params.name = info->name;
    describe_variant(c);
    c->flops = info->flops(params->push);
    c->bytes = params->bytes > 0 ? params->bytes
                                 : info->bytes(params->push, (uint32_t)dtype_bytes(params->store));
}

bool bench_case_begin(struct bench_case *c, struct bench *bench,
                      const struct bench_case_params *params, const char *shape, ...)
{
    if (!bench_has_store(bench, params->store)) return false;
    bench_case_init(c, bench, params);
    va_list args;
    va_start(args, shape);
    vsnprintf(c->shape, sizeof c->shape, shape, args);
    va_end(args);
    return bench_wants(bench, params->level, params->family, c->params.name, c->shape,
                       c->params.model, c->variant) &&
           bench_affordable(bench, c->flops, c->bytes, BENCH_RUNS + 2);
}

// ---- buffers

// A buffer that cannot be bound whole, or that with the others takes more than half of the memory,
// makes the case too large: nothing more is made, nothing runs.
static struct gpu_buffer *add_buffer(struct bench_case *c, uint64_t bytes)
{
    if (c->buffer_count == BENCH_MAX_BUFFERS) abort();
    struct gpu *gpu = c->bench->gpu;
    c->memory += bytes;
    if (bytes > gpu->caps.max_range || c->memory > gpu->caps.heap_bytes / 2) c->too_large = true;
    struct gpu_buffer **buffer = &c->buffer[c->buffer_count++];
    if (c->failed || c->too_large) return NULL;
    *buffer = gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = "bench", .bytes = bytes});
    c->failed = !*buffer;
    return *buffer;
}

static uint32_t add_filled(struct bench_case *c, const void *data, uint64_t bytes)
{
    struct gpu_buffer *buffer = add_buffer(c, bytes);
    if (buffer && !gpu_buffer_write(c->bench->gpu, buffer, 0, data, bytes)) c->failed = true;
    return c->buffer_count - 1;
}

static enum dtype resolve(const struct bench_case *c, int type)
{
    return type == BENCH_STORE ? c->params.store : (enum dtype)type;
}

// The same numbers again and again, written in pieces: no kernel's speed depends on them.
uint32_t bench_case_normal(struct bench_case *c, int type, uint64_t count, double scale)
{
    const enum dtype dtype = resolve(c, type);
    const size_t size = dtype_bytes(dtype), some = min_u64(count, c->bench->normal_count);
    const uint64_t bytes = align_up(count * size, 4), piece = align_up(some * size, 4);
    struct gpu_buffer *buffer = add_buffer(c, bytes);
    uint8_t *data = calloc(1, piece);
    if (!data) abort();
    for (size_t i = 0; buffer && i < some; i++)
        dtype_store(data, i, dtype, scale * c->bench->normal[i]);
    for (uint64_t at = 0; buffer && at < bytes && !c->failed; at += piece)
        c->failed = !gpu_buffer_write(c->bench->gpu, buffer, at, data, min_u64(piece, bytes - at));
    free(data);
    return c->buffer_count - 1;
}

uint32_t bench_case_zero(struct bench_case *c, int type, uint64_t count)
{
    const uint64_t bytes = align_up(count * dtype_bytes(resolve(c, type)), 4);
    struct gpu_buffer *buffer = add_buffer(c, bytes);
    if (buffer && !bench_fill(c->bench, buffer)) c->failed = true;
    return c->buffer_count - 1;
}

uint32_t bench_case_words(struct bench_case *c, const void *words, uint64_t count)
{
    return add_filled(c, words, 4 * count);
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

static void drop_plan(struct bench_case *c)
{
    run_destroy(&c->run);
    plan_destroy(&c->plan);
}

// The first run compiles and is what the plan is cut by; the second tells how long one takes.
// `enough`: it is long enough to be measured.
static bool try_repeats(struct bench_case *c, bool *enough)
{
    double once = 0;
    c->plan = make_plan(c, c->repeats);
    c->run = c->plan ? run_create(c->plan) : NULL;
    const bool ok = c->run && bench_settle(c->bench, c->run, &once);
    *enough = once >= BENCH_MIN_MS * 0.8 || c->repeats >= BENCH_MAX_REPEATS;
    if (ok && *enough) return true;
    const double more = ceil(c->repeats * BENCH_MIN_MS * 1.1 / fmax(once, 1e-4));
    c->repeats =
        more < BENCH_MAX_REPEATS ? max_u32((uint32_t)more, c->repeats + 1) : BENCH_MAX_REPEATS;
    drop_plan(c);
    return ok;
}

static bool prepare(struct bench_case *c)
{
    bool enough = false;
    if (c->failed) return false;
    for (c->repeats = 1; !enough;)
        if (!try_repeats(c, &enough)) return false;
    return true;
}

static bool sample(struct bench_case *c, uint32_t i)
{
    const bool ok = bench_run_once(c->bench, c->run, &c->sample[i]);
    c->sample[i] /= c->repeats;
    return ok;
}

static void finish(struct bench_case *c)
{
    drop_plan(c);
    for (uint32_t i = 0; i < c->buffer_count; i++) gpu_buffer_destroy(c->bench->gpu, &c->buffer[i]);
}

static struct bench_result *add_result(struct bench_case *c)
{
    return bench_add(c->bench, &(struct bench_result){.family = c->params.family,
                                                      .name = c->params.name,
                                                      .shape = c->shape,
                                                      .variant = c->variant,
                                                      .model = c->params.model,
                                                      .time = bench_median(c->sample, BENCH_RUNS),
                                                      .flops = c->flops,
                                                      .bytes = c->bytes});
}

bool bench_case_run(struct bench_case *c)
{
    bool ok = true;
    if (c->too_large) c->bench->large++;
    else ok = prepare(c);
    for (uint32_t i = 0; i < BENCH_RUNS && ok && !c->too_large; i++) ok = sample(c, i);
    if (ok && !c->too_large) add_result(c);
    finish(c);
    return ok;
}

bool bench_case_run_against(struct bench_case *c, struct bench_case *dense)
{
    const bool too_large = c->too_large || dense->too_large;
    bool ok = true;
    if (too_large) c->bench->large++;
    else ok = prepare(c) && prepare(dense);
    for (uint32_t i = 0; i < BENCH_RUNS && ok && !too_large; i++)
        ok = sample(c, i) && sample(dense, i);
    if (ok && !too_large) {
        struct bench_result *result = add_result(c);
        const double dense_ms = bench_median(dense->sample, BENCH_RUNS).ms;
        bench_field(result, "dense_ms", dense_ms);
        bench_field(result, "dense_pct", 100 * dense_ms / result->time.ms);
    }
    finish(dense);
    finish(c);
    return ok;
}
