// SPDX-License-Identifier: MIT
// Check of adamw: odd counts, the copy in the storage type, the skipped step, and twelve steps in a
// row against a plain AdamW in double.
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

static void one_step(struct check *t, uint32_t count, uint32_t copy, float finite)
{
    check_begin(t, KERNEL_ADAMW, 0, "n %u copy %u finite %g", count, copy, (double)finite);
    check_step(t, 0,
               &(struct step_words){.step = 3,
                                    .learning_rate = 0.01f,
                                    .correction1 = 1 - 0.9f * 0.9f * 0.9f,
                                    .correction2 = 1 - 0.95f * 0.95f * 0.95f});
    check_values(t, 1, DTYPE_F32, (double[4]){2, 0.3, (double)finite, 0}, 4);
    check_normal(t, 2, DTYPE_F32, count, 1);
    check_normal(t, 3, DTYPE_F32, count, 0.1);
    check_normal(t, 4, DTYPE_F32, count, 0.1);
    squares(t, 5, count, 0.01);
    if (copy) check_output(t, 6, CHECK_STORE, count);
    const struct push_adamw push = {count, copy, 0.9f, 0.95f, 1e-8f, 0.1f};
    if (!check_run(t, &push, 1e-12)) return;
    if (copy) compare_copy(t, count);
    for (int b = 2; finite == 0 && b < 6; b++)
        if (memcmp(check_result(t, b), t->binding[b].initial, count * 4) != 0)
            check_fail(t, "binding %d moved", b);
}

struct plain { double p, m, v; };

// torch.optim.AdamW, one element
static void plain_step(struct plain *x, double gradient, uint32_t step,
                       const struct push_adamw *push, double rate)
{
    const double beta1 = (double)push->beta1, beta2 = (double)push->beta2;
    x->p -= rate * (double)push->weight_decay * x->p;
    x->m = beta1 * x->m + (1 - beta1) * gradient;
    x->v = beta2 * x->v + (1 - beta2) * gradient * gradient;
    const double divisor = sqrt(x->v) / sqrt(1 - pow(beta2, step)) + (double)push->eps;
    x->p -= rate / (1 - pow(beta1, step)) * x->m / divisor;
}

static void many_steps(struct check *t)
{
    enum { COUNT = 77, STEPS = 12 };
    const struct push_adamw push = {COUNT, 1, 0.9f, 0.999f, 1e-8f, 0.1f};
    struct plain plain[COUNT] = {0};
    double p[COUNT], m[COUNT] = {0}, v[COUNT] = {0}, g[COUNT];
    for (int i = 0; i < COUNT; i++)
        plain[i].p = p[i] = (double)(float)rng_normal(t->seed, 99, (uint64_t)i);
    for (uint32_t step = 1; step <= STEPS; step++) {
        const double rate = (double)(0.01f / (float)step), factor = 0.5;
        for (int i = 0; i < COUNT; i++)
            g[i] = (double)(float)(rng_normal(t->seed, 100 + step, (uint64_t)i) + p[i]);
        check_begin(t, KERNEL_ADAMW, 0, "step %u of %d", step, STEPS);
        check_step(t, 0,
                   &(struct step_words){.step = step,
                                        .learning_rate = (float)rate,
                                        .correction1 = (float)(1 - pow((double)push.beta1, step)),
                                        .correction2 = (float)(1 - pow((double)push.beta2, step))});
        check_values(t, 1, DTYPE_F32, (double[4]){1, factor, 1, 0}, 4);
        check_values(t, 2, DTYPE_F32, p, COUNT);
        check_values(t, 3, DTYPE_F32, g, COUNT);
        check_values(t, 4, DTYPE_F32, m, COUNT);
        check_values(t, 5, DTYPE_F32, v, COUNT);
        check_output(t, 6, CHECK_STORE, COUNT);
        if (!check_run(t, &push, 1e-12)) return;
        for (int i = 0; i < COUNT; i++) {
            plain_step(&plain[i], g[i] * factor, step, &push, rate);
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
    many_steps(t);
}
