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

enum { NORMALS = 1 << 16 };

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

bool bench_wants(struct bench *bench, enum bench_level level, const char *family, const char *name,
                 const char *shape, const char *variant)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s %s %s", family, name, shape, variant);
    if (bench->filter ? !strstr(text, bench->filter) : level != BENCH_DEFAULT) return false;
    bench_show(bench, family, text);
    return true;
}

bool bench_has_store(const struct bench *bench, enum dtype store)
{
    return store == DTYPE_F32 || bench->gpu->caps.mask & GPU_CAP_STORAGE16;
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
    return (struct bench_time){middle, middle > 0 ? (ms[count - 1] - ms[0]) / middle : 0};
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
    const double kernel_ms = run_kernel_ms(run);
    if (kernel_ms >= 0) *ms = kernel_ms;
    return true;
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
    return own;
}

void bench_field(struct bench_result *result, const char *name, double value)
{
    if (result->field_count == BENCH_MAX_FIELDS) abort();
    result->field[result->field_count++] = (struct bench_field){name, value};
}
