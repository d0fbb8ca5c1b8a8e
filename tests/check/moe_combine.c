// SPDX-License-Identifier: MIT
// Checks of moe_combine: aligned and odd rows, one and many picks, dropped
// pairs.
#include "check.h"

static void combine(struct check *t, const struct push_moe_combine *push, uint32_t drop)
{
    const uint32_t pairs = push->tokens * push->top_k;
    const uint64_t cells = (uint64_t)push->tokens * push->cols;
    check_begin(t, KERNEL_MOE_COMBINE, 0, "T %u H %u K %u weighted %u add %u drop %u", push->tokens,
                push->cols, push->top_k, push->weighted, push->add, drop);
    check_normal(t, 0, CHECK_STORE, (uint64_t)pairs * push->cols, 1);
    check_inverse(t, 1, pairs, drop);
    if (push->weighted) check_normal(t, 2, DTYPE_F32, pairs, 1);
    if (push->add) check_normal(t, 3, CHECK_STORE, cells, 1);
    check_output(t, 4, CHECK_STORE, cells);
    check_run(t, push, 1e-12);
}

void check_moe_combine(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 4, 31, 32, 33, 128, 257, 512};
    static const uint32_t top_k[] = {1, 2, 3, 8};
    for (size_t i = 0; i < COUNT_OF(cols); i++)
        for (uint32_t mode = 0; mode < 4; mode++) {
            const struct push_moe_combine push = {5 + (uint32_t)i, cols[i],
                                                  top_k[(mode + i) % COUNT_OF(top_k)], mode & 1,
                                                  mode >> 1};
            combine(t, &push, mode ? 0 : 3);
            if (mode == 3) combine(t, &push, 1); // nothing but dropped pairs
        }
}
