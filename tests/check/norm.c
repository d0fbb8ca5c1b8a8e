// SPDX-License-Identifier: MIT
// norm: rows of odd and real widths, in place too, rows of zeros and of large values.
#include "check.h"

static void run_case(struct check *t, uint32_t rows, uint32_t cols, double scale, float eps,
                     uint32_t weights)
{
    check_begin(t, KERNEL_NORM, 0, "rows %u cols %u scale %g eps %g weights %u", rows, cols, scale,
                (double)eps, weights);
    check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, scale);
    check_normal(t, 1, CHECK_STORE, weights == KERNEL_NONE_ID ? 1 : weights ? weights : cols, 1);
    check_output(t, 2, CHECK_STORE, (uint64_t)rows * cols);
    check_output(t, 3, DTYPE_F32, rows);
    check_run(t, &(struct push_norm){.rows = rows, .cols = cols, .eps = eps, .weights = weights},
              1e-12);
}

static void check_case(struct check *t, uint32_t rows, uint32_t cols, double scale, float eps)
{
    run_case(t, rows, cols, scale, eps, 0);
}

void check_norm(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 128, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        check_case(t, 5, cols[i], 1, 1e-5f);
        run_case(t, 6, cols[i], 1, 1.2e-7f, 3); // a weight a row
        run_case(t, 4, cols[i], 1, 1.2e-7f, KERNEL_NONE_ID);
    }
    check_case(t, 1, 128, 1, 1e-6f);
    check_case(t, 1031, 64, 1, 1e-6f); // queries of all heads, as QK-norm has them
    check_case(t, 40000, 8, 1, 1e-6f); // the grid is folded
    check_case(t, 3, 128, 0, 1e-5f);
    check_case(t, 3, 128, 100, 1e-5f);
    check_case(t, 3, 128, 1e-4, 1e-5f);
}
