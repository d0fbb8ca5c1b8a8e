// SPDX-License-Identifier: MIT
// What the grouped matmuls bind (KERNEL_MOE_MATMUL_UP, _ACT, _NT, _NTF and _NN in src/kernel.h), by
// -DUP, -DACT, -DNT (with -DNTF: rows of A gathered, f32 C) or -DNN; which row of A a sorted row
// reads; how four neighbours of a row of C end.
#include "activation.glsl"
#include "ragged.glsl"

#define BINDING 0
#include "operand_a.glsl"
#if defined(UP)
#define NT
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 3
#include "operand_b.glsl"
#define BINDING 4
#define QUAD    quad_of_b_up
#define TEXELS  b_up_texels
#define SCALARS b_up
#define VECTORS b_up4
#define BLOCK   BUp
#define BLOCK4  BUp4
#include "operand.glsl"
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
#include "operand_b.glsl"
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
layout(binding = 5) writeonly buffer Gate { STORE gate[]; };
layout(binding = 5) writeonly buffer Gate4 { STORE4 gate4[]; };
#define BIASED 6
#elif defined(NT)
layout(binding = 1) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 2
#include "operand_b.glsl"
#ifdef NTF
layout(binding = 3) writeonly buffer C { float c[]; };
layout(binding = 3) writeonly buffer C4 { vec4 c4[]; };
layout(binding = 5) readonly buffer Order { uint order[]; };
#else
layout(binding = 3) writeonly buffer C { STORE c[]; };
layout(binding = 3) writeonly buffer C4 { STORE4 c4[]; };
#endif
#define BIASED 4
#else
layout(binding = 1) readonly buffer Order { uint order[]; };
layout(binding = 2) readonly buffer Tiles { uvec4 tiles[]; };
#define BINDING 3
#include "operand_b.glsl"
layout(binding = 4) writeonly buffer C { STORE c[]; };
layout(binding = 4) writeonly buffer C4 { STORE4 c4[]; };
#define BINDING 5
#define QUAD    quad_of_a2
#define TEXELS  a2_texels
#define SCALARS a2
#define VECTORS a24
#define BLOCK   A2
#define BLOCK4  A24
#include "operand.glsl"
#define BINDING 6
#define QUAD    quad_of_b2
#define TEXELS  b2_texels
#define SCALARS b2
#define VECTORS b24
#define BLOCK   B2
#define BLOCK4  B24
#include "operand.glsl"
#endif
layout(push_constant) uniform Push {
    uint pairs, experts, m, n, k, top_k, save, gather, second, activation, bias;
};

// The bias of four neighbours of a row of C: added to their sums by all but UP and NN, which have
// none. Columns past the last one read the last one's; they are never written.
#ifdef BIASED
layout(binding = BIASED) readonly buffer Bias { STORE bias_of[]; };
vec4 bias_at(uint expert, uint column)
{
    if (bias == 0) return vec4(0.0);
    const uint row = expert * n, last = n - 1;
    return vec4(LOAD(bias_of[row + min(column, last)]), LOAD(bias_of[row + min(column + 1, last)]),
                LOAD(bias_of[row + min(column + 2, last)]),
                LOAD(bias_of[row + min(column + 3, last)]));
}
#else
#define bias_at(expert, column) vec4(0.0)
#endif

// Row of A that a sorted row reads.
uint source(uint row)
{
#if defined(UP) || defined(ACT) || defined(NTF)
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
#ifdef NTF
#define SAVE_C(x) (x)
#else
#define SAVE_C(x) SAVE(x)
#endif
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
            c4[at / 4] = SAVE_C(y);
#ifdef ACT
            if (save != 0) gate4[at / 4] = SAVE(sum);
#endif
        }
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] = SAVE_C(y.x);
            y = y.yzwx;
#ifdef ACT
            if (save != 0) gate[at + i] = SAVE(sum.x);
            sum = sum.yzwx;
#endif
        }
    }
}
#endif
