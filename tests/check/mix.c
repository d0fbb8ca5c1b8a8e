// SPDX-License-Identifier: MIT
// mix, column_sum, column_sumf, moe_column_sum and moe_bias_back: all kinds of factors, in place,
// odd widths, experts without rows, dropped pairs.
#include <stdlib.h>

#include "check.h"

static uint64_t factor_count(uint32_t is, uint32_t cols)
{
    return is == FACTOR_COLUMN ? cols : is == FACTOR_NUMBER ? 1 : 0;
}

static void check_mixed(struct check *t, uint32_t rows, uint32_t cols, uint32_t a, uint32_t b)
{
    const uint64_t count = (uint64_t)rows * cols;
    check_begin(t, KERNEL_MIX, 0, "rows %u cols %u factors %u %u", rows, cols, a, b);
    check_normal(t, 0, CHECK_STORE, count, 1);
    check_normal(t, 1, CHECK_STORE, b == FACTOR_ABSENT ? 1 : count, 1);
    check_normal(t, 2, CHECK_STORE, max_u64(factor_count(a, cols), 1), 1);
    check_normal(t, 3, CHECK_STORE, max_u64(factor_count(b, cols), 1), 1);
    check_output(t, 4, CHECK_STORE, count);
    check_run(t, &(struct push_mix){rows, cols, a, b}, 1e-12);
}

static void check_columns(struct check *t, enum kernel_op op, uint32_t rows, uint32_t cols,
                          uint32_t product)
{
    const int type = op == KERNEL_COLUMN_SUMF ? (int)DTYPE_F32 : CHECK_STORE;
    check_begin(t, op, 0, "rows %u cols %u product %u", rows, cols, product);
    check_normal(t, 0, type, (uint64_t)rows * cols, 1);
    check_normal(t, 1, type, (uint64_t)rows * cols, 1);
    check_normal(t, 2, DTYPE_F32, cols, 1);
    // one column may sum up to little
    check_run(t, &(struct push_column_sum){rows, cols, product}, cols == 1 ? 1e-8 : 1e-11);
}

// Pairs sorted by expert, expert 1 without rows, and a pair that no expert has.
struct routed { uint32_t *ids, *order, *offsets, pairs; };

static struct routed route(struct check *t, uint32_t tokens, uint32_t top_k, uint32_t experts)
{
    struct routed r = {.pairs = tokens * top_k};
    r.ids = calloc(r.pairs, 4), r.order = calloc(r.pairs, 4), r.offsets = calloc(experts + 1, 4);
    for (uint32_t p = 0; p < r.pairs; p++) {
        r.ids[p] = (uint32_t)check_random(t, experts);
        if (r.ids[p] == 1) r.ids[p] = 0;
        if (p == r.pairs / 2) r.ids[p] = KERNEL_NONE_ID;
    }
    uint32_t row = 0;
    for (uint32_t e = 0; e < experts; e++) {
        r.offsets[e] = row;
        for (uint32_t p = 0; p < r.pairs; p++)
            if (r.ids[p] == e) r.order[row++] = p;
    }
    r.offsets[experts] = row;
    return r;
}

static void check_experts(struct check *t, uint32_t tokens, uint32_t top_k, uint32_t experts,
                          uint32_t cols, uint32_t gather)
{
    struct routed r = route(t, tokens, top_k, experts);
    check_begin(t, KERNEL_MOE_COLUMN_SUM, 0, "T%u k%u E%u cols %u gather %u", tokens, top_k,
                experts, cols, gather);
    check_normal(t, 0, CHECK_STORE, (uint64_t)(gather ? tokens : r.pairs) * cols, 1);
    check_words(t, 1, r.order, r.pairs);
    check_words(t, 2, r.offsets, experts + 1);
    check_normal(t, 3, DTYPE_F32, r.pairs, 1);
    check_normal(t, 4, DTYPE_F32, (uint64_t)experts * cols, 1);
    check_run(t, &(struct push_moe_column_sum){experts, cols, top_k, gather}, 1e-11);
    check_begin(t, KERNEL_MOE_BIAS_BACK, 0, "T%u k%u E%u cols %u", tokens, top_k, experts, cols);
    check_normal(t, 0, CHECK_STORE, (uint64_t)tokens * cols, 1);
    check_words(t, 1, r.ids, r.pairs);
    check_normal(t, 2, CHECK_STORE, (uint64_t)experts * cols, 1);
    check_normal(t, 3, DTYPE_F32, r.pairs, 1);
    check_run(t, &(struct push_moe_bias_back){r.pairs, experts, cols, top_k}, 1e-11);
    free(r.ids), free(r.order), free(r.offsets);
}

void check_mix(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 127, 128, 512};
    for (size_t i = 0; i < COUNT_OF(cols); i++) {
        for (uint32_t way = 0; way < 12; way++)
            check_mixed(t, 5, cols[i], way % 3, way / 3);
        check_columns(t, KERNEL_COLUMN_SUM, 1 + 7 * (uint32_t)i, cols[i], i % 2);
        check_columns(t, KERNEL_COLUMN_SUM, 3, cols[i], (i + 1) % 2);
        check_columns(t, KERNEL_COLUMN_SUMF, 70, cols[i], i % 2);
        check_experts(t, 13, 1 + (uint32_t)i % 3, 5, cols[i], i % 2);
    }
    check_mixed(t, 40000, 8, FACTOR_COLUMN, FACTOR_COLUMN); // the grid is folded
    check_columns(t, KERNEL_COLUMN_SUM, 4099, 64, 1);
    check_columns(t, KERNEL_COLUMN_SUMF, 4099, 1, 0);
    check_experts(t, 300, 2, 64, 32, 1);
    check_experts(t, 1, 2, 3, 64, 0);
}
