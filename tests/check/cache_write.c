// SPDX-License-Identifier: MIT
// cache_write: only valid tokens, only inside the capacity; the rest of the cache keeps its bytes.
#include "check.h"

static void check_case(struct check *t, uint32_t rows, uint32_t length, uint32_t base,
                       uint32_t capacity, uint32_t cols)
{
    check_begin(t, KERNEL_CACHE_WRITE, 0, "rows %u length %u base %u capacity %u cols %u", rows,
                length, base, capacity, cols);
    check_step(t, 0, &(struct step_words){.base = base, .length = length});
    check_normal(t, 1, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 2, CHECK_STORE, (uint64_t)capacity * cols, 1);
    check_run(t, &(struct push_cache_write){rows, cols, capacity}, 0);
}

void check_cache_write(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 128, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_case(t, 5, 5, 3, 17, cols[i]);
    check_case(t, 8, 5, 0, 8, 64);  // padded
    check_case(t, 8, 8, 12, 16, 64); // past the end
    check_case(t, 1, 1, 15, 16, 64);
    check_case(t, 1, 0, 0, 4, 64);
}
