// SPDX-License-Identifier: MIT
// smear, its gradients, and softcap: sequences of one row too, a row before the first one, caps
// that bend little and much.
#include <math.h>

#include "check.h"

static void check_rows(struct check *t, uint32_t rows, uint32_t cols, uint32_t seq, uint32_t first,
                       uint32_t back)
{
    check_begin(t, KERNEL_SMEAR, 0, "rows %u cols %u seq %u first %u back %u", rows, cols, seq,
                first, back);
    check_normal(t, 0, CHECK_STORE, (uint64_t)(rows + first) * cols, 1);
    check_normal(t, 1, CHECK_STORE, cols, 2);
    check_output(t, 2, CHECK_STORE, (uint64_t)rows * cols);
    check_run(t, &(struct push_smear){rows, cols, seq, first, back}, 1e-11);
}

static void check_gate(struct check *t, uint32_t rows, uint32_t cols, uint32_t seq)
{
    check_begin(t, KERNEL_SMEAR_BACK_GATE, 0, "gate, rows %u cols %u seq %u", rows, cols, seq);
    check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 1, CHECK_STORE, cols, 2);
    check_normal(t, 2, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 3, DTYPE_F32, cols, 1);
    check_run(t, &(struct push_smear){rows, cols, seq, 0, 1}, 1e-11);
}

// The same where documents of one to four tokens begin within sequences.
static void check_within(struct check *t, uint32_t rows, uint32_t cols, uint32_t seq)
{
    uint32_t begins[64];
    for (uint32_t i = 0, begin = 0; i < rows; i++) {
        const uint32_t place = i % seq;
        if (place == 0 || rng_below(t->seed, 100, i, 2) == 0) begin = place;
        begins[i] = begin;
    }
    for (uint32_t back = 0; back < 2; back++) {
        check_begin(t, KERNEL_SMEAR_WITHIN, 0, "within, rows %u cols %u seq %u back %u", rows,
                    cols, seq, back);
        check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, 1);
        check_normal(t, 1, CHECK_STORE, cols, 2);
        check_output(t, 2, CHECK_STORE, (uint64_t)rows * cols);
        check_words(t, 3, begins, rows);
        check_run(t, &(struct push_smear){rows, cols, seq, 0, back}, 1e-11);
    }
    check_begin(t, KERNEL_SMEAR_BACK_GATE_WITHIN, 0, "within, gate, rows %u cols %u seq %u", rows,
                cols, seq);
    check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 1, CHECK_STORE, cols, 2);
    check_normal(t, 2, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 3, DTYPE_F32, cols, 1);
    check_words(t, 4, begins, rows);
    check_run(t, &(struct push_smear){rows, cols, seq, 0, 1}, 1e-11);
}

static void check_cap(struct check *t, uint32_t count, double scale, float cap)
{
    check_begin(t, KERNEL_SOFTCAP, 0, "softcap %g, %u of scale %g", (double)cap, count, scale);
    check_normal(t, 0, DTYPE_F32, count, scale);
    check_run(t, &(struct push_softcap){count, cap}, 1e-12);
}

static void not_a_number(struct check *t)
{
    const double x[] = {0, NAN, 1, INFINITY, -INFINITY};
    check_begin(t, KERNEL_SOFTCAP, 0, "softcap of NaN and infinity");
    check_values(t, 0, DTYPE_F32, x, COUNT_OF(x));
    if (!check_run_only(t, &(struct push_softcap){COUNT_OF(x), 30})) return;
    const float *y = check_result(t, 0);
    if (!isnan(y[1]) || y[0] != 0 || y[3] != 30 || y[4] != -30)
        check_fail(t, "%g %g %g %g %g", (double)y[0], (double)y[1], (double)y[2], (double)y[3],
                   (double)y[4]);
}

void check_smear(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 128, 512};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        check_rows(t, 12, cols[i], 4, 0, 0);
        check_rows(t, 12, cols[i], 3, 0, 1);
        check_rows(t, 1 + (uint32_t)i, cols[i], 1 + (uint32_t)i, 1, 0);
        check_gate(t, 1 + 6 * (uint32_t)i, cols[i], 1 + 2 * (uint32_t)i % 3);
    }
    static const uint32_t lengths[] = {1, 20, 60};
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_within(t, 60, cols[i], lengths[i % 3]);
    check_rows(t, 5, 64, 1, 0, 0);
    check_rows(t, 5, 64, 1, 0, 1);
    check_gate(t, 1030, 64, 103);
    static const double scales[] = {0, 1e-3, 0.1, 1, 10, 1000};
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        check_cap(t, 309 + (uint32_t)i, scales[i], 30);
        check_cap(t, 1, scales[i], 0.5f);
    }
    not_a_number(t);
}
