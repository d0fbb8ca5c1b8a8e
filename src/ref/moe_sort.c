// SPDX-License-Identifier: MIT
// References of moe_count, moe_scan, moe_scatter and moe_place: a stable counting sort of the pairs
// by expert, and the tiles of the grouped matmuls, of all experts or of some at their slots; of
// moe_widths.
#include "ref.h"

static uint32_t block_end(const struct push_moe_sort *push, uint32_t b)
{
    return (uint32_t)min_u64(push->pairs, ((uint64_t)b + 1) * push->block);
}

void ref_moe_count(const struct gpu_ref_call *call)
{
    const struct push_moe_sort *push = call->push;
    const uint32_t *ids = call->buffer[0];
    uint32_t *counts = call->buffer[1], *totals = call->buffer[2];
    memset(counts, 0, (size_t)push->blocks * push->experts * sizeof *counts);
    for (uint32_t b = 0; b < push->blocks; b++)
        for (uint32_t p = b * push->block; p < block_end(push, b); p++)
            if (ids[p] < push->experts) {
                counts[(size_t)b * push->experts + ids[p]]++;
                if (push->slices > 1) totals[ids[p]]++;
            }
}

// What the grouped matmuls go by: of moe_scan, and of moe_place.
struct tables {
    uint32_t (*tiles)[4], (*ranges)[4], (*indirect)[4];
    uint32_t tile_rows, max_tiles, tile, range; // tile, range: how many there are
};

// Sorted rows [first, end) are the expert's.
static void add_expert(struct tables *to, uint32_t expert, uint32_t first, uint32_t end)
{
    for (uint32_t row = first; row < end && to->tile < to->max_tiles; row += to->tile_rows) {
        const uint32_t words[4] = {expert, row, min_u32(to->tile_rows, end - row), 0};
        memcpy(to->tiles[to->tile++], words, sizeof words);
    }
    const uint32_t words[4] = {expert, first, end - first, 0};
    if (end > first) memcpy(to->ranges[to->range++], words, sizeof words);
}

static void close_tables(struct tables *to, const uint32_t columns[MOE_GRIDS],
                         const uint32_t rows[2])
{
    memset(to->tiles[to->tile], 0, sizeof *to->tiles);
    memset(to->ranges[to->range], 0, sizeof *to->ranges);
    for (int i = 0; i < MOE_GRIDS; i++) {
        const bool tiled = i < MOE_GRID_DOWN_WEIGHT;
        const uint32_t words[4] = {columns[i], tiled ? to->tile : rows[i - MOE_GRID_DOWN_WEIGHT],
                                   tiled ? 1 : to->range, 0};
        memcpy(to->indirect[i], words, sizeof words);
    }
}

void ref_moe_scan(const struct gpu_ref_call *call)
{
    const struct push_moe_sort *push = call->push;
    uint32_t *counts = call->buffer[0], *offsets = call->buffer[2];
    struct tables to = {call->buffer[3], call->buffer[4], call->buffer[5], push->tile_rows,
                        push->max_tiles, 0, 0};
    uint32_t position = 0;
    for (uint32_t e = 0; e < push->experts; e++) {
        offsets[e] = position;
        for (uint32_t b = 0; b < push->blocks; b++) {
            uint32_t *entry = &counts[(size_t)b * push->experts + e];
            const uint32_t count = *entry;
            *entry = position;
            position += count;
        }
        add_expert(&to, e, offsets[e], position);
    }
    offsets[push->experts] = position;
    close_tables(&to, push->columns, push->rows);
}

void ref_moe_widths(const struct gpu_ref_call *call)
{
    const struct push_moe_widths *push = call->push;
    const uint32_t *widths = call->buffer[0];
    for (uint32_t i = 0; i < push->count; i++) {
        const bool tile = i < push->tiles;
        uint32_t *entry = (uint32_t *)call->buffer[tile ? 1 : 2] + 4 * (tile ? i : i - push->tiles);
        if (entry[2] > 0 && entry[0] < push->experts) entry[3] = widths[entry[0]];
    }
}

void ref_moe_scatter(const struct gpu_ref_call *call)
{
    const struct push_moe_sort *push = call->push;
    const uint32_t *ids = call->buffer[0], *first = call->buffer[1];
    uint32_t *order = call->buffer[2], *inverse = call->buffer[3];
    uint32_t *next = malloc(push->experts * sizeof *next);
    for (uint32_t b = 0; b < push->blocks; b++) {
        memcpy(next, first + (size_t)b * push->experts, push->experts * sizeof *next);
        for (uint32_t p = b * push->block; p < block_end(push, b); p++) {
            inverse[p] = ids[p] < push->experts ? next[ids[p]]++ : KERNEL_NONE_ID;
            if (inverse[p] != KERNEL_NONE_ID) order[inverse[p]] = p;
        }
    }
    free(next);
}

void ref_moe_place(const struct gpu_ref_call *call)
{
    const struct push_moe_place *push = call->push;
    const uint32_t (*ranges)[4] = call->buffer[0], *slots = call->buffer[1];
    struct tables to = {call->buffer[2], call->buffer[3], call->buffer[4], push->tile_rows,
                        push->max_tiles, 0, 0};
    for (uint32_t i = 0; i < push->ranges && ranges[i][2] > 0; i++) {
        const uint32_t place = push->own ? ranges[i][0] : slots[i], slot = place - push->first;
        if (place < push->first || slot >= push->count) continue;
        add_expert(&to, slot, ranges[i][1], ranges[i][1] + ranges[i][2]);
    }
    close_tables(&to, push->columns, push->rows);
}
