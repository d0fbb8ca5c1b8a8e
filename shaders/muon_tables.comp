// SPDX-License-Identifier: MIT
// KERNEL_MUON_TABLES (src/kernel.h): the tiles and ranges of the matrices that move, for the
// grouped matmuls, and their grids. One workgroup, LANES matrices at a time, one a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) readonly buffer Moves { uint moves[]; };
layout(binding = 1) writeonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 2) writeonly buffer Ranges { uvec4 ranges[]; };
layout(binding = 3) writeonly buffer Indirect { uvec4 indirect[2]; };
#define MORE_PUSH uint rows, tile_rows, columns, row_groups;
#include "lib/optimizer.glsl"

void main()
{
    if (group_index() > 0) return;
    const uint each = (rows + tile_rows - 1) / tile_rows;
    uint done = 0;
    for (uint base = 0; base < matrices; base += LANES) {
        const uint matrix = base + LANE;
        const bool moves_now = matrix < matrices && step_of(matrix, 1) != 0;
        uint all;
        const uint rank = done + scan_add(moves_now ? 1 : 0, all);
        done += all;
        if (!moves_now) continue;
        ranges[rank] = uvec4(matrix, matrix * rows, rows, 0);
        for (uint i = 0; i < each; i++)
            tiles[rank * each + i] = uvec4(matrix, matrix * rows + i * tile_rows,
                                           min(tile_rows, rows - i * tile_rows), 0);
    }
    if (LANE != 0) return;
    tiles[done * each] = uvec4(0);
    ranges[done] = uvec4(0);
    indirect[0] = uvec4(columns, done * each, 1, 0);
    indirect[1] = uvec4(columns, row_groups, done, 0);
}
