// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_UP, _ACT, _NT and _NN (src/kernel.h): each tile of at most ROWS sorted rows
// times the matrix of its expert. A workgroup computes one tile (y) and 4 * LANES columns (x), as
// in matmul.comp; with tiles of one row (decoding) all but NN put K across the lanes and compute
// COLUMNS columns, as in matvec.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/activation.glsl"
#include "lib/ragged.glsl"

#define BINDING 0
#define QUAD    quad_of_a
#define TEXELS  a_texels
#define SCALARS a
#define VECTORS a4
#define BLOCK   A
#define BLOCK4  A4
#include "lib/operand.glsl"
#if defined(UP)
#define NT
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 3
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "lib/operand.glsl"
#define BINDING 4
#define QUAD    quad_of_b_up
#define TEXELS  b_up_texels
#define SCALARS b_up
#define VECTORS b_up4
#define BLOCK   BUp
#define BLOCK4  BUp4
#include "lib/operand.glsl"
layout(binding = 5) writeonly buffer C { STORE c[]; };
layout(binding = 5) writeonly buffer C4 { STORE4 c4[]; };
layout(binding = 6) writeonly buffer Gate { STORE gate[]; };
layout(binding = 6) writeonly buffer Gate4 { STORE4 gate4[]; };
layout(binding = 7) writeonly buffer Up { STORE up[]; };
layout(binding = 7) writeonly buffer Up4 { STORE4 up4[]; };
#elif defined(ACT)
#define NT
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 3
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "lib/operand.glsl"
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
layout(binding = 5) writeonly buffer Gate { STORE gate[]; };
layout(binding = 5) writeonly buffer Gate4 { STORE4 gate4[]; };
#elif defined(NT)
layout(binding = 1) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 2
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "lib/operand.glsl"
layout(binding = 3) writeonly buffer C { STORE c[]; };
layout(binding = 3) writeonly buffer C4 { STORE4 c4[]; };
#else
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 3
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "lib/operand.glsl"
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
#define BINDING 5
#define QUAD    quad_of_a2
#define TEXELS  a2_texels
#define SCALARS a2
#define VECTORS a24
#define BLOCK   A2
#define BLOCK4  A24
#include "lib/operand.glsl"
#define BINDING 6
#define QUAD    quad_of_b2
#define TEXELS  b2_texels
#define SCALARS b2
#define VECTORS b24
#define BLOCK   B2
#define BLOCK4  B24
#include "lib/operand.glsl"
#endif
layout(push_constant) uniform Push {
    uint pairs, experts, m, n, k, top_k, save, gather, second, activation;
};

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

// Row of A that a sorted row reads.
uint source(uint row)
{
#if defined(UP) || defined(ACT)
    return order[row] / top_k;
#elif defined(NN)
    return gather != 0 ? order[row] / top_k : row;
#else
    return row;
#endif
}

#if defined(UP)
void write_row(uint row, uint column, vec4 g, vec4 u)
{
    const uint at = row * n + column;
    vec4 h = activate(activation, g) * u;
    if (n % 4 == 0) {
        if (column < n) {
            c4[at / 4] = SAVE(h);
            if (save != 0) {
                gate4[at / 4] = SAVE(g);
                up4[at / 4] = SAVE(u);
            }
        }
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] = SAVE(h.x);
            if (save != 0) {
                gate[at + i] = SAVE(g.x);
                up[at + i] = SAVE(u.x);
            }
            h = h.yzwx, g = g.yzwx, u = u.yzwx;
        }
    }
}
#else
void write_row(uint row, uint column, vec4 sum)
{
    const uint at = row * n + column;
#ifdef ACT
    vec4 y = activate(activation, sum);
#else
    vec4 y = sum;
#endif
    if (n % 4 == 0) {
        if (column < n) {
            c4[at / 4] = SAVE(y);
#ifdef ACT
            if (save != 0) gate4[at / 4] = SAVE(sum);
#endif
        }
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] = SAVE(y.x);
            y = y.yzwx;
#ifdef ACT
            if (save != 0) gate[at + i] = SAVE(sum.x);
            sum = sum.yzwx;
#endif
        }
    }
}
#endif

void row_times_expert(uint expert, uint row)
{
    const uint column = gl_WorkGroupID.x * COLUMNS;
    dot_a = source(row) * k;
    [[unroll]] for (uint i = 0; i < COLUMNS; i++)
        dot_b[i] = (expert * n + min(column + i, n - 1)) * k;
    dot_loop(0, k);
    [[unroll]] for (uint v = 0; v < DOT_VECTORS; v++) {
        const vec4 sum = DOT_SUM(dot_parts, v);
#ifdef UP
        const vec4 sum_up = DOT_SUM(dot_parts_up, v);
        if (LANE == 0) write_row(row, column + v * 4, sum, sum_up);
#else
        if (LANE == 0) write_row(row, column + v * 4, sum);
#endif
    }
}

void tile_times_expert(uint expert, uint first, uint rows)
{
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    [[unroll]] for (uint i = 0; i < HELD; i++)
        a_at[i] = source(first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
    place_b(expert * n * k, column);
    accumulate(0, k);
#ifdef NN
    if (second != 0) {
        [[unroll]] for (uint i = 0; i < HELD; i++)
            a_at[i] = (first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
        accumulate_second(0);
    }
#endif
    [[dont_unroll]] for (uint row = 0; row < rows; row++) {
#ifdef UP
        write_row(first + row, column, row_of_sums(row), row_of_sums_up(row));
#else
        write_row(first + row, column, row_of_sums(row));
#endif
    }
}

void main()
{
    const uvec4 tile = tiles[gl_WorkGroupID.y]; // expert, first sorted row, rows
#ifdef NT
    if (ROWS == 1)
        row_times_expert(tile.x, tile.y);
    else
#endif
        tile_times_expert(tile.x, tile.y, tile.z);
}
