// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h): the weight gradient of each expert that has rows (z), summed
// over them; any number. Rows and columns of C as in matmul.comp's TN.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/ragged.glsl"

#define BINDING 0
#define QUAD    quad_of_a
#define TEXELS  a_texels
#define SCALARS a
#define VECTORS a4
#define BLOCK   A
#define BLOCK4  A4
#include "lib/operand.glsl"
#define BINDING 1
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "lib/operand.glsl"
layout(binding = 2) readonly buffer Order { uint order[]; };
layout(binding = 3) readonly buffer Ranges { uvec4 ranges[]; };
layout(binding = 4) buffer C { float c[]; };
layout(binding = 4) buffer C4 { vec4 c4[]; };
layout(push_constant) uniform Push {
    uint pairs, experts, m, n, k, top_k, save, gather, second, activation;
};

#define TN
#define GATHER_A
#define GATHER_B
uint row_of(uint at, uint which)
{
    uint row = at;
    if ((gather & which) != 0) row = order[at] / top_k;
    return row;
}
uint row_of_b(uint at) { return row_of(at, 1); }
uint row_of_a(uint at) { return row_of(at, 2); }
uint stride_a() { return m; }
uint stride_b() { return n; }
#include "lib/matmul.glsl"

void write_row(uint at, uint column, vec4 sum)
{
    if (n % 4 == 0) {
        if (column < n) c4[at / 4] += sum;
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] += sum.x;
            sum = sum.yzwx;
        }
    }
}

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
