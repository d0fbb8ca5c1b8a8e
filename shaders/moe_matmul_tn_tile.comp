// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h) through shared memory, as matmul_tile.comp: the weight
// gradient of each expert that has rows (z), summed over them; any number.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/tile_extensions.glsl"
#include "lib/head.glsl"
#include "lib/moe_tn_io.glsl"
#define A_ALONG_K false
#define B_ALONG_K false
#include "lib/tile_head.glsl"
#include "lib/band.glsl"

uvec4 range;        // expert, first sorted row, rows
uint first, column; // of the tile

uint a_left() { return m - first; }
uint b_left() { return n - column; }
uint a_line(uint line, uint at) { return row_of_a(at) * m + first; }
uint b_line(uint line, uint at) { return row_of_b(at) * n + column; }
#ifdef COOP
layout(binding = 0) readonly buffer A8 { uvec4 a8[]; };
layout(binding = 1) readonly buffer B8 { uvec4 b8[]; };
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
    if (first + row < m && column + at < n)
        write_row((range.x * m + first + row) * n + column + at, column + at, sum);
}
#ifdef COOP
#include "lib/coop.glsl"
#else
#include "lib/tile.glsl"
#endif

void main()
{
    const uvec2 tile = tile_of_group();
    range = ranges[gl_WorkGroupID.z];
    first = tile.y * ROWS;
    column = tile.x * OWN_COLUMNS;
    multiply_panels(range.y, range.y + range.z, (m | n) % WIDE == 0);
    parts_write();
}
