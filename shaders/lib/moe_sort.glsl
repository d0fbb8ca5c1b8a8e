// SPDX-License-Identifier: MIT
// The push words of the expert sort: struct push_moe_sort of src/kernel.h.
layout(push_constant) uniform Push {
    uint pairs, experts, block, blocks, slices, tile_rows, max_tiles, columns[6], rows[2];
};
