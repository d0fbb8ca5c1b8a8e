// SPDX-License-Identifier: MIT
// Checks of moe_count, moe_scan and moe_scatter: each against its reference, and the three chained
// on the device against a plain stable sort of (expert, pair). Empty experts, all pairs to one,
// dropped pairs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum kind { KIND_UNIFORM, KIND_ONE, KIND_SKEWED, KIND_DROPPED, KIND_NONE, KIND_COUNT };

struct sorted {
    struct push_moe_sort push;
    uint32_t            *ids, *counts, *totals, *offsets, *order, *inverse;
};

static uint32_t pick(struct check *t, enum kind kind, uint64_t stream, uint32_t p, uint32_t experts)
{
    const uint32_t e = (uint32_t)rng_below(t->seed, stream, p, experts);
    switch (kind) {
    case KIND_UNIFORM: break;
    case KIND_ONE: return experts / 2;
    case KIND_SKEWED: return p % 3 ? e / 7 : e;
    case KIND_DROPPED: return p % 3 == 1 ? KERNEL_NONE_ID : p % 5 == 2 ? experts : e;
    case KIND_NONE: return KERNEL_NONE_ID;
    case KIND_COUNT: break;
    }
    return e;
}

static uint32_t *copy_result(struct check *t, int b, uint64_t count)
{
    uint32_t *words = calloc(count, sizeof *words);
    if (check_result(t, b)) memcpy(words, check_result(t, b), count * sizeof *words);
    return words;
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// The chained result against a sort that has nothing in common with the kernels.
static void compare_with_sort(struct check *t, const struct sorted *s)
{
    const uint32_t pairs = s->push.pairs;
    uint64_t *key = malloc(pairs * sizeof *key);
    for (uint32_t p = 0; p < pairs; p++) key[p] = (uint64_t)s->ids[p] << 32 | p;
    qsort(key, pairs, sizeof *key, by_key);
    uint32_t row = 0;
    for (; row < pairs && key[row] >> 32 < s->push.experts; row++) {
        const uint32_t p = (uint32_t)key[row], e = (uint32_t)(key[row] >> 32);
        if (s->order[row] != p || s->inverse[p] != row || row < s->offsets[e] ||
            row >= s->offsets[e + 1]) {
            check_fail(t, "row %u: pair %u, stable sort says %u of expert %u", row, s->order[row],
                       p, e);
            break;
        }
    }
    if (s->offsets[s->push.experts] != row)
        check_fail(t, "%u rows, want %u", s->offsets[s->push.experts], row);
    for (uint32_t i = row; i < pairs; i++)
        if (s->inverse[(uint32_t)key[i]] != KERNEL_NONE_ID)
            check_fail(t, "dropped pair %u has a row", (uint32_t)key[i]);
    free(key);
}

// Every row of every expert in exactly one entry, in order, then a zero entry; returns how many.
static uint32_t compare_table(struct check *t, const struct sorted *s, const char *what,
                              uint32_t most, const uint32_t *table)
{
    const uint32_t zero[4] = {0};
    uint32_t at = 0;
    for (uint32_t e = 0; e < s->push.experts; e++)
        for (uint32_t row = s->offsets[e]; row < s->offsets[e + 1]; at++) {
            const uint32_t rows = min_u32(most, s->offsets[e + 1] - row);
            const uint32_t want[4] = {e, row, rows, 0}, *got = table + 4 * at;
            if (memcmp(got, want, sizeof want) != 0) {
                check_fail(t, "%s %u: expert %u row %u rows %u", what, at, got[0], got[1], got[2]);
                return at;
            }
            row += rows;
        }
    if (memcmp(table + 4 * at, zero, sizeof zero) != 0)
        check_fail(t, "%s %u is not the zero one behind the last", what, at);
    return at;
}

static void compare_grids(struct check *t, const struct sorted *s)
{
    const uint32_t tiles =
        compare_table(t, s, "tile", s->push.tile_rows, check_result(t, 3));
    const uint32_t ranges = compare_table(t, s, "range", UINT32_MAX, check_result(t, 4));
    const uint32_t *indirect = check_result(t, 5);
    for (int i = 0; i < MOE_GRIDS; i++) {
        const bool tiled = i < MOE_GRID_DOWN_WEIGHT;
        const uint32_t want[4] = {s->push.columns[i], tiled ? tiles : s->push.rows[i - 4],
                                  tiled ? 1 : ranges, 0};
        const uint32_t *got = indirect + 4 * i;
        if (memcmp(got, want, sizeof want) != 0)
            check_fail(t, "indirect %d: %u %u %u, %u tiles, %u ranges", i, got[0], got[1], got[2],
                       tiles, ranges);
    }
}

static void count_pairs(struct check *t, struct sorted *s, const char *label)
{
    const uint64_t cells = (uint64_t)s->push.blocks * s->push.experts;
    check_begin(t, KERNEL_MOE_COUNT, 0, "%s", label);
    check_words(t, 0, s->ids, s->push.pairs);
    check_output(t, 1, DTYPE_U32, cells);
    s->totals = calloc(s->push.experts, sizeof *s->totals);
    check_words(t, 2, s->totals, s->push.experts);
    check_run(t, &s->push, 0);
    s->counts = copy_result(t, 1, cells);
    free(s->totals);
    s->totals = copy_result(t, 2, s->push.experts);
}

static void scan_counts(struct check *t, struct sorted *s, const char *label)
{
    const uint64_t cells = (uint64_t)s->push.blocks * s->push.experts;
    check_begin(t, KERNEL_MOE_SCAN, 0, "%s", label);
    check_words(t, 0, s->counts, cells);
    check_words(t, 1, s->totals, s->push.experts);
    check_output(t, 2, DTYPE_U32, s->push.experts + 1);
    check_output(t, 3, DTYPE_U32, 4 * ((uint64_t)s->push.max_tiles + 1));
    check_output(t, 4, DTYPE_U32, 4 * ((uint64_t)min_u32(s->push.experts, s->push.pairs) + 1));
    check_output(t, 5, DTYPE_U32, 4 * MOE_GRIDS);
    const bool ok = check_run(t, &s->push, 0);
    free(s->counts);
    s->counts = copy_result(t, 0, cells);
    s->offsets = copy_result(t, 2, s->push.experts + 1);
    if (ok) compare_grids(t, s);
}

static void scatter_pairs(struct check *t, struct sorted *s, const char *label)
{
    check_begin(t, KERNEL_MOE_SCATTER, 0, "%s", label);
    check_words(t, 0, s->ids, s->push.pairs);
    check_words(t, 1, s->counts, (uint64_t)s->push.blocks * s->push.experts);
    check_output(t, 2, DTYPE_U32, s->push.pairs);
    check_output(t, 3, DTYPE_U32, s->push.pairs);
    const bool ok = check_run(t, &s->push, 0);
    s->order = copy_result(t, 2, s->push.pairs);
    s->inverse = copy_result(t, 3, s->push.pairs);
    if (ok) compare_with_sort(t, s);
}

static void sort_case(struct check *t, uint32_t pairs, uint32_t experts, uint32_t block,
                      uint32_t slices, uint32_t tile_rows, enum kind kind)
{
    struct sorted s = {.push = {.pairs = pairs,
                                .experts = experts,
                                .block = block,
                                .blocks = ceil_div(pairs, block),
                                .slices = slices,
                                .tile_rows = tile_rows,
                                .max_tiles = pairs / tile_rows + min_u32(experts, pairs),
                                .columns = {3, 5, 0, 70, 9, 1},
                                .rows = {7, 2}}};
    char label[120];
    snprintf(label, sizeof label, "P %u E %u block %u slices %u tile %u kind %d", pairs, experts,
             block, slices, tile_rows, (int)kind);
    s.ids = malloc(pairs * sizeof *s.ids);
    const uint64_t stream = t->stream++;
    for (uint32_t p = 0; p < pairs; p++) s.ids[p] = pick(t, kind, stream, p, experts);
    count_pairs(t, &s, label);
    scan_counts(t, &s, label);
    scatter_pairs(t, &s, label);
    free(s.ids), free(s.counts), free(s.totals), free(s.offsets), free(s.order), free(s.inverse);
}

static void widths_case(struct check *t, uint32_t experts, uint32_t tiles, uint32_t ranges)
{
    check_begin(t, KERNEL_MOE_WIDTHS, 0, "E %u tiles %u ranges %u", experts, tiles, ranges);
    const uint32_t counts[] = {experts, 4 * tiles, 4 * ranges};
    for (int b = 0; b < 3; b++) {
        uint32_t *words = malloc(counts[b] * sizeof *words);
        for (uint32_t i = 0; i < counts[b]; i++)
            words[i] = (uint32_t)check_random(t, experts + 2); // an end, and experts that are none
        check_words(t, b, words, counts[b]);
        free(words);
    }
    check_run(t, &(struct push_moe_widths){tiles + ranges, tiles, experts}, 0);
}

void check_moe_sort(struct check *t)
{
    widths_case(t, 1, 1, 1), widths_case(t, 3, 7, 2), widths_case(t, 64, 200, 64);
    static const struct { uint32_t pairs, experts, block, slices, tile_rows; } sizes[] = {
        {1, 2, 256, 1, 16},     {2, 2, 1, 2, 1},         {3, 3, 2, 1, 4},
        {31, 8, 256, 1, 16},    {32, 31, 8, 3, 16},      {33, 32, 7, 1, 3},
        {257, 33, 64, 2, 16},   {1024, 8, 256, 1, 16},   {2048, 64, 256, 1, 16},
        {4096, 257, 512, 5, 64}, {2000, 2048, 256, 4, 16},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int kind = 0; kind < KIND_COUNT; kind++)
            sort_case(t, sizes[i].pairs, sizes[i].experts, sizes[i].block, sizes[i].slices,
                      sizes[i].tile_rows, (enum kind)kind);
    // 4096 tokens of top-4 over 20,480 experts, as src/kernel_moe.c cuts it
    for (int kind = 0; kind < KIND_COUNT; kind++)
        sort_case(t, 16384, 20480, 320, 32, 8, (enum kind)kind);
    sort_case(t, 20001, 20480, 1251, 1, 16, KIND_UNIFORM);
    sort_case(t, 20001, 20480, 1251, 64, 16, KIND_SKEWED);
    sort_case(t, 4, 20480, 256, 32, 1, KIND_UNIFORM);
    sort_case(t, 100003, 64, 1024, 1, 16, KIND_DROPPED);
    sort_case(t, 100003, 64, 256, 1, 32, KIND_ONE);
}
