// SPDX-License-Identifier: MIT
// KERNEL_MATMUL_NT, _NTF, _NN, _NNF and _TN (src/kernel.h) on KHR cooperative matrices: a tile of C
// a workgroup (lib/coop.glsl), ends and split sums as in matmul.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/coop_head.glsl"
#include "lib/head.glsl"
#include "lib/matmul_io.glsl"
#include "lib/band.glsl"
layout(binding = 0) readonly buffer A8 { uvec4 a8[]; };
layout(binding = 1) readonly buffer B8 { uvec4 b8[]; };

uint first, column; // of the tile

uint a_left() { return m - first; }
uint b_left() { return n - column; }

// Rows and columns past the last one read the last one; they are never written.
uint a_line(uint line, uint at)
{
    if (A_ALONG_K) return min(first + line, m - 1) * stride_a() + at;
    return at * stride_a() + first;
}

uint b_line(uint line, uint at)
{
    if (B_ALONG_K) return min(column + line, n - 1) * stride_b() + at;
    return at * stride_b() + column;
}

uvec4 a_eight(uint e, uint at) { return a8[e / 8]; }
uvec4 b_eight(uint e, uint at) { return b8[e / 8]; }
uint a_one(uint e, uint at) { return uint(a[e]); }
uint b_one(uint e, uint at) { return uint(b[e]); }

void part_write(uint row, uint at, vec4 sum)
{
    if (first + row < m && column + at < n) write_sum(first + row, column + at, sum);
}
#include "lib/coop.glsl"

void main()
{
    const uvec2 tile = tile_of_group(), share = share_of_k();
    first = tile.y * ROWS;
    column = tile.x * OWN_COLUMNS;
    uint strides = stride_a() | stride_b();
    if (A_ALONG_K || B_ALONG_K) strides |= k;
    if (!A_ALONG_K) strides |= m;
    if (!B_ALONG_K) strides |= n;
    multiply_panels(share.x, share.y, strides % 8 == 0);
    parts_write();
}
