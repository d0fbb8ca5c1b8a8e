// SPDX-License-Identifier: MIT
// The grids of a mixture-of-experts layer: how its pairs are sorted, and how many workgroups its
// grouped matmuls take for the tiles and ranges that the device finds.
#include <string.h>

#include "src/base.h"
#include "src/kernel_device.h"

enum {
    SORT_BLOCK = 256,      // least pairs of a block
    SORT_COUNTS = 1 << 20, // about so many (block, expert) counts at most
    SLICE_EXPERTS = 640,   // experts that a workgroup of moe_scan takes where there are many
    MAX_SLICES = 64,       // each adds up the totals before it by itself
};

static void set_grids(struct kernels *kernels, enum dtype store,
                      const struct kernel_moe_size *s, struct push_moe_sort *push)
{
    const uint32_t hidden = s->hidden, inner = s->inner, rows = s->rows;
    const struct { enum kernel_op op; struct kernel_size size; } grid[MOE_GRIDS] = {
        [MOE_GRID_UP] = {s->gated ? KERNEL_MOE_MATMUL_UP : KERNEL_MOE_MATMUL_ACT,
                         {rows, inner, hidden}},
        [MOE_GRID_DOWN] = {s->logits ? KERNEL_MOE_MATMUL_NTF : KERNEL_MOE_MATMUL_NT,
                           {rows, hidden, inner}},
        [MOE_GRID_BACK_H] = {KERNEL_MOE_MATMUL_NN, {rows, inner, hidden}},
        [MOE_GRID_BACK_X] = {KERNEL_MOE_MATMUL_NN, {rows, hidden, inner}},
        [MOE_GRID_DOWN_WEIGHT] = {KERNEL_MOE_MATMUL_TN, {hidden, inner, rows}},
        [MOE_GRID_UP_WEIGHT] = {KERNEL_MOE_MATMUL_TN, {inner, hidden, rows}},
    };
    for (int i = 0; i < MOE_GRIDS; i++) {
        const struct kernel_size *size = &grid[i].size;
        const struct kernel_shape shape = kernels_shape(kernels, grid[i].op, store, size);
        push->columns[i] = kernel_moe_columns(grid[i].op, &shape, size->columns);
        if (i >= MOE_GRID_DOWN_WEIGHT)
            push->rows[i - MOE_GRID_DOWN_WEIGHT] = ceil_div(size->rows, shape.rows);
        if (i == MOE_GRID_UP) push->tile_rows = shape.rows;
    }
}

struct push_moe_sort kernel_moe_sort(struct kernels *kernels, enum dtype store,
                                     const struct kernel_moe_size *size)
{
    const uint32_t pairs = size->tokens * size->top_k;
    const uint64_t most = (uint64_t)pairs * size->experts / SORT_COUNTS;
    const uint32_t block = max_u32(SORT_BLOCK, (uint32_t)most);
    struct push_moe_sort push = {
        .pairs = pairs,
        .experts = size->experts,
        .block = block,
        .blocks = ceil_div(pairs, block),
        .slices = min_u32(ceil_div(size->experts, SLICE_EXPERTS), MAX_SLICES),
    };
    set_grids(kernels, store, size, &push);
    push.max_tiles = pairs / push.tile_rows + min_u32(size->experts, pairs);
    return push;
}

struct push_moe_place kernel_moe_place(const struct push_moe_sort *sort, uint32_t first,
                                       uint32_t count)
{
    struct push_moe_place push = {.ranges = min_u32(sort->experts, sort->pairs),
                                  .first = first,
                                  .count = count,
                                  .tile_rows = sort->tile_rows,
                                  .max_tiles = sort->max_tiles};
    memcpy(push.columns, sort->columns, sizeof push.columns);
    memcpy(push.rows, sort->rows, sizeof push.rows);
    return push;
}
