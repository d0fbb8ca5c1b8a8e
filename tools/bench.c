// SPDX-License-Identifier: MIT
// The core of the benchmark: what the filter takes, how samples become a result, progress on
// stderr.
#include "tools/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "runtime/terminal.h"

enum { NORMALS = 1 << 16, OWN_VALUES = 1 << 24 };

void bench_init(struct bench *bench, struct gpu *gpu, struct kernels *kernels, const char *filter)
{
    struct arena *arena = arena_create("bench");
    *bench = (struct bench){.gpu = gpu, .kernels = kernels, .filter = filter, .arena = arena};
    bench->normal = arena_array(arena, NORMALS, sizeof *bench->normal);
    for (uint32_t i = 0; i < NORMALS; i++) bench->normal[i] = rng_normal(1, 0, i);
    bench->normal_count = NORMALS;
}

void bench_clear_progress(void)
{
    if (terminal_is(stderr)) fprintf(stderr, "\r%*s\r", terminal_columns(stderr) - 1, "");
}

void bench_finish(struct bench *bench)
{
    free(bench->result);
    arena_destroy(&bench->arena);
}

// On a terminal one line that is rewritten, in a pipe a line for each family.
void bench_show(struct bench *bench, const char *family, const char *text)
{
    const bool terminal = terminal_is(stderr);
    const bool same = bench->shown && strcmp(bench->shown, family) == 0;
    if (terminal) {
        const int width = terminal_columns(stderr) - 1;
        fprintf(stderr, "\rbench: %-*.*s", width - 7, width - 7, text);
    } else if (!same) {
        fprintf(stderr, "bench: %s\n", family);
    }
    if (!same) bench->shown = arena_strdup(bench->arena, family);
    fflush(stderr);
}

// Whether it holds one of the texts that stand between '|'.
static bool matches(const char *text, const char *filter)
{
    char one[256];
    for (const char *at = filter;; at++) {
        const size_t length = strcspn(at, "|");
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        if (length < sizeof one && strstr(text, one)) return true;
        at += length;
        if (!*at) return false;
    }
}

bool bench_wants(struct bench *bench, enum bench_level level, const char *family, const char *name,
                 const char *shape, const char *model, const char *variant)
{
    const bool card = bench->gpu->caps.type != GPU_TYPE_CPU;
    char text[256];
    snprintf(text, sizeof text, "%s %s %s %s%s%s", family, name, shape, model ? model : "",
             model && model[0] ? " " : "", variant);
    if (bench->filter ? !matches(text, bench->filter) : level > (card ? BENCH_CARD : BENCH_DEFAULT))
        return false;
    bench_show(bench, family, text);
    return true;
}

bool bench_has_store(const struct bench *bench, enum dtype store)
{
    return store == DTYPE_F32 || bench->gpu->caps.mask & GPU_CAP_STORAGE16;
}

bool bench_fill(struct bench *bench, struct gpu_buffer *buffer)
{
    struct gpu_commands *commands =
        gpu_commands_create(bench->gpu, &(struct gpu_commands_params){.name = "bench fill"});
    if (!commands) return false;
    gpu_commands_fill(commands, &(struct gpu_bind){buffer, 0, buffer->params.bytes}, 0);
    const uint64_t ticket = gpu_commands_end(commands) ? gpu_submit(bench->gpu, &commands, 1) : 0;
    const bool ok = ticket && gpu_wait(bench->gpu, ticket);
    gpu_commands_destroy(bench->gpu, &commands);
    return ok;
}

bool bench_fill_normal(struct bench *bench, struct gpu_buffer *buffer, enum dtype type)
{
    const uint64_t size = dtype_bytes(type), piece = bench->normal_count * size;
    uint8_t *data = malloc(piece);
    if (!data) abort();
    for (uint32_t i = 0; i < bench->normal_count; i++)
        dtype_store(data, i, type, bench->normal[i]);
    bool ok = true;
    for (uint64_t at = 0; at < buffer->params.bytes && ok; at += piece)
        ok = gpu_buffer_write(bench->gpu, buffer, at, data,
                              min_u64(piece, buffer->params.bytes - at));
    free(data);
    return ok;
}

// Turned by a prime from piece to piece, so that no two experts have the same router weights.
static bool fill_tensor(struct bench *bench, struct params *params,
                        const struct model_tensor *tensor, float *values)
{
    const uint32_t count = bench->normal_count;
    for (uint64_t begin = 0; begin < tensor->count; begin += count) {
        const uint64_t some = min_u64(count, tensor->count - begin), turn = begin / count * 7919;
        for (uint64_t i = 0; i < some; i++)
            values[i] = (float)(0.02 * bench->normal[(i + turn) % count]);
        if (!params_write(params, PARAMS_MASTER, tensor, begin, some, values)) return false;
    }
    return true;
}

bool bench_fill_params(struct bench *bench, struct params *params)
{
    const struct model *model = params->model;
    uint64_t total = 0;
    for (uint32_t t = 0; t < model->tensor_count; t++) total += model->tensor[t].count;
    if (total <= OWN_VALUES) return params_init(params);
    float *values = malloc(bench->normal_count * sizeof *values);
    if (!values) abort();
    bool ok = true;
    for (uint32_t t = 0; t < model->tensor_count && ok; t++)
        ok = fill_tensor(bench, params, &model->tensor[t], values);
    free(values);
    return ok;
}

// ---- samples

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_time bench_median(double *ms, uint32_t count)
{
    qsort(ms, count, sizeof *ms, by_value);
    const double middle = count % 2 ? ms[count / 2] : (ms[count / 2 - 1] + ms[count / 2]) / 2;
    const double range = ms[count - 1 - count / 4] - ms[count / 4];
    return (struct bench_time){middle, middle > 0 ? range / middle : 0};
}

static bool commands_once(struct bench *bench, struct gpu_commands *commands, double *ms)
{
    double at[2] = {0};
    const double began = os_seconds();
    const uint64_t ticket = gpu_submit(bench->gpu, &commands, 1);
    if (!ticket || !gpu_wait(bench->gpu, ticket)) return false;
    *ms = 1e3 * (os_seconds() - began);
    if (commands->params.timestamps == 2 && gpu_commands_times(bench->gpu, commands, at))
        *ms = at[1];
    return true;
}

bool bench_fastest(struct bench *bench, struct gpu_commands *commands, double *ms)
{
    *ms = 0;
    if (!commands_once(bench, commands, ms)) return false; // compiles, touches the memory
    *ms = INFINITY;
    for (uint32_t i = 0; i < BENCH_RUNS; i++) {
        double one;
        if (!commands_once(bench, commands, &one)) return false;
        *ms = fmin(*ms, one);
    }
    return true;
}

bool bench_run_once(struct bench *bench, struct run *run, double *ms)
{
    const double began = os_seconds();
    const uint64_t ticket = run_submit(run);
    if (!ticket || !gpu_wait(bench->gpu, ticket)) return false;
    *ms = 1e3 * (os_seconds() - began);
    if (!(bench->gpu->caps.mask & GPU_CAP_TIMESTAMP)) return true;
    const double kernel_ms = run_kernel_ms(run, 0);
    if (kernel_ms >= 0) *ms = kernel_ms;
    return true;
}

bool bench_settle(struct bench *bench, struct run *run, double *ms)
{
    return bench_run_once(bench, run, ms) && bench_run_once(bench, run, ms) && run_settle(run) &&
           bench_run_once(bench, run, ms);
}

// ---- what plans do

void bench_add_work(struct bench_work *work, const struct plan *plan, uint32_t times)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        double flops, bytes;
        plan_step_cost(plan, &plan->step[i], &flops, &bytes);
        work->flops += times * flops;
        work->bytes += times * bytes;
    }
    work->dispatches += times * plan->step_count;
}

// ---- results

struct bench_result *bench_add(struct bench *bench, const struct bench_result *result)
{
    if (bench->count == bench->capacity) {
        const size_t size = sizeof *bench->result, old = bench->capacity;
        bench->capacity = bench->capacity ? 2 * bench->capacity : 128;
        bench->result = os_grow(bench->result, old * size, bench->capacity * size);
    }
    struct bench_result *own = &bench->result[bench->count++];
    *own = *result;
    own->family = arena_strdup(bench->arena, result->family);
    own->name = arena_strdup(bench->arena, result->name);
    own->shape = arena_strdup(bench->arena, result->shape);
    own->variant = arena_strdup(bench->arena, result->variant);
    own->model = arena_strdup(bench->arena, result->model ? result->model : "");
    return own;
}

void bench_field(struct bench_result *result, const char *name, double value)
{
    if (result->field_count == BENCH_MAX_FIELDS) abort();
    result->field[result->field_count++] = (struct bench_field){name, value};
}
