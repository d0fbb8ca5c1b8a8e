// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_UP, _ACT, _NT, _NTF and _NN (src/kernel.h) through shared memory, as
// matmul_tile.comp: each tile of at most ROWS sorted rows (y) times the matrix of its expert. The
// rows of A are gathered by its loader; gate and up are two halves of B; the end has both.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/tile_extensions.glsl"
#include "lib/head.glsl"
#include "lib/moe_io.glsl"
#define A_ALONG_K true
#ifdef NN
#define B_ALONG_K false
#define OPERANDS (second != 0 ? 2 : 1)
#else
#define B_ALONG_K true
#endif
#ifdef UP
#define PAIRS
#endif
#include "lib/tile_head.glsl"
#include "lib/band.glsl"

#ifdef COOP
layout(binding = 0) readonly buffer A8 { uvec4 a8[]; };
#if defined(UP) || defined(ACT) || defined(NN)
layout(binding = 3) readonly buffer B8 { uvec4 b8[]; };
#else
layout(binding = 2) readonly buffer B8 { uvec4 b8[]; };
#endif
#ifdef UP
layout(binding = 4) readonly buffer B8Up { uvec4 b_up8[]; };
#endif
#ifdef NN
layout(binding = 5) readonly buffer A28 { uvec4 a28[]; };
layout(binding = 6) readonly buffer B28 { uvec4 b28[]; };
#endif
#define SOME_OF(array, e) array##8[e / 8]
#define ONE_OF(array, e) uint(array[e])
#else
#define SOME_OF(array, e) LOAD(array##4[e / 4])
#define ONE_OF(array, e) LOAD(array[e])
#endif

uvec4 tile;  // expert, first sorted row, rows
uint column; // of the tile

uint a_left() { return 0; } // never across k
uint b_left() { return n - column; }

// Rows and columns past the last one read the last one; they are never written.
uint a_line(uint line, uint at)
{
    const uint row = tile.y + min(line, tile.z - 1);
#ifdef NN
    if (operand == 1) return row * k + at;
#endif
    return source(row) * k + at;
}

uint b_line(uint line, uint at)
{
#if defined(NN)
    return (tile.x * k + at) * n + column;
#elif defined(UP)
    return (tile.x * n + min(column + b_column(line), n - 1)) * k + at;
#else
    return (tile.x * n + min(column + line, n - 1)) * k + at;
#endif
}

SOME a_some(uint e, uint line)
{
#ifdef NN
    if (operand == 1) return SOME_OF(a2, e);
#endif
    return SOME_OF(a, e);
}

SOME b_some(uint e, uint line)
{
#if defined(NN)
    if (operand == 1) return SOME_OF(b2, e);
#elif defined(UP)
    if (b_which(line) == 1) return SOME_OF(b_up, e);
#endif
    return SOME_OF(b, e);
}

ONE a_one(uint e, uint line)
{
#ifdef NN
    if (operand == 1) return ONE_OF(a2, e);
#endif
    return ONE_OF(a, e);
}

ONE b_one(uint e, uint line)
{
#if defined(NN)
    if (operand == 1) return ONE_OF(b2, e);
#elif defined(UP)
    if (b_which(line) == 1) return ONE_OF(b_up, e);
#endif
    return ONE_OF(b, e);
}

#ifdef UP
void part_write(uint row, uint at, vec4 gate_sum, vec4 up_sum)
{
    if (row < tile.z && column + at < n)
        write_row(tile.y + row, column + at, gate_sum, up_sum);
}
#else
void part_write(uint row, uint at, vec4 sum)
{
    if (row < tile.z && column + at < n)
        write_row(tile.y + row, column + at, sum + bias_at(tile.x, column + at));
}
#endif
#ifdef COOP
#include "lib/coop.glsl"
#else
#include "lib/tile.glsl"
#endif

void main()
{
    const uvec2 place = tile_of_group();
    tile = tiles[place.y];
    column = place.x * OWN_COLUMNS;
#ifdef NTF
    const uint end = tile.y + tile.z; // the table may be for more rows
    for (; tile.y < end; tile.y += ROWS) {
        tile.z = min(ROWS, end - tile.y);
        multiply_panels(0, k, k % WIDE == 0);
        parts_write();
    }
#else
    multiply_panels(0, k, (B_ALONG_K ? k : k | n) % WIDE == 0);
    parts_write();
#endif
}
