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

layout(binding = 0) readonly buffer A { STORE a[]; };
layout(binding = 0) readonly buffer A4 { STORE4 a4[]; };
#if defined(UP)
#define NT
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 3) readonly buffer B { STORE b[]; };
layout(binding = 3) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 4) readonly buffer BUp { STORE b_up[]; };
layout(binding = 4) readonly buffer B4Up { STORE4 b4_up[]; };
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
layout(binding = 3) readonly buffer B { STORE b[]; };
layout(binding = 3) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
layout(binding = 5) writeonly buffer Gate { STORE gate[]; };
layout(binding = 5) writeonly buffer Gate4 { STORE4 gate4[]; };
#elif defined(NT)
layout(binding = 1) readonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 2) readonly buffer B { STORE b[]; };
layout(binding = 2) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 3) writeonly buffer C { STORE c[]; };
layout(binding = 3) writeonly buffer C4 { STORE4 c4[]; };
#else
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 3) readonly buffer B { STORE b[]; };
layout(binding = 3) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
layout(binding = 5) readonly buffer A2 { STORE a2[]; };
layout(binding = 5) readonly buffer A24 { STORE4 a24[]; };
layout(binding = 6) readonly buffer B2 { STORE b2[]; };
layout(binding = 6) readonly buffer B24 { STORE4 b24[]; };
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
    dot_loop(0, k, k % 4 == 0);
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
#ifdef NT
    const bool vectors = k % 4 == 0;
#else
    const bool vectors = (k | n) % 4 == 0;
#endif
    [[unroll]] for (uint i = 0; i < HELD; i++)
        a_at[i] = source(first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
    place_b(expert * n * k, column, vectors);
    clear_sums();
    accumulate(vectors ? accumulate4(0, k) : 0, k);
#ifdef NN
    if (second != 0) {
        [[unroll]] for (uint i = 0; i < HELD; i++)
            a_at[i] = (first + min(i * SPREAD + spread_lane(), rows - 1)) * k;
        accumulate_second(vectors ? accumulate4_second(0, k) : 0, k);
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
