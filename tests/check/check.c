// SPDX-License-Identifier: MIT
// The harness of the operation checks: see check.h.
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/ref/ref.h"

enum { CANARY_BYTES = 256, CANARY = 0xa5 };

static uint8_t *results[GPU_MAX_BINDINGS];

void check_fail(struct check *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FAIL %s_%s [%s] seed %llu: ", kernel_info(t->op)->name, dtype_name(t->store),
            t->label, (unsigned long long)t->seed);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    t->failures++;
    t->failed = true;
}

uint64_t check_random(struct check *t, uint64_t bound)
{
    return rng_below(t->seed, 0x5eed, t->stream++, bound);
}

void check_begin(struct check *t, enum kernel_op op, uint32_t rows, const char *format, ...)
{
    struct check_count *count = &t->count[t->op][t->variant];
    if (t->ran || t->failed) (*(t->failed ? &count->failed : &count->passed))++;
    t->ran = t->failed = false;
    for (int b = 0; b < GPU_MAX_BINDINGS; b++) {
        free(t->binding[b].initial);
        free(results[b]);
        results[b] = NULL;
        t->binding[b] = (struct check_binding){0};
    }
    va_list args;
    va_start(args, format);
    vsnprintf(t->label, sizeof t->label, format, args);
    va_end(args);
    t->op = op;
    t->rows = rows;
    t->shape = (struct kernel_shape){0};
    memset(t->groups, 0, sizeof t->groups);
    t->cases++;
}

void check_drop(struct check *t) { t->cases--; }

static bool same_shape(const struct kernel_shape *a, const struct kernel_shape *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool same_variant(const struct kernel_shape *a, const struct kernel_shape *b)
{
    return a->variant == b->variant;
}

static bool is_seen(const struct check *t, enum kernel_op op, const struct kernel_shape *shape,
                    bool (*same)(const struct kernel_shape *a, const struct kernel_shape *b))
{
    for (uint32_t i = 0; i < t->seen_count; i++) {
        const struct check_seen *seen = &t->seen[i];
        if (seen->op == op && seen->store == t->store && same(&seen->shape, shape)) return true;
    }
    return false;
}

bool check_has(struct check *t, enum kernel_op op, const struct kernel_shape *shape)
{
    return !t->brief || is_seen(t, op, shape, same_shape) || check_chooses(t, op, shape);
}

bool check_chooses(struct check *t, enum kernel_op op, const struct kernel_shape *shape)
{
    if (!t->brief) return true;
    if (is_seen(t, op, shape, t->store == DTYPE_F32 ? same_shape : same_variant)) return false;
    t->seen = realloc(t->seen, (t->seen_count + 1) * sizeof *t->seen);
    t->seen[t->seen_count++] = (struct check_seen){op, t->store, *shape};
    return true;
}

static struct check_binding *prepare(struct check *t, int b, int type, uint64_t count)
{
    struct check_binding *binding = &t->binding[b];
    binding->type = type == CHECK_STORE ? (int)t->store : type;
    binding->count = count;
    binding->bytes = max_u64(align_up(count * dtype_bytes((enum dtype)binding->type), 4), 4);
    free(binding->initial); // a case may fill a binding anew
    binding->initial = calloc(1, binding->bytes);
    return binding;
}

void check_with(struct check *t, const struct kernel_shape *shape)
{
    const size_t length = strlen(t->label);
    t->shape = *shape;
    snprintf(t->label + length, sizeof t->label - length, ", %s %ux%u",
             kernel_variant_name(shape->variant), shape->rows, kernel_group_columns(t->op, shape));
}

void check_normal(struct check *t, int b, int type, uint64_t count, double scale)
{
    struct check_binding *binding = prepare(t, b, type, count);
    const uint64_t stream = t->stream++;
    for (uint64_t i = 0; i < count; i++)
        dtype_store(binding->initial, i, (enum dtype)binding->type,
                    scale * rng_normal(t->seed, stream, i));
}

void check_values(struct check *t, int b, int type, const double *values, uint64_t count)
{
    struct check_binding *binding = prepare(t, b, type, count);
    for (uint64_t i = 0; i < count; i++)
        dtype_store(binding->initial, i, (enum dtype)binding->type, values[i]);
}

void check_words(struct check *t, int b, const uint32_t *words, uint64_t count)
{
    memcpy(prepare(t, b, DTYPE_U32, count)->initial, words, count * 4);
}

void check_inverse(struct check *t, int b, uint32_t pairs, uint32_t drop)
{
    uint32_t *inverse = malloc(pairs * sizeof *inverse);
    for (uint32_t p = 0; p < pairs; p++) {
        const uint32_t other = (uint32_t)check_random(t, p + 1);
        inverse[p] = inverse[other];
        inverse[other] = p;
    }
    for (uint32_t p = 0; drop && p < pairs; p += drop) inverse[p] = KERNEL_NONE_ID;
    check_words(t, b, inverse, pairs);
    free(inverse);
}

void check_step(struct check *t, int b, const struct step_words *step)
{
    check_words(t, b, (const uint32_t *)step, sizeof *step / 4);
}

void check_output(struct check *t, int b, int type, uint64_t count)
{
    struct check_binding *binding = prepare(t, b, type, count);
    memset(binding->initial, 0xff, binding->bytes);
}

void check_groups(struct check *t, uint32_t x, uint32_t y, uint32_t z)
{
    t->groups[0] = x, t->groups[1] = y, t->groups[2] = z;
}

const void *check_result(const struct check *t, int b)
{
    (void)t;
    return results[b];
}

struct device_run {
    struct gpu_buffer   *buffer[GPU_MAX_BINDINGS];
    struct gpu_commands *commands;
};

static void device_run_finish(struct check *t, struct device_run *run)
{
    gpu_commands_destroy(t->gpu, &run->commands);
    for (int b = 0; b < GPU_MAX_BINDINGS; b++) gpu_buffer_destroy(t->gpu, &run->buffer[b]);
}

static bool upload(struct check *t, struct device_run *run, int b, uint64_t offset)
{
    const struct check_binding *binding = &t->binding[b];
    const uint64_t bytes = offset + binding->bytes + CANARY_BYTES;
    uint8_t *fenced = malloc(bytes);
    memset(fenced, CANARY, bytes);
    memcpy(fenced + offset, binding->initial, binding->bytes);
    run->buffer[b] =
        gpu_buffer_create(t->gpu, &(struct gpu_buffer_params){.name = "check", .bytes = bytes});
    const bool ok = run->buffer[b] && gpu_buffer_write(t->gpu, run->buffer[b], 0, fenced, bytes);
    free(fenced);
    return ok;
}

static bool download(struct check *t, struct device_run *run, int b, uint64_t offset, uint8_t *out)
{
    const struct check_binding *binding = &t->binding[b];
    const uint64_t bytes = offset + binding->bytes + CANARY_BYTES;
    uint8_t *fenced = malloc(bytes);
    bool ok = gpu_buffer_read(t->gpu, run->buffer[b], 0, fenced, bytes);
    for (uint64_t i = 0; ok && i < bytes; i++)
        if ((i < offset || i >= offset + binding->bytes) && fenced[i] != CANARY) {
            check_fail(t, "binding %d: wrote outside its range, byte %lld", b,
                       (long long)(i - offset));
            ok = false;
        }
    if (ok) memcpy(out, fenced + offset, binding->bytes);
    free(fenced);
    return ok;
}

static const struct kernel *kernel_of(struct check *t, const void *push)
{
    const struct kernel_size size = kernel_size_of(t->op, t->rows, push);
    if (t->shape.lanes) return kernels_make(t->kernels, t->op, t->store, &t->shape);
    return kernels_get(t->kernels, t->op, t->store, &size);
}

static bool device_once(struct check *t, const void *push, uint8_t *out[GPU_MAX_BINDINGS])
{
    const struct kernel_info *info = kernel_info(t->op);
    const struct kernel *kernel = kernel_of(t, push);
    if (!kernel) return check_fail(t, "kernel could not be made"), false;
    t->variant = kernel->shape.variant;
    t->ran = true;
    const uint64_t offset = align_up(CANARY_BYTES, t->gpu->caps.offset_alignment);
    struct device_run run = {0};
    struct gpu_dispatch dispatch = {.kernel = kernel->gpu, .push = push};
    memcpy(dispatch.groups, t->groups, sizeof t->groups);
    if (!t->groups[0]) info->groups(push, &kernel->shape, dispatch.groups);
    bool ok = true;
    for (int b = 0; info->access[b] && ok; b++) {
        if (!t->binding[b].initial) check_output(t, b, DTYPE_U32, 1); // not used by this case
        ok = upload(t, &run, b, offset);
        dispatch.bind[b] = (struct gpu_bind){run.buffer[b], offset, t->binding[b].bytes};
    }
    run.commands =
        ok ? gpu_commands_create(t->gpu, &(struct gpu_commands_params){.name = "check"}) : NULL;
    ok = ok && run.commands;
    if (ok) {
        gpu_commands_dispatch(run.commands, &dispatch);
        ok = gpu_commands_end(run.commands);
        const uint64_t ticket = ok ? gpu_submit(t->gpu, &run.commands, 1) : 0;
        ok = ticket && gpu_wait(t->gpu, ticket);
    }
    if (!ok) check_fail(t, "the device failed");
    for (int b = 0; info->access[b] && ok; b++) ok = download(t, &run, b, offset, out[b]);
    device_run_finish(t, &run);
    return ok;
}

bool check_run_only(struct check *t, const void *push)
{
    const struct kernel_info *info = kernel_info(t->op);
    uint8_t *again[GPU_MAX_BINDINGS] = {0};
    for (int b = 0; info->access[b]; b++) {
        if (!t->binding[b].initial) check_output(t, b, DTYPE_U32, 1);
        free(results[b]); // a case may run once in each shape
        results[b] = malloc(t->binding[b].bytes);
        again[b] = malloc(t->binding[b].bytes);
    }
    bool ok = device_once(t, push, results) && device_once(t, push, again);
    for (int b = 0; info->access[b]; b++) {
        if (ok && memcmp(results[b], again[b], t->binding[b].bytes) != 0) {
            check_fail(t, "binding %d: two runs differ", b);
            ok = false;
        }
        if (ok && info->access[b] == 'r' &&
            memcmp(results[b], t->binding[b].initial, t->binding[b].bytes) != 0) {
            check_fail(t, "binding %d: an input was changed", b);
            ok = false;
        }
        free(again[b]);
    }
    return ok;
}

static bool compare_words(struct check *t, int b, const uint32_t *want)
{
    const uint32_t *got = (const uint32_t *)results[b];
    for (uint64_t i = 0; i < t->binding[b].count; i++)
        if (got[i] != want[i]) {
            check_fail(t, "binding %d word %llu: %u, reference %u", b, (unsigned long long)i,
                       got[i], want[i]);
            return false;
        }
    return true;
}

static bool compare_floats(struct check *t, int b, const void *want, double tolerance)
{
    const enum dtype type = (enum dtype)t->binding[b].type;
    if (type == DTYPE_BF16) tolerance = fmax(tolerance, 1e-5);
    if (type == DTYPE_F16) tolerance = fmax(tolerance, 1e-6);
    double square = 0, error = 0;
    for (uint64_t i = 0; i < t->binding[b].count; i++) {
        const double x = dtype_load(results[b], i, type), y = dtype_load(want, i, type);
        if (isnan(x) && isnan(y)) continue;
        if (isinf(y) && x == y) continue;
        if (isnan(x) || isnan(y) || isinf(x) || isinf(y)) {
            check_fail(t, "binding %d element %llu: %g, reference %g", b, (unsigned long long)i, x,
                       y);
            return false;
        }
        square += y * y;
        error += (x - y) * (x - y);
    }
    const double nmse = square > 0 ? error / square : error;
    t->worst = fmax(t->worst, nmse / tolerance);
    if (nmse <= tolerance) return true;
    check_fail(t, "binding %d: normalised mean square error %.3g, allowed %.3g", b, nmse,
               tolerance);
    return false;
}

bool check_run(struct check *t, const void *push, double tolerance)
{
    if (!check_run_only(t, push)) return false;
    const struct kernel_info *info = kernel_info(t->op);
    const struct kernel *kernel = kernel_of(t, push);
    struct gpu_ref_call call = {.push = push, .tag = (int)kernel->store};
    for (int b = 0; info->access[b]; b++) {
        call.buffer[b] = malloc(t->binding[b].bytes);
        call.bytes[b] = t->binding[b].bytes;
        memcpy(call.buffer[b], t->binding[b].initial, t->binding[b].bytes);
    }
    info->ref(&call);
    bool ok = true;
    for (int b = 0; info->access[b]; b++) {
        if (ok && info->access[b] != 'r')
            ok = t->binding[b].type == DTYPE_U32 ? compare_words(t, b, call.buffer[b])
                                                 : compare_floats(t, b, call.buffer[b], tolerance);
        free(call.buffer[b]);
    }
    return ok;
}
