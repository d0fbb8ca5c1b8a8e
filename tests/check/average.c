// SPDX-License-Identifier: MIT
// Check of average: odd counts; a share, all of the way over what is no number, and no step.
#include <math.h>
#include <string.h>

#include "check.h"

static void one_case(struct check *t, uint32_t count, float share)
{
    const struct push_count push = {count};
    check_begin(t, KERNEL_AVERAGE, 0, "n %u share %g", count, (double)share);
    check_step(t, 0, &(struct step_words){.step = 3, .average = share});
    check_normal(t, 1, DTYPE_F32, count, 1);
    if (share == 1) check_output(t, 2, DTYPE_F32, count);
    else check_normal(t, 2, DTYPE_F32, count, 1);
    if (!check_run(t, &push, 1e-13)) return;
    if (share == 1 && memcmp(check_result(t, 2), t->binding[1].initial, 4 * count) != 0)
        check_fail(t, "not a copy");
    if (share == 0 && memcmp(check_result(t, 2), t->binding[2].initial, 4 * count) != 0)
        check_fail(t, "moved");
}

void check_average(struct check *t)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 31, 32, 33, 127, 128, 129, 1000, 10007};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        one_case(t, counts[i], 0.002f);
        one_case(t, counts[i], 1);
        one_case(t, counts[i], 0);
    }
}
