// SPDX-License-Identifier: MIT
// gate_rows and its way back: aligned rows and others, logits far out.
#include "check.h"

static void gate(struct check *t, uint32_t rows, uint32_t cols, double scale)
{
    check_begin(t, KERNEL_GATE_ROWS, 0, "rows %u cols %u scale %g", rows, cols, scale);
    check_normal(t, 0, DTYPE_F32, rows, scale);
    check_normal(t, 1, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_output(t, 2, DTYPE_F32, rows);
    check_output(t, 3, DTYPE_U32, rows);
    check_run(t, &(struct push_gate_rows){rows, cols}, 1e-11);
}

static void back(struct check *t, uint32_t rows)
{
    check_begin(t, KERNEL_GATE_ROWS_BACK, 0, "back, rows %u", rows);
    check_normal(t, 0, DTYPE_F32, rows, 1);
    check_normal(t, 1, DTYPE_F32, rows, 0.5);
    check_output(t, 2, CHECK_STORE, rows);
    check_run(t, &(struct push_count){rows}, 1e-11);
}

void check_gate_rows(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 4, 31, 32, 33, 64, 127, 128, 512};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        gate(t, 1 + 4 * (uint32_t)i, cols[i], i % 2 ? 1 : 30);
        back(t, cols[i]);
    }
    gate(t, 1030, 64, 3);
    back(t, 4099);
}
