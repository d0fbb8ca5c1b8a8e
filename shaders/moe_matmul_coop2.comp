// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_UP, _ACT, _NT and _NN (src/kernel.h) by matrices of a workgroup
// (lib/coop2.glsl): each tile of at most ROWS sorted rows (y) times the matrix of its expert. Rows
// of tokens are gathered element by element; gate and up are two sums over one A.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/coop2_extensions.glsl"
#include "lib/head.glsl"
#include "lib/moe_io.glsl"
#include "lib/band.glsl"
#include "lib/coop2.glsl"
layout(binding = 0) readonly buffer ACalc { CALC a_calc[]; };
#if defined(UP)
layout(binding = 3) readonly buffer BCalc { CALC b_calc[]; };
layout(binding = 4) readonly buffer BUpCalc { CALC b_up_calc[]; };
layout(binding = 5) writeonly buffer CCalc { CALC c_calc[]; };
layout(binding = 6) writeonly buffer GateCalc { CALC gate_calc[]; };
layout(binding = 7) writeonly buffer UpCalc { CALC up_calc[]; };
#elif defined(ACT)
layout(binding = 3) readonly buffer BCalc { CALC b_calc[]; };
layout(binding = 4) writeonly buffer CCalc { CALC c_calc[]; };
layout(binding = 5) writeonly buffer GateCalc { CALC gate_calc[]; };
#elif defined(NT)
layout(binding = 2) readonly buffer BCalc { CALC b_calc[]; };
layout(binding = 3) writeonly buffer CCalc { CALC c_calc[]; };
#else
layout(binding = 3) readonly buffer BCalc { CALC b_calc[]; };
layout(binding = 4) writeonly buffer CCalc { CALC c_calc[]; };
layout(binding = 5) readonly buffer A2Calc { CALC a2_calc[]; };
layout(binding = 6) readonly buffer B2Calc { CALC b2_calc[]; };
#endif
#ifdef NN
#define FETCH_B(y, array, kind, at)                                                                \
    FETCH(y, array, b_at_##kind, tile.x * k + at, DEPTH, column, COLUMNS)
#else
#define FETCH_B(y, array, kind, at)                                                                \
    FETCH_TURNED(y, array, b_at_##kind, tile.x * n + column, COLUMNS, at, DEPTH)
#endif
#if defined(UP) || defined(ACT)
#define GATHERS true
#elif defined(NN)
#define GATHERS (gather != 0)
#else
#define GATHERS false
#endif
#if defined(UP) || defined(ACT) || defined(NN)
shared uint row_of[ROWS]; // of A, for each row of the tile
GATHERED(a_gathered, a_calc, row_of[row] * k + column)
#endif

float activate_one(const in uint row, const in uint column, const in float sum)
{
    return activate(activation, vec4(sum)).x;
}

#if !defined(UP) && !defined(NN)
#define BIAS
uint bias_expert, bias_column; // of this tile
float add_bias(const in uint row, const in uint column, const in float sum)
{
    return sum + bias_at(bias_expert, bias_column + column).x;
}
#endif

#ifdef UP
#define MULTIPLY(at, kind)                                                                         \
    FETCH_B(y, b_calc, kind, at)                                                                   \
    sums = coopMatMulAdd(x, y, sums);                                                              \
    FETCH_B(y, b_up_calc, kind, at)                                                                \
    up_sums = coopMatMulAdd(x, y, up_sums);
#else
#define MULTIPLY(at, kind)                                                                         \
    FETCH_B(y, b_calc, kind, at)                                                                   \
    sums = coopMatMulAdd(x, y, sums);
#endif
#define STEP_GATHERED(at, kind)                                                                    \
    A_STEP x;                                                                                      \
    B_STEP y;                                                                                      \
    FETCH_BY(x, a_calc, tile_at_##kind, 0, ROWS, at, DEPTH, a_gathered)                            \
    MULTIPLY(at, kind)
#define STEP_SORTED(at, kind)                                                                      \
    A_STEP x;                                                                                      \
    B_STEP y;                                                                                      \
    FETCH(x, a_calc, a_at_##kind, tile.y, ROWS, at, DEPTH)                                         \
    MULTIPLY(at, kind)
#define STEP_SECOND(at, kind)                                                                      \
    A_STEP x;                                                                                      \
    B_STEP y;                                                                                      \
    FETCH(x, a2_calc, a_at_##kind, tile.y, ROWS, at, DEPTH)                                        \
    FETCH_B(y, b2_calc, kind, at)                                                                  \
    sums = coopMatMulAdd(x, y, sums);

void main()
{
    const uvec2 place = tile_of_group();
    const uvec4 tile = tiles[place.y]; // expert, first sorted row, rows
    const uint column = place.x * COLUMNS;
    TENSOR(a_at, tile.y + tile.z, k, k)
#ifdef NN
    TENSOR(b_at, (tile.x + 1) * k, n, n)
    const bool whole = (k | n) % 8 == 0;
#else
    TENSOR(b_at, (tile.x + 1) * n, k, k)
    const bool whole = k % 8 == 0;
#endif
    const bool within = tile.z == ROWS && column + COLUMNS <= n && whole;
    SUMS sums = SUMS(0.0);
#ifdef UP
    SUMS up_sums = SUMS(0.0);
#endif
#if defined(UP) || defined(ACT) || defined(NN)
    if (GATHERS) {
        for (uint i = LANE; i < tile.z; i += LANES) row_of[i] = source(tile.y + i);
        barrier();
        TENSOR(tile_at, tile.z, k, k)
        STEPS(0, k, within, STEP_GATHERED)
    }
#endif
#if defined(NN) || defined(NT) && !defined(UP) && !defined(ACT)
    if (!GATHERS) STEPS(0, k, within, STEP_SORTED)
#endif
#ifdef NN
    if (second != 0) STEPS(0, k, within, STEP_SECOND)
#endif
    TENSOR(c_at, tile.y + tile.z, n, n)
#ifdef BIAS
    bias_expert = tile.x;
    bias_column = column;
    if (bias != 0) coopMatPerElementNV(sums, sums, add_bias);
#endif
#ifdef UP
    if (save != 0) {
        KEEP(sums, CALC, gate_calc, c_at, tile.y, column)
        KEEP(up_sums, CALC, up_calc, c_at, tile.y, column)
    }
    coopMatPerElementNV(sums, sums, activate_one);
    sums = sums * up_sums;
#elif defined(ACT)
    if (save != 0) { KEEP(sums, CALC, gate_calc, c_at, tile.y, column) }
    coopMatPerElementNV(sums, sums, activate_one);
#endif
    KEEP(sums, CALC, c_calc, c_at, tile.y, column)
}
