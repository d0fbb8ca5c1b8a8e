// SPDX-License-Identifier: MIT
// KERNEL_MOE_SCAN (src/kernel.h): from the counts of (block, expert) to first sorted positions, the
// row range of each expert, the tiles of the grouped matmuls, and their indirect grids. One
// workgroup in all; LANES experts at a time, one a lane, blocks in a loop, eight a turn (lavapipe
// ends every loop of an invocation after 65,535 turns in all, and more loads are under way).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) buffer Counts { uint counts[]; };
layout(binding = 1) writeonly buffer Offsets { uint offsets[]; };
layout(binding = 2) writeonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 3) writeonly buffer Indirect { uvec4 indirect[4]; };
layout(push_constant) uniform Push {
    uint pairs, experts, block, blocks, tile_rows, max_tiles, columns[4];
};

uint tile_count(uint rows) { return (rows + tile_rows - 1) / tile_rows; }

void main()
{
    uint first_row = 0, first_tile = 0; // of these LANES experts
    for (uint base = 0; base < experts; base += LANES) {
        const uint e = base + LANE;
        uint rows = 0;
        if (e < experts)
            for (uint b = 0; b < blocks; b += 8)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    if (b + i < blocks) rows += counts[(b + i) * experts + e];
        uint all_rows, all_tiles;
        const uint begin = first_row + scan_add(rows, all_rows);
        const uint tile = first_tile + scan_add(tile_count(rows), all_tiles);
        first_row += all_rows;
        first_tile += all_tiles;
        if (e >= experts) continue;

        offsets[e] = begin;
        uint position = begin;
        for (uint b = 0; b < blocks; b += 8)
            [[unroll]] for (uint i = 0; i < 8; i++)
                if (b + i < blocks) {
                    const uint at = (b + i) * experts + e, count = counts[at];
                    counts[at] = position;
                    position += count;
                }
        for (uint i = 0; i < tile_count(rows) && tile + i < max_tiles; i++) {
            const uint done = i * tile_rows;
            tiles[tile + i] = uvec4(e, begin + done, min(tile_rows, rows - done), 0);
        }
    }
    if (LANE != 0) return;
    offsets[experts] = first_row;
    for (uint i = 0; i < 4; i++) indirect[i] = uvec4(columns[i], min(first_tile, max_tiles), 1, 0);
}
