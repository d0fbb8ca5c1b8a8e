// SPDX-License-Identifier: MIT
// Check of sum: odd counts, with and without what was there before.
#include "check.h"

void check_sum(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 31, 32, 33, 257, 4096, 10007};
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (uint32_t accumulate = 0; accumulate < 2; accumulate++) {
            check_begin(t, KERNEL_SUM, 0, "n %u accumulate %u", counts[i], accumulate);
            check_normal(t, 0, DTYPE_F32, counts[i], 1);
            check_normal(t, 1, DTYPE_F32, 5, 100);
            const struct push_sum push = {.count = counts[i], .index = 3, .accumulate = accumulate};
            check_run(t, &push, 1e-11);
        }
}
