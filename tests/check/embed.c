// SPDX-License-Identifier: MIT
// embed and select_row: exact copies of rows; ids outside the vocabulary give zeros.
#include "check.h"

// `first`: the table is a window, whose rows are the ids from there on
static void check_rows(struct check *t, uint32_t rows, uint32_t cols, uint32_t vocab,
                       uint32_t first)
{
    uint32_t ids[300];
    for (uint32_t i = 0; i < rows; i++) ids[i] = (uint32_t)check_random(t, first + vocab + 2);
    ids[0] = first + vocab - 1;
    if (rows > 2) ids[1] = KERNEL_NONE_ID, ids[2] = first + vocab;
    check_begin(t, KERNEL_EMBED, 0, "rows %u cols %u vocab %u from %u", rows, cols, vocab,
                first);
    check_words(t, 0, ids, rows);
    check_normal(t, 1, CHECK_STORE, (uint64_t)vocab * cols, 1);
    check_output(t, 2, CHECK_STORE, (uint64_t)rows * cols);
    check_run(t, &(struct push_embed){rows, cols, vocab, first}, 0);
}

static void check_select(struct check *t, uint32_t rows, uint32_t length, uint32_t cols)
{
    check_begin(t, KERNEL_SELECT_ROW, 0, "row %u of %u, cols %u", length, rows, cols);
    check_step(t, 0, &(struct step_words){.length = length});
    check_normal(t, 1, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_output(t, 2, CHECK_STORE, cols);
    check_run(t, &(struct push_embed){.rows = rows, .cols = cols}, 0);
}

void check_embed(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 4, 31, 32, 33, 64, 127, 128, 768};
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_rows(t, 7, cols[i], 13, i % 2 * 5);
    check_rows(t, 1, 128, 1, 0);
    check_rows(t, 300, 64, 259, 0);
    check_rows(t, 300, 64, 128, 128);
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_select(t, 5, 1 + (uint32_t)i % 5, cols[i]);
    check_select(t, 1, 1, 64);
    check_select(t, 33, 32, 768);
}
