// SPDX-License-Identifier: MIT
// KERNEL_TOKEN_LINEAR and _LINEARF (src/kernel.h): norm, then a linear layer of one token.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/token.glsl"

OPERAND(0, x)
OPERAND(1, norm)
OPERAND(2, w)
#ifdef OUT_F32
layout(set = 0, binding = 3, scalar) writeonly buffer y_buffer { float y[]; };
#define OUT(v) (v)
#else
layout(set = 0, binding = 3, scalar) writeonly buffer y_buffer { STORE y[]; };
#define OUT(v) SAVE(v)
#endif
layout(push_constant, scalar) uniform push_words { uint k, n; float eps; };

void main()
{
    const uint column = group_index() * COLUMNS, steps = token_steps(k);
    if (column >= n) return;
    uint row[COLUMNS];
    float sums[COLUMNS], squares = 0.0;
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) {
        row[i] = min(column + i, n - 1);
        sums[i] = 0.0;
    }
    TOKEN_WALK(steps, k,
        const vec4 raw = TOKEN_READ(x, q);
        const vec4 v = raw * TOKEN_READ(norm, q);
        squares = token_dot(raw, raw, squares);
        [[unroll]] for (uint i = 0; i < COLUMNS; i++)
            sums[i] = token_dot(v, TOKEN_READ(w, row[i] * steps + q), sums[i]);
    ,
        const float raw = LOAD(x_1[e]);
        const float v = raw * LOAD(norm_1[e]);
        squares = fma(raw, raw, squares);
        [[unroll]] for (uint i = 0; i < COLUMNS; i++)
            sums[i] = fma(v, LOAD(w_1[row[i] * k + e]), sums[i]);
    )
    const float scale = TOKEN_RSTD(squares, k, eps);
    token_fold(sums);
    [[unroll]] for (uint i = 0; i < TOKEN_HELD; i++)
        if (token_writes() && column + token_column(i) < n)
            y[column + token_column(i)] = OUT(sums[i] * scale);
}
