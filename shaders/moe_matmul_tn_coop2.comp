// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h) by matrices of a workgroup (lib/coop2.glsl): the weight
// gradient of each expert that has rows (z), summed over them. Rows of tokens are gathered element
// by element.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/coop2_extensions.glsl"
#include "lib/head.glsl"
#include "lib/moe_tn_io.glsl"
#include "lib/band.glsl"
#include "lib/coop2.glsl"
layout(binding = 0) readonly buffer ACalc { CALC a_calc[]; };
layout(binding = 1) readonly buffer BCalc { CALC b_calc[]; };

GATHERED(a_gathered, a_calc, row_of_a(row) * m + column)
GATHERED(b_gathered, b_calc, row_of_b(row) * n + column)

#define A_SORTED(x, kind, at) FETCH_TURNED(x, a_calc, a_at_##kind, at, DEPTH, first, ROWS)
#define B_SORTED(y, kind, at) FETCH(y, b_calc, b_at_##kind, at, DEPTH, column, COLUMNS)
#define A_BY(x, kind, at)                                                                          \
    FETCH_TURNED_BY(x, a_calc, a_at_##kind, at, DEPTH, first, ROWS, a_gathered)
#define B_BY(y, kind, at)                                                                          \
    FETCH_BY(y, b_calc, b_at_##kind, at, DEPTH, column, COLUMNS, b_gathered)
#define MULTIPLY(A, B, kind, at)                                                                   \
    A_STEP x;                                                                                      \
    B_STEP y;                                                                                      \
    A(x, kind, at)                                                                                 \
    B(y, kind, at)                                                                                 \
    sums = coopMatMulAdd(x, y, sums);
#define STEP_SORTED(at, kind)   MULTIPLY(A_SORTED, B_SORTED, kind, at)
#define STEP_B_TOKENS(at, kind) MULTIPLY(A_SORTED, B_BY, kind, at)
#define STEP_A_TOKENS(at, kind) MULTIPLY(A_BY, B_SORTED, kind, at)
#define STEP_TOKENS(at, kind)   MULTIPLY(A_BY, B_BY, kind, at)

void main()
{
    const uvec2 tile = tile_of_group();
    const uvec4 range = ranges[gl_WorkGroupID.z]; // expert, first sorted row, rows
    const uint first = tile.y * ROWS, column = tile.x * COLUMNS, end = range.y + range.z;
    TENSOR(a_at, end, m, m)
    TENSOR(b_at, end, n, n)
    const bool within = first + ROWS <= m && column + COLUMNS <= n && (m | n) % 8 == 0;
    SUMS sums = SUMS(0.0);
    if (gather == 0) STEPS(range.y, end, within, STEP_SORTED)
    if (gather == 1) STEPS(range.y, end, within, STEP_B_TOKENS)
    if (gather == 2) STEPS(range.y, end, within, STEP_A_TOKENS)
    if (gather == 3) STEPS(range.y, end, within, STEP_TOKENS)
    const uint top = range.x * m;
    TENSOR(c_at, top + m, n, n)
    ADD(sums, float, c, c_at, top + first, column)
    KEEP(sums, float, c, c_at, top + first, column)
}
