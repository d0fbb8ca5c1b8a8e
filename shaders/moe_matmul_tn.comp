// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h): the weight gradient of each expert (z), summed over its
// rows, which are any number; an expert without rows is left alone. Rows and columns of C as in
// matmul.comp's TN.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer A { STORE a[]; };
layout(binding = 0) readonly buffer A4 { STORE4 a4[]; };
layout(binding = 1) readonly buffer B { STORE b[]; };
layout(binding = 1) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 2) readonly buffer Order { uint order[]; };
layout(binding = 3) readonly buffer Offsets { uint offsets[]; };
layout(binding = 4) buffer C { float c[]; };
layout(binding = 4) buffer C4 { vec4 c4[]; };
layout(push_constant) uniform Push { uint pairs, experts, m, n, k, top_k, save, add, gather; };

#define TN
#define GATHER_B
uint row_of_b(uint at)
{
    uint row = at;
    if (gather != 0) row = order[at] / top_k;
    return row;
}
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
    const uint expert = gl_WorkGroupID.z;
    const uint begin = offsets[expert], end = offsets[expert + 1];
    if (begin == end) return;
    const uint first = gl_WorkGroupID.y * ROWS;
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    const bool vectors = (m | n) % 4 == 0;
    uint done = begin;
    clear_sums();
    if (vectors) {
        place_a(first, true);
        place_b(0, column, true);
        done = accumulate4(begin, end);
    }
    place_a(first, false);
    place_b(0, column, false);
    accumulate(done, end);
    const uint rows = min(ROWS, m - first);
    [[dont_unroll]] for (uint row = 0; row < rows; row++)
        write_row((expert * m + first + row) * n + column, column, row_of_sums(row));
}
