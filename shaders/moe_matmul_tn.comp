// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h): the weight gradient of each expert that has rows (z), summed
// over them; any number. Rows and columns of C as in matmul.comp's TN.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/moe_tn_io.glsl"

#define TN
#define GATHER_A
#define GATHER_B
uint stride_a() { return m; }
uint stride_b() { return n; }
#include "lib/matmul.glsl"

void main()
{
    const uvec4 range = ranges[gl_WorkGroupID.z]; // expert, first sorted row, rows
    const uint begin = range.y, end = range.y + range.z;
    const uint first = gl_WorkGroupID.y * ROWS;
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    place_a(first);
    place_b(0, column);
    accumulate(begin, end);
    const uint rows = min(ROWS, m - first);
    [[dont_unroll]] for (uint row = 0; row < rows; row++)
        write_row((range.x * m + first + row) * n + column, column, row_of_sums(row));
}
