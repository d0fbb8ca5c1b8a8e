// SPDX-License-Identifier: MIT
// Checks of the muon operations: odd matrices, all that move and some that do not, Nesterov and
// plain, the skipped step. That five steps make a matrix nearly orthogonal is for tests/golden.
#include <string.h>

#include "check.h"

static const uint32_t moves[] = {1, 0, 3, 9, 0, 1, 1, 9};

static struct push_muon push_of(uint32_t count, uint32_t rows, uint32_t matrices)
{
    struct push_muon push = {.each = {.count = count, .matrices = matrices, .nesterov = count & 1,
                                      .copy = 1, .rate = 0.5f, .weight_decay = 0.1f,
                                      .beta1 = 0.95f, .scale = 1.25f},
                             .rows = rows, .tile_rows = 8, .columns = 3, .row_groups = 2};
    if (matrices > 1)
        push.each.first = 1, push.each.experts = 3, push.each.per_layer = 6, push.each.stride = 4;
    return push;
}

static bool is_moved(const struct push_muon *push, uint32_t matrix)
{
    const uint32_t at = push->each.first + matrix;
    return !push->each.experts ||
           moves[at / push->each.per_layer * push->each.stride + at % push->each.experts];
}

// What does not move keeps every byte.
static void compare_still(struct check *t, const struct push_muon *push, int b, uint32_t bytes)
{
    for (uint32_t i = 0; i < push->each.matrices; i++)
        if (!is_moved(push, i) && memcmp((const uint8_t *)check_result(t, b) + (size_t)i * bytes,
                                         t->binding[b].initial + (size_t)i * bytes, bytes) != 0)
            check_fail(t, "matrix %u: binding %d moved", i, b);
}

static void momentum(struct check *t, uint32_t count, uint32_t matrices, double finite)
{
    const struct push_muon push = push_of(count, 1, matrices);
    const uint32_t parts = ceil_div(count, MUON_BLOCK);
    check_begin(t, KERNEL_MUON_MOMENTUM, 0, "momentum, %u of %u finite %g", matrices, count,
                finite);
    check_values(t, 0, DTYPE_F32, (double[4]){1, 0.3, finite, 0}, 4);
    check_normal(t, 1, DTYPE_F32, count * matrices, 1);
    check_normal(t, 2, DTYPE_F32, count * matrices, 1);
    check_words(t, 3, moves, COUNT_OF(moves));
    check_normal(t, 4, DTYPE_F32, count * matrices, 1);
    check_normal(t, 5, DTYPE_F32, parts * matrices, 1);
    if (check_run(t, &push, 1e-11)) compare_still(t, &push, 2, 4 * count);
    check_begin(t, KERNEL_MUON_SCALE, 0, "scale, %u of %u", matrices, count);
    check_normal(t, 0, DTYPE_F32, parts * matrices, 1);
    for (uint32_t i = 0; i < parts * matrices; i++) {
        float *value = (float *)(void *)t->binding[0].initial + i;
        *value *= *value;
    }
    check_words(t, 1, moves, COUNT_OF(moves));
    check_normal(t, 2, DTYPE_F32, count * matrices, 1);
    if (check_run(t, &push, 1e-11)) compare_still(t, &push, 2, 4 * count);
}

static void tables(struct check *t, uint32_t rows, uint32_t matrices)
{
    const struct push_muon push = push_of(rows * rows, rows, matrices);
    const uint32_t tiles = matrices * ceil_div(rows, push.tile_rows);
    check_begin(t, KERNEL_MUON_TABLES, 0, "tables, %u of %u rows", matrices, rows);
    check_words(t, 0, moves, COUNT_OF(moves));
    check_output(t, 1, DTYPE_U32, 4 * (tiles + 1));
    check_output(t, 2, DTYPE_U32, 4 * (matrices + 1));
    check_output(t, 3, DTYPE_U32, 8);
    check_run(t, &push, 0);
    check_begin(t, KERNEL_MUON_MIX, 0, "mix, %u of %u rows", matrices, rows);
    check_words(t, 0, moves, COUNT_OF(moves));
    check_normal(t, 1, DTYPE_F32, rows * rows * matrices, 0.1);
    check_normal(t, 2, DTYPE_F32, rows * rows * matrices, 0.1);
    if (check_run(t, &push, 1e-12)) compare_still(t, &push, 2, 4 * rows * rows);
}

static void update(struct check *t, uint32_t count, uint32_t matrices, double finite)
{
    const struct push_muon push = push_of(count, 1, matrices);
    check_begin(t, KERNEL_MUON_UPDATE, 0, "update, %u of %u finite %g", matrices, count, finite);
    check_step(t, 0, &(struct step_words){.learning_rate = 0.02f});
    check_values(t, 1, DTYPE_F32, (double[4]){1, 0.3, finite, 0}, 4);
    check_normal(t, 2, DTYPE_F32, count * matrices, 1);
    check_normal(t, 3, DTYPE_F32, count * matrices, 1);
    check_normal(t, 4, CHECK_STORE, count * matrices, 1);
    check_words(t, 5, moves, COUNT_OF(moves));
    if (check_run(t, &push, 1e-12)) compare_still(t, &push, 3, 4 * count);
}

void check_muon(struct check *t)
{
    static const uint32_t counts[] = {1, 3, 32, 33, 128, 1000, 1024, 1025, 5003},
                          rows[] = {1, 2, 3, 8, 31, 33};
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (uint32_t matrices = 1; matrices < 11; matrices += 9) {
            if (t->store == DTYPE_F32) momentum(t, counts[i], matrices, 1);
            update(t, counts[i], matrices, 1);
        }
    update(t, 33, 10, 0);
    if (t->store == DTYPE_F32) momentum(t, 1025, 10, 0);
    for (size_t i = 0; i < COUNT_OF(rows) && t->store == DTYPE_F32; i++)
        for (uint32_t matrices = 1; matrices < 11; matrices += 9) tables(t, rows[i], matrices);
}
