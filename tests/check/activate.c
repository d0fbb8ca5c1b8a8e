// SPDX-License-Identifier: MIT
// activate, activate_back and moe_activate_back: every remainder of the elementwise walk, every
// function, gated or not, values that saturate; dropped pairs.
#include "check.h"

static void elementwise(struct check *t, const struct push_activate *push, double scale)
{
    check_begin(t, KERNEL_ACTIVATE, 0, "count %u, function %u, gated %u, scale %g", push->count,
                push->activation, push->gated, scale);
    check_normal(t, 0, CHECK_STORE, push->count, scale);
    if (push->gated) check_normal(t, 1, CHECK_STORE, push->count, 1);
    check_output(t, 2, CHECK_STORE, push->count);
    check_run(t, push, 1e-11);
    check_begin(t, KERNEL_ACTIVATE_BACK, 0, "count %u, function %u, gated %u, scale %g",
                push->count, push->activation, push->gated, scale);
    check_normal(t, 0, CHECK_STORE, push->count, scale);
    if (push->gated) check_normal(t, 1, CHECK_STORE, push->count, 1);
    check_normal(t, 2, CHECK_STORE, push->count, 1);
    check_run(t, push, 1e-11);
}

static void by_pairs(struct check *t, const struct push_moe_activate *push, uint32_t drop)
{
    const uint64_t cells = (uint64_t)push->pairs * push->cols;
    check_begin(t, KERNEL_MOE_ACTIVATE_BACK, 0, "P %u I %u, function %u, gated %u, drop %u",
                push->pairs, push->cols, push->activation, push->gated, drop);
    check_normal(t, 0, CHECK_STORE, cells, 1.5);
    if (push->gated) check_normal(t, 1, CHECK_STORE, cells, 1);
    check_normal(t, 2, CHECK_STORE, cells, 1);
    check_inverse(t, 3, push->pairs, drop);
    check_normal(t, 4, DTYPE_F32, push->pairs, 1);
    check_output(t, 5, DTYPE_F32, push->pairs);
    check_run(t, push, 1e-11);
}

void check_activate(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 4, 31, 32, 33, 127, 128, 129, 1021, 4096, 100003};
    static const uint32_t cols[] = {1, 3, 4, 31, 32, 33, 127, 128, 512};
    for (uint32_t f = ACTIVATION_SILU; f < ACTIVATION_COUNT; f++)
        for (uint32_t gated = 0; gated < 2; gated++) {
            for (size_t i = 0; i < COUNT_OF(counts); i++)
                if (f == ACTIVATION_SILU || i % 3 == f % 3)
                    elementwise(t, &(struct push_activate){counts[i], f, gated}, 1);
            elementwise(t, &(struct push_activate){1021, f, gated}, 40);
            for (size_t i = 0; i < COUNT_OF(cols); i++)
                by_pairs(t, &(struct push_moe_activate){9 + (uint32_t)i, cols[i], f, gated},
                         i % 3 ? 0 : i % 2 ? 1 : 4);
        }
}
