// SPDX-License-Identifier: MIT
// cast: rounded to nearest even, bit by bit as the host rounds.
#include "check.h"

static void check_case(struct check *t, uint32_t count, double scale)
{
    check_begin(t, KERNEL_CAST, 0, "count %u scale %g", count, scale);
    check_normal(t, 0, DTYPE_F32, count, scale);
    check_output(t, 1, CHECK_STORE, count);
    if (!check_run(t, &(struct push_count){count}, 0)) return;
    for (uint32_t i = 0; i < count; i++) {
        const double x = dtype_load(t->binding[0].initial, i, DTYPE_F32);
        uint32_t want[1];
        dtype_store(want, 0, t->store, x);
        if (dtype_load(check_result(t, 1), i, t->store) == dtype_load(want, 0, t->store)) continue;
        check_fail(t, "element %u: %.9g became %.9g", i, x,
                   dtype_load(check_result(t, 1), i, t->store));
        return;
    }
}

void check_cast(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 31, 32, 33, 127, 128, 129, 1021, 100003};
    for (size_t i = 0; i < COUNT_OF(counts); i++) check_case(t, counts[i], 1);
    check_case(t, 1021, 1e-3);
    check_case(t, 1021, 1000);
}
