// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_UP, _ACT, _NT, _NTF and _NN (src/kernel.h): each tile of at most ROWS sorted
// rows times the matrix of its expert. A workgroup computes one tile (y) and 4 * LANES columns (x),
// as in matmul.comp; with tiles of one row (decoding) all but NN put K across the lanes and compute
// COLUMNS columns, as in matvec.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/moe_io.glsl"
#include "lib/moe_width.glsl"

uint stride_a() { return k; }
#ifdef NT
uint stride_b() { return k; }
#else
uint stride_b() { return n; }
#endif
#include "lib/matmul.glsl"
#include "lib/matvec.glsl"
#ifdef NN
#include "lib/matmul_second.glsl"
#endif

void row_times_expert(uint expert, uint row, uint width)
{
    const uint column = gl_WorkGroupID.x * COLUMNS;
    dot_a = source(row) * k;
    [[unroll]] for (uint i = 0; i < COLUMNS; i++)
        dot_b[i] = (expert * n + min(column + i, n - 1)) * k;
    dot_loop(0, sums_end(width, column));
    [[unroll]] for (uint v = 0; v < DOT_VECTORS; v++) {
        const vec4 sum = DOT_SUM(dot_parts, v);
#ifdef UP
        const vec4 sum_up = DOT_SUM(dot_parts_up, v);
        if (LANE == 0) write_row(row, column + v * 4, sum, sum_up);
#else
        const vec4 bias4 = bias_at(expert, column + v * 4);
        if (LANE == 0) write_row(row, column + v * 4, sum + bias4);
#endif
    }
}

void tile_times_expert(uint expert, uint first, uint rows, uint width)
{
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    const uint end = sums_end(width, gl_WorkGroupID.x * LANES * 4);
    [[unroll]] for (uint i = 0; i < HELD; i++)
        a_at[i] = source(first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
    place_b(expert * n * k, column);
    accumulate(0, end);
#ifdef NN
    if (second != 0) {
        [[unroll]] for (uint i = 0; i < HELD; i++)
            a_at[i] = (first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
        accumulate_second(0);
    }
#endif
    const vec4 bias4 = bias_at(expert, column);
    [[dont_unroll]] for (uint row = 0; row < rows; row++) {
#ifdef UP
        write_row(first + row, column, row_of_sums(row), row_of_sums_up(row));
#else
        write_row(first + row, column, row_of_sums(row) + bias4);
#endif
    }
}

void main()
{
    const uvec4 tile = tiles[gl_WorkGroupID.y]; // expert, first sorted row, rows, width
#ifdef NTF
    // the table may be for more rows
    [[dont_unroll]] for (uint row = 0; row < tile.z; row += ROWS)
        if (ROWS == 1) row_times_expert(tile.x, tile.y + row, 0);
        else tile_times_expert(tile.x, tile.y + row, min(ROWS, tile.z - row), 0);
#else
#ifdef NT
    if (ROWS == 1)
        row_times_expert(tile.x, tile.y, tile.w);
    else
#endif
        tile_times_expert(tile.x, tile.y, tile.z, tile.w);
#endif
}
