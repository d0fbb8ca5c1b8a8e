// SPDX-License-Identifier: MIT
// KERNEL_MATMUL_NT, _NTF, _NN, _NNF and _TN (src/kernel.h) through shared memory: a tile of C a
// workgroup, by register blocks (lib/tile.glsl) or, with COOP, cooperative matrices
// (lib/coop.glsl); ends and split sums as in matmul.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/tile_extensions.glsl"
#include "lib/head.glsl"
#include "lib/matmul_io.glsl"
#include "lib/tile_head.glsl"
#include "lib/band.glsl"
#ifdef COOP
layout(binding = 0) readonly buffer A8 { uvec4 a8[]; };
layout(binding = 1) readonly buffer B8 { uvec4 b8[]; };
#endif

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

#ifdef COOP
uvec4 a_some(uint e, uint line) { return a8[e / 8]; }
uvec4 b_some(uint e, uint line) { return b8[e / 8]; }
uint a_one(uint e, uint line) { return uint(a[e]); }
uint b_one(uint e, uint line) { return uint(b[e]); }
#else
vec4 a_some(uint e, uint line) { return LOAD(a4[e / 4]); }
vec4 b_some(uint e, uint line) { return LOAD(b4[e / 4]); }
float a_one(uint e, uint line) { return LOAD(a[e]); }
float b_one(uint e, uint line) { return LOAD(b[e]); }
#endif

void part_write(uint row, uint at, vec4 sum)
{
    if (first + row < m && column + at < n) write_sum(first + row, column + at, sum);
}
#ifdef COOP
#include "lib/coop.glsl"
#else
#include "lib/tile.glsl"
#endif

void main()
{
    const uvec2 tile = tile_of_group(), share = share_of_k();
    first = tile.y * ROWS;
    column = tile.x * OWN_COLUMNS;
    uint strides = stride_a() | stride_b();
    if (A_ALONG_K || B_ALONG_K) strides |= k;
    if (!A_ALONG_K) strides |= m;
    if (!B_ALONG_K) strides |= n;
    multiply_panels(share.x, share.y, strides % WIDE == 0);
    parts_write();
}
