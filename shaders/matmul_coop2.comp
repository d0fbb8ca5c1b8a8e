// SPDX-License-Identifier: MIT
// KERNEL_MATMUL_NT, _NTF, _NN, _NNF and _TN (src/kernel.h) by matrices of a workgroup
// (lib/coop2.glsl); ends and split sums as in matmul.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/coop2_extensions.glsl"
#include "lib/head.glsl"
#include "lib/matmul_io.glsl"
#include "lib/band.glsl"
#include "lib/coop2.glsl"
#ifdef OUT_F32
#define OUT_CALC float
#else
#define OUT_CALC CALC
#endif
layout(binding = 0) readonly buffer ACalc { CALC a_calc[]; };
layout(binding = 1) readonly buffer BCalc { CALC b_calc[]; };
layout(binding = 2) readonly buffer RCalc { OUT_CALC r_calc[]; };
layout(binding = 3) writeonly buffer CCalc { OUT_CALC c_calc[]; };

float finish_one(const in uint row, const in uint at, const in float sum, const in uint column)
{
    return finish(vec4(sum), column + at).x;
}

#define STEP(at, kind)                                                                             \
    A_STEP x;                                                                                      \
    B_STEP y;                                                                                      \
    if (A_ALONG_K) { FETCH(x, a_calc, a_at_##kind, first, ROWS, at, DEPTH) }                       \
    else { FETCH_TURNED(x, a_calc, a_at_##kind, at, DEPTH, first, ROWS) }                          \
    if (B_ALONG_K) { FETCH_TURNED(y, b_calc, b_at_##kind, column, COLUMNS, at, DEPTH) }            \
    else { FETCH(y, b_calc, b_at_##kind, at, DEPTH, column, COLUMNS) }                             \
    sums = coopMatMulAdd(x, y, sums);

void main()
{
    const uvec2 tile = tile_of_group(), share = share_of_k();
    const uint first = tile.y * ROWS, column = tile.x * COLUMNS, end = share.y;
    TENSOR(a_at, A_ALONG_K ? m : end, A_ALONG_K ? end : m, stride_a())
    TENSOR(b_at, B_ALONG_K ? n : end, B_ALONG_K ? end : n, stride_b())
    const bool within =
        first + ROWS <= m && column + COLUMNS <= n && (stride_a() | stride_b()) % 8 == 0;
    SUMS sums = SUMS(0.0);
    // shares begin at multiples of 32 (KERNEL_SHARE), which the compiler cannot see
    if (share.x < end) STEPS(share.x & ~31u, end, within, STEP)
#ifdef OUT_F32
    if (parts > 1) { // bare, one below the other
        const uint top = gl_WorkGroupID.z * m;
        TENSOR(part_at, top + m, n, n)
        KEEP(sums, float, c_calc, part_at, top + first, column)
        return;
    }
#endif
    coopMatPerElementNV(sums, sums, finish_one, column);
    TENSOR(c_at, m, n, ldc != 0 ? ldc : n)
    if (add != 0) ADD(sums, OUT_CALC, r_calc, c_at, first, column)
    KEEP(sums, OUT_CALC, c_calc, c_at, first, column)
}
