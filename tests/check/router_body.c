// SPDX-License-Identifier: MIT
// What the cosine body of a router is made of: column_scale and column_scalef, row_inverse,
// row_project; odd widths, rows of zeros, factors of one table or from each row's own place on.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static void scale(struct check *t, enum kernel_op op, uint32_t rows, uint32_t cols, uint32_t based)
{
    const int type = op == KERNEL_COLUMN_SCALEF ? (int)DTYPE_F32 : CHECK_STORE;
    const uint32_t tables = 3;
    uint32_t *base = calloc(rows, sizeof *base);
    for (uint32_t r = 0; r < rows; r++) base[r] = (uint32_t)check_random(t, tables) * cols;
    check_begin(t, op, 0, "rows %u cols %u based %u", rows, cols, based);
    check_normal(t, 0, DTYPE_F32, (uint64_t)tables * cols, 2);
    check_words(t, 1, base, rows);
    check_normal(t, 2, type, (uint64_t)rows * cols, 1);
    check_run(t, &(struct push_column_scale){rows, cols, based, 0.3f}, 1e-12);
    free(base);
}

// Of `value` 0 the rows have no direction: their inverse is 0.
static void inverse(struct check *t, uint32_t rows, uint32_t cols, double value)
{
    check_begin(t, KERNEL_ROW_INVERSE, 0, "rows %u cols %u scale %g", rows, cols, value);
    check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, value);
    check_output(t, 1, DTYPE_F32, rows);
    check_run(t, &(struct push_norm){.rows = rows, .cols = cols}, 1e-12);
    const float *out = check_result(t, 1);
    for (uint32_t r = 0; out && r < rows; r++)
        if (!isfinite(out[r]) || (out[r] != 0) != (value != 0))
            check_fail(t, "row %u: %g", r, (double)out[r]);
}

// In f32 what is left is at right angles to x, for the inverse is that of the reference.
static void project(struct check *t, uint32_t rows, uint32_t cols)
{
    const uint64_t cells = (uint64_t)rows * cols;
    const struct push_norm push = {.rows = rows, .cols = cols};
    uint8_t *x = malloc(cells * 4);
    float *lengths = malloc(rows * sizeof *lengths);
    double *values = malloc(cells * sizeof *values);
    for (uint64_t i = 0; i < cells; i++) {
        dtype_store(x, i, t->store, rng_normal(t->seed, 99, i));
        values[i] = dtype_load(x, i, t->store);
    }
    const struct gpu_ref_call call = {.push = &push, .tag = t->store, .buffer = {x, lengths}};
    kernel_info(KERNEL_ROW_INVERSE)->ref(&call);
    check_begin(t, KERNEL_ROW_PROJECT, 0, "rows %u cols %u", rows, cols);
    check_values(t, 0, CHECK_STORE, values, cells);
    check_words(t, 1, (const uint32_t *)lengths, rows);
    check_normal(t, 2, DTYPE_F32, cells, 1);
    if (cols == 1) { // nothing is left of it: there is no relative error
        check_run_only(t, &push);
    } else {
        check_run(t, &push, 1e-11);
    }
    const float *g = check_result(t, 2);
    for (uint32_t r = 0; g && r < rows; r++) {
        double along = 0;
        for (uint32_t c = 0; c < cols; c++)
            along += (double)g[r * cols + c] * values[r * cols + c] * (double)lengths[r];
        if (!(fabs(along) < 1e-5 * sqrt(cols))) check_fail(t, "row %u: %g along x", r, along);
    }
    free(x), free(lengths), free(values);
}

void check_router_body(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        for (uint32_t based = 0; based < 2; based++) {
            scale(t, KERNEL_COLUMN_SCALE, 5, cols[i], based);
            if (t->store == DTYPE_F32) scale(t, KERNEL_COLUMN_SCALEF, 5, cols[i], based);
        }
        inverse(t, 5, cols[i], 1);
        project(t, 5, cols[i]);
    }
    scale(t, KERNEL_COLUMN_SCALE, 40000, 3, 1); // the grid is folded
    inverse(t, 3, 128, 0);
    inverse(t, 3, 128, 100);
    inverse(t, 40000, 8, 1);
    project(t, 33000, 4);
}
