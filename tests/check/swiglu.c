// SPDX-License-Identifier: MIT
// swiglu and swiglu_back: every remainder of the elementwise walk, and gates that saturate.
#include "check.h"

static void check_case(struct check *t, uint32_t count, double scale)
{
    check_begin(t, KERNEL_SWIGLU, 0, "count %u scale %g", count, scale);
    check_normal(t, 0, CHECK_STORE, count, scale);
    check_normal(t, 1, CHECK_STORE, count, 1);
    check_output(t, 2, CHECK_STORE, count);
    check_run(t, &(struct push_count){count}, 1e-11);
    check_begin(t, KERNEL_SWIGLU_BACK, 0, "back, count %u scale %g", count, scale);
    for (int b = 0; b < 3; b++) check_normal(t, b, CHECK_STORE, count, b ? 1 : scale);
    for (int b = 3; b < 6; b++) check_output(t, b, CHECK_STORE, count);
    check_run(t, &(struct push_count){count}, 1e-11);
}

void check_swiglu(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 4, 31, 32, 33, 127, 128, 129, 1021, 4096, 100003};
    for (size_t i = 0; i < COUNT_OF(counts); i++) check_case(t, counts[i], 1);
    check_case(t, 1021, 40);
}
