// SPDX-License-Identifier: MIT
// Check of adamw: odd counts, the copy in the storage type, the skipped step, experts of which some
// do not move, and twelve steps in a row against a plain AdamW in double.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static void squares(struct check *t, int b, uint32_t count, double scale)
{
    double *values = malloc(count * sizeof *values);
    for (uint32_t i = 0; i < count; i++)
        values[i] = scale * pow(rng_normal(t->seed, t->stream, i), 2);
    t->stream++;
    check_values(t, b, DTYPE_F32, values, count);
    free(values);
}

// The copy is the new parameter rounded to the storage type, bit for bit.
static void compare_copy(struct check *t, uint32_t count)
{
    uint8_t want[8];
    const size_t bytes = dtype_bytes(t->store);
    for (uint32_t i = 0; i < count; i++) {
        dtype_store(want, 0, t->store, (double)((const float *)check_result(t, 2))[i]);
        if (memcmp(want, (const uint8_t *)check_result(t, 6) + i * bytes, bytes) != 0) {
            check_fail(t, "copy of element %u is not the parameter rounded", i);
            return;
        }
    }
}

static struct push_optimizer push_of(uint32_t count, uint32_t copy, double beta1, double beta2)
{
    return (struct push_optimizer){.count = count, .matrices = 1, .copy = copy, .rate = 1,
                                   .weight_decay = 0.1f, .beta1 = (float)beta1,
                                   .beta2 = (float)beta2, .eps = 1e-8f,
                                   .log_beta1 = kernel_log_beta(beta1),
                                   .log_beta2 = kernel_log_beta(beta2)};
}

static void bindings(struct check *t, const struct push_optimizer *push, float finite)
{
    const uint32_t all = push->count * push->matrices;
    check_step(t, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    check_values(t, 1, DTYPE_F32, (double[4]){2, 0.3, (double)finite, 0}, 4);
    check_normal(t, 2, DTYPE_F32, all, 1);
    check_normal(t, 3, DTYPE_F32, all, 0.1);
    check_normal(t, 4, DTYPE_F32, all, 0.1);
    squares(t, 5, all, 0.01);
    if (push->copy) check_normal(t, 6, CHECK_STORE, all, 1);
}

static void one_step(struct check *t, uint32_t count, uint32_t copy, float finite)
{
    const struct push_optimizer push = push_of(count, copy, 0.9, 0.95);
    check_begin(t, KERNEL_ADAMW, 0, "n %u copy %u finite %g", count, copy, (double)finite);
    bindings(t, &push, finite);
    if (!check_run(t, &push, 1e-12)) return;
    if (copy) compare_copy(t, count);
    for (int b = 2; finite == 0 && b < 6; b++)
        if (memcmp(check_result(t, b), t->binding[b].initial, count * 4) != 0)
            check_fail(t, "binding %d moved", b);
}

// Parts of experts: what moves[] says, no byte of the others.
static void experts(struct check *t, uint32_t count, uint32_t matrices, uint32_t first)
{
    enum { EXPERTS = 3, STACKS = 2, STRIDE = 5 };
    static const uint32_t moves[3 * STRIDE] = {1, 0, 700, 9, 9, 0, 100000, 2, 9, 9, 0, 0, 4, 9, 9};
    struct push_optimizer push = push_of(count, 1, 0.9, 0.999);
    push.matrices = matrices, push.first = first, push.experts = EXPERTS;
    push.per_layer = STACKS * EXPERTS, push.stride = STRIDE;
    check_begin(t, KERNEL_ADAMW, 0, "experts, n %u, parts %u to %u", count, first,
                first + matrices);
    bindings(t, &push, 1);
    check_words(t, 7, moves, COUNT_OF(moves));
    if (!check_run(t, &push, 1e-12)) return;
    for (uint32_t i = 0; i < matrices; i++) {
        const uint32_t at = first + i,
                       step = moves[at / push.per_layer * STRIDE + at % EXPERTS];
        for (int b = 2; b < 7; b++) {
            if (b == 3) continue;
            const size_t bytes = count * dtype_bytes((enum dtype)t->binding[b].type);
            const bool same = memcmp((const uint8_t *)check_result(t, b) + i * bytes,
                                     t->binding[b].initial + i * bytes, bytes) == 0;
            if (same != (step == 0))
                check_fail(t, "part %u of step %u: binding %d %s", i, step, b,
                           same ? "did not move" : "moved");
        }
    }
}

struct plain { double p, m, v; };

// torch.optim.AdamW, one element
static void plain_step(struct plain *x, double gradient, uint32_t step, double beta1, double beta2,
                       double rate)
{
    x->p -= rate * 0.1 * x->p;
    x->m = beta1 * x->m + (1 - beta1) * gradient;
    x->v = beta2 * x->v + (1 - beta2) * gradient * gradient;
    const double divisor = sqrt(x->v) / sqrt(1 - pow(beta2, step)) + 1e-8;
    x->p -= rate / (1 - pow(beta1, step)) * x->m / divisor;
}

static void many_steps(struct check *t)
{
    enum { COUNT = 77, STEPS = 12 };
    const struct push_optimizer push = push_of(COUNT, 1, 0.9, 0.999);
    struct plain plain[COUNT] = {0};
    double p[COUNT], m[COUNT] = {0}, v[COUNT] = {0}, g[COUNT];
    for (int i = 0; i < COUNT; i++)
        plain[i].p = p[i] = (double)(float)rng_normal(t->seed, 99, (uint64_t)i);
    for (uint32_t step = 1; step <= STEPS; step++) {
        const double rate = (double)(0.01f / (float)step), factor = 0.5;
        for (int i = 0; i < COUNT; i++)
            g[i] = (double)(float)(rng_normal(t->seed, 100 + step, (uint64_t)i) + p[i]);
        check_begin(t, KERNEL_ADAMW, 0, "step %u of %d", step, STEPS);
        check_step(t, 0, &(struct step_words){.step = step, .learning_rate = (float)rate});
        check_values(t, 1, DTYPE_F32, (double[4]){1, factor, 1, 0}, 4);
        check_values(t, 2, DTYPE_F32, p, COUNT);
        check_values(t, 3, DTYPE_F32, g, COUNT);
        check_values(t, 4, DTYPE_F32, m, COUNT);
        check_values(t, 5, DTYPE_F32, v, COUNT);
        check_output(t, 6, CHECK_STORE, COUNT);
        if (!check_run(t, &push, 1e-12)) return;
        for (int i = 0; i < COUNT; i++) {
            plain_step(&plain[i], g[i] * factor, step, 0.9, 0.999, rate);
            p[i] = (double)((const float *)check_result(t, 2))[i];
            m[i] = (double)((const float *)check_result(t, 4))[i];
            v[i] = (double)((const float *)check_result(t, 5))[i];
            if (fabs(p[i] - plain[i].p) > 2e-6)
                check_fail(t, "element %d: %.9g, plain %.9g", i, p[i], plain[i].p);
        }
    }
}

void check_adamw(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 31, 32, 33, 127, 128, 129, 1000, 10007};
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (uint32_t copy = 0; copy < 2; copy++) {
            one_step(t, counts[i], copy, 1);
            one_step(t, counts[i], copy, 0);
        }
    for (size_t i = 0; i + 1 < COUNT_OF(counts); i++) {
        experts(t, counts[i], 18, 0);
        experts(t, counts[i], 7, 4);
    }
    many_steps(t);
}
