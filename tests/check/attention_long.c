// SPDX-License-Identifier: MIT
// Sequences past what one dispatch of a CPU driver can walk over: lavapipe ends all loops of an
// invocation together after 65,535 turns, without a word. Run as the plan runs them, in the passes
// and parts that kernel_attention.h gives.
#include "attention.h"

#include <stdlib.h>
#include <string.h>

#include "src/kernel_attention.h"

enum { TOO_LONG = 65535 + 465 };

// Runs all passes over `keys` on the device, each on what the one before left in the bindings from
// `out` on; check_result then has what the last one left. `fill` sets the bindings.
static bool run_passes(struct check *t, enum kernel_op op, struct attention_case c, uint32_t keys,
                       int out, void (*fill)(struct check *t, const struct attention_case *c))
{
    struct push_attention push = attention_push(c);
    const uint32_t span = kernel_attention_span(&t->gpu->caps, op, &push);
    uint8_t *kept[GPU_MAX_BINDINGS] = {0};
    const uint64_t stream = t->stream;
    bool ok = true;
    for (uint32_t first = 0; first < keys && ok; first += span) {
        push.first = c.first = first;
        push.count = c.count = span;
        t->stream = stream;
        check_begin(t, op, c.head_dim, ATTENTION_FORMAT, ATTENTION_VALUES(c));
        fill(t, &c);
        for (int b = out; first > 0 && kernel_info(op)->access[b]; b++)
            memcpy(t->binding[b].initial, kept[b], t->binding[b].bytes);
        ok = check_run_only(t, &push);
        for (int b = out; ok && kernel_info(op)->access[b]; b++) {
            kept[b] = realloc(kept[b], t->binding[b].bytes);
            memcpy(kept[b], check_result(t, b), t->binding[b].bytes);
        }
    }
    for (int b = 0; b < GPU_MAX_BINDINGS; b++) free(kept[b]);
    return ok;
}

static void compare(struct check *t, int b, const float *want)
{
    const float *got = check_result(t, b);
    double error = 0, square = 0;
    for (uint64_t i = 0; i < t->binding[b].count; i++) {
        const double x = (double)got[i], y = (double)want[i];
        error += (x - y) * (x - y);
        square += y * y;
    }
    t->worst = fmax(t->worst, error / square / 1e-8);
    if (!(error <= 1e-8 * square))
        check_fail(t, "binding %d: normalised mean square error %.3g", b, error / square);
}

// against the reference of all passes at once, in the bindings of the last one
static void compare_reference(struct check *t, const struct attention_case *c, int out)
{
    struct push_attention push = attention_push(*c);
    push.first = push.count = 0;
    struct gpu_ref_call call = {.push = &push, .tag = (int)t->store};
    for (int b = 0; b < GPU_MAX_BINDINGS; b++) call.buffer[b] = t->binding[b].initial;
    kernel_info(t->op)->ref(&call);
    for (int b = out; kernel_info(t->op)->access[b]; b++)
        compare(t, b, (const float *)t->binding[b].initial);
}

static void fill_forward(struct check *t, const struct attention_case *c)
{
    const uint64_t k = (uint64_t)c->stride * c->kv_heads * c->head_dim;
    check_step(t, 0, &(struct step_words){.base = c->base, .length = c->seq});
    check_normal(t, 1, CHECK_STORE, (uint64_t)c->seq * c->heads * c->head_dim, 1);
    check_normal(t, 2, CHECK_STORE, k, 1);
    check_normal(t, 3, CHECK_STORE, k, 1);
    check_output(t, 4, CHECK_STORE, (uint64_t)c->seq * c->heads * c->head_dim);
    check_output(t, 5, DTYPE_F32, (uint64_t)c->seq * c->heads);
}

// few queries far into a cache
static void check_forward(struct check *t)
{
    const struct attention_case c = {1, 3, 5 * TOO_LONG, 2, 1, 4, .base = 5 * TOO_LONG - 4,
                                     .scale = 1};
    if (run_passes(t, KERNEL_ATTENTION, c, c.stride, 4, fill_forward)) compare_reference(t, &c, 4);
}

static void check_decode(struct check *t)
{
    struct attention_case c = {1, 1, 5 * TOO_LONG, 2, 1, 4, .base = 5 * TOO_LONG - 2, .scale = 1};
    struct push_attention push = attention_push(c);
    push.parts = c.parts = kernel_decode_parts(&t->gpu->caps, &push);
    check_begin(t, KERNEL_ATTENTION_DECODE, c.head_dim, ATTENTION_FORMAT,
                ATTENTION_VALUES(c));
    fill_forward(t, &c);
    check_output(t, 5, DTYPE_F32, (uint64_t)c.heads * c.head_dim * c.parts);
    check_output(t, 6, DTYPE_F32, 2ull * c.heads * c.parts);
    check_run(t, &push, 1e-8);
}

static void fill_back(struct check *t, const struct attention_case *c)
{
    const uint64_t q = (uint64_t)c->seq * c->heads, k = (uint64_t)c->seq * c->kv_heads;
    for (int b = 0; b < 4; b++)
        check_normal(t, b, CHECK_STORE, (b == 0 || b == 3 ? q : k) * c->head_dim, 0.1);
    double *lse = malloc(q * sizeof *lse); // near the real one: scores are small
    for (uint64_t i = 0; i < q; i++) lse[i] = log((double)(i / c->heads) + 1);
    check_values(t, 4, DTYPE_F32, lse, q);
    free(lse);
    check_normal(t, 5, DTYPE_F32, q, 0.1);
    check_output(t, 6, CHECK_STORE, t->op == KERNEL_ATTENTION_BACK_KV ? k * c->head_dim
                                                                      : q * c->head_dim);
    if (t->op == KERNEL_ATTENTION_BACK_KV) check_output(t, 7, CHECK_STORE, k * c->head_dim);
}

// a short sequence with many heads on one key head: as many (query, head) pairs
static void check_back_kv(struct check *t)
{
    const struct attention_case c = {1, TOO_LONG / 512 + 1, TOO_LONG / 512 + 1, 512, 1, 4};
    if (run_passes(t, KERNEL_ATTENTION_BACK_KV, c, c.seq, 6, fill_back))
        compare_reference(t, &c, 6);
}

// q = 0: all p of query i are 1 / (i + 1), and sums over the keys before it make dq
static void fill_back_q(struct check *t, const struct attention_case *c)
{
    fill_back(t, c);
    memset(t->binding[0].initial, 0, t->binding[0].bytes);
}

static void check_back_q(struct check *t)
{
    const struct attention_case c = {1, TOO_LONG, TOO_LONG, 1, 1, 1};
    if (!run_passes(t, KERNEL_ATTENTION_BACK_Q, c, c.seq, 6, fill_back_q)) return;
    const float *in[6];
    for (int b = 0; b < 6; b++) in[b] = (const float *)t->binding[b].initial;
    float *want = malloc(TOO_LONG * sizeof *want);
    double k_sum = 0, kv_sum = 0;
    for (uint32_t i = 0; i < TOO_LONG; i++) {
        k_sum += (double)in[1][i];
        kv_sum += (double)in[1][i] * (double)in[2][i];
        want[i] = (float)(exp(-(double)in[4][i]) *
                          ((double)in[3][i] * kv_sum - (double)in[5][i] * k_sum));
    }
    compare(t, 6, want);
    free(want);
}

void check_attention_long(struct check *t)
{
    check_forward(t);
    check_decode(t);
    check_back_kv(t);
    check_back_q(t);
}
