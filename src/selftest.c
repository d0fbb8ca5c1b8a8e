// SPDX-License-Identifier: MIT
// Runs a small case (kernel_case.h): one buffer that host and device see, one dispatch, and
// the comparison with the reference.
#include "src/selftest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base.h"
#include "src/codes.h"
#include "src/kernel_case.h"

// Of a normalised mean square error: rounding of the outputs alone costs 16-bit types so much.
static double tolerance_of(enum dtype type)
{
    switch (type) {
    case DTYPE_BF16: return 2e-5;
    case DTYPE_F16: return 2e-6;
    default: return 1e-8;
    }
}

static bool run_once(struct gpu *gpu, const struct gpu_dispatch *dispatch)
{
    struct gpu_commands *commands =
        gpu_commands_create(gpu, &(struct gpu_commands_params){.name = "self-test"});
    if (!commands) return false;
    gpu_commands_dispatch(commands, dispatch);
    const uint64_t ticket = gpu_commands_end(commands) ? gpu_submit(gpu, &commands, 1) : 0;
    const bool ok = ticket && gpu_wait(gpu, ticket);
    gpu_commands_destroy(gpu, &commands);
    return ok;
}

static bool same_words(const struct kernel_case_binding *b, const void *device,
                       const void *reference, char *what, size_t size)
{
    const uint32_t *got = device, *want = reference;
    for (uint64_t i = 0; i < b->count; i++)
        if (got[i] != want[i]) {
            snprintf(what, size, "word %llu is %u, the reference has %u", (unsigned long long)i,
                     got[i], want[i]);
            return false;
        }
    return true;
}

static bool same_floats(const struct kernel_case_binding *b, const void *got, const void *want,
                        char *what, size_t size)
{
    const enum dtype type = (enum dtype)b->type;
    double error = 0, square = 0;
    for (uint64_t i = 0; i < b->count; i++) {
        const double x = dtype_load(got, i, type), y = dtype_load(want, i, type);
        if (isnan(x) && isnan(y)) continue; // poison that neither wrote over
        if (isinf(y) && x == y) continue;
        if (!isfinite(x) || !isfinite(y)) {
            snprintf(what, size, "element %llu is %g, the reference has %g",
                     (unsigned long long)i, x, y);
            return false;
        }
        error += (x - y) * (x - y);
        square += y * y;
    }
    const double nmse = square > 0 ? error / square : error;
    if (nmse <= tolerance_of(type)) return true;
    snprintf(what, size, "normalised mean square error %.3g, allowed %.3g", nmse,
             tolerance_of(type));
    return false;
}

// Codes may differ where a value is at the border of two cells.
static bool same_records(const struct kernel_case_binding *b, const void *device,
                         const void *reference, char *what, size_t size)
{
    const uint32_t *got = device, *want = reference;
    double error[2] = {0}, square[2] = {0};
    for (uint64_t at = 0; at < b->count; at += CODES_WORDS)
        for (uint32_t i = 0; i < 2 * CODES_ELEMENTS; i++) {
            const enum codes_kind kind = i < CODES_ELEMENTS ? CODES_SIGNED : CODES_UNSIGNED;
            const double x = codes_record_value(got + at, kind, i % CODES_ELEMENTS),
                         y = codes_record_value(want + at, kind, i % CODES_ELEMENTS);
            error[kind] += (x - y) * (x - y);
            square[kind] += y * y;
        }
    for (int kind = 0; kind < 2; kind++)
        if (!(error[kind] <= 1e-5 * square[kind])) {
            snprintf(what, size, "normalised mean square error %.3g of codes, allowed 1e-5",
                     error[kind] / square[kind]);
            return false;
        }
    return true;
}

static bool compare(struct kernel_case *c, uint32_t count, const uint8_t *device,
                    const uint64_t *offset, char *what, size_t size)
{
    const struct kernel_info *info = kernel_info(c->kernel->op);
    struct gpu_ref_call call = {.push = c->push, .tag = (int)c->kernel->store};
    for (uint32_t b = 0; b < count; b++) {
        call.buffer[b] = c->binding[b].data;
        call.bytes[b] = c->binding[b].bytes;
    }
    info->ref(&call);
    for (uint32_t b = 0; b < count; b++) {
        const struct kernel_case_binding *binding = &c->binding[b];
        char where[96];
        if (info->access[b] == 'r') continue;
        const void *got = device + offset[b];
        bool (*const same)(const struct kernel_case_binding *, const void *, const void *, char *,
                           size_t) = binding->records             ? same_records
                                     : binding->type == DTYPE_U32 ? same_words
                                                                  : same_floats;
        if (same(binding, got, binding->data, where, sizeof where)) continue;
        snprintf(what, size, "output %u: %s", b, where);
        return false;
    }
    return true;
}

enum selftest_result selftest_kernel(struct gpu *gpu, const struct kernel *kernel, char *what,
                                     size_t size)
{
    struct arena *arena = arena_create("self-test");
    struct kernel_case c = {.kernel = kernel, .arena = arena};
    const uint32_t count = (uint32_t)strlen(kernel_info(kernel->op)->access);
    uint64_t offset[GPU_MAX_BINDINGS];
    enum selftest_result result = SELFTEST_FAILED;
    kernel_case_fill(&c);
    const uint64_t bytes = kernel_case_layout(&c, gpu->caps.offset_alignment, offset);
    struct gpu_buffer *buffer = gpu_buffer_create(
        gpu, &(struct gpu_buffer_params){"self-test", bytes, GPU_MEMORY_READBACK});
    for (uint32_t b = 0; buffer && b < count; b++)
        memcpy((uint8_t *)buffer->data + offset[b], c.binding[b].data, c.binding[b].bytes);
    if (buffer) {
        const struct gpu_dispatch dispatch = kernel_case_dispatch(&c, buffer, offset);
        if (run_once(gpu, &dispatch))
            result = compare(&c, count, buffer->data, offset, what, size) ? SELFTEST_RIGHT
                                                                          : SELFTEST_WRONG;
    }
    gpu_buffer_destroy(gpu, &buffer);
    arena_destroy(&arena);
    return result;
}
