// SPDX-License-Identifier: MIT
// norm_back and norm_back_weight: gradients of RMSNorm, overwriting and adding.
#include "check.h"

#include <math.h>
#include <stdlib.h>

// rstd as norm leaves it, of x in binding 0
static void fill_rstd(struct check *t, int b, uint32_t rows, uint32_t cols)
{
    double *rstd = calloc(rows, sizeof *rstd);
    for (uint32_t r = 0; r < rows; r++) {
        double sum = 0;
        for (uint32_t c = 0; c < cols; c++) {
            const double x = dtype_load(t->binding[0].initial, (size_t)r * cols + c, t->store);
            sum += x * x;
        }
        rstd[r] = 1 / sqrt(sum / cols + 1e-5);
    }
    check_values(t, b, DTYPE_F32, rstd, rows);
    free(rstd);
}

static void input_case(struct check *t, uint32_t rows, uint32_t cols, bool accumulate,
                       uint32_t weights)
{
    const uint64_t count = (uint64_t)rows * cols;
    check_begin(t, KERNEL_NORM_BACK, 0, "rows %u cols %u%s weights %u", rows, cols,
                accumulate ? " accumulate" : "", weights);
    check_normal(t, 0, CHECK_STORE, count, 1);
    check_normal(t, 1, CHECK_STORE, weights == KERNEL_NONE_ID ? 1 : weights ? weights : cols, 1);
    fill_rstd(t, 2, rows, cols);
    check_normal(t, 3, CHECK_STORE, count, 1);
    if (accumulate) check_normal(t, 4, CHECK_STORE, count, 1);
    else check_output(t, 4, CHECK_STORE, count);
    // one column: g - xhat mean(g xhat) cancels to nothing but eps
    const double tolerance = cols == 1 && !accumulate ? 1e-2 : 1e-11;
    check_run(t, &(struct push_norm){rows, cols, accumulate, 1e-5f, weights}, tolerance);
}

static void check_input(struct check *t, uint32_t rows, uint32_t cols, bool accumulate)
{
    input_case(t, rows, cols, accumulate, 0);
}

static void check_weight(struct check *t, uint32_t rows, uint32_t cols)
{
    const uint64_t count = (uint64_t)rows * cols;
    check_begin(t, KERNEL_NORM_BACK_WEIGHT, 0, "weight, rows %u cols %u", rows, cols);
    check_normal(t, 0, CHECK_STORE, count, 1);
    fill_rstd(t, 1, rows, cols);
    check_normal(t, 2, CHECK_STORE, count, 1);
    check_normal(t, 3, DTYPE_F32, cols, 1);
    check_run(t, &(struct push_norm){rows, cols, 1, 1e-5f, 0}, 1e-11);
}

void check_norm_back(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 128, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        check_input(t, 5, cols[i], false);
        check_input(t, 3, cols[i], true);
        input_case(t, 6, cols[i], i % 2, 3);
        input_case(t, 5, cols[i], true, KERNEL_NONE_ID);
        check_weight(t, 1 + 4 * (uint32_t)i, cols[i]);
    }
    check_input(t, 1, 128, false);
    check_input(t, 1031, 64, false);
    check_weight(t, 1031, 64);
    check_weight(t, 512, 128);
    check_weight(t, 2, 1);
}
