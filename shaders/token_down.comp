// SPDX-License-Identifier: MIT
// KERNEL_TOKEN_DOWN (src/kernel.h): down of one token's experts, weighted, added up, onto the
// residual.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/token.glsl"

OPERAND(0, h)
layout(set = 0, binding = 1, scalar) readonly buffer ids_buffer { uint ids[]; };
layout(set = 0, binding = 2, scalar) readonly buffer gates_buffer { float gates[]; };
OPERAND(3, down)
layout(set = 0, binding = 4, scalar) readonly buffer r_buffer { STORE r[]; };
layout(set = 0, binding = 5, scalar) writeonly buffer y_buffer { STORE y[]; };
layout(push_constant, scalar) uniform push_words {
    uint experts, top_k, n, k, activation;
    float eps;
};

void main()
{
    const uint column = group_index() * COLUMNS, steps = token_steps(k);
    if (column >= n) return;
    float sums[COLUMNS];
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) sums[i] = 0.0;
    uint pick = 0;
    do {
        const uint expert = min(ids[pick], experts - 1);
        const float gate = gates[pick];
        uint row[COLUMNS];
        [[unroll]] for (uint i = 0; i < COLUMNS; i++) row[i] = expert * n + min(column + i, n - 1);
        TOKEN_WALK(steps, k,
            const vec4 v = TOKEN_READ(h, pick * steps + q) * gate;
            [[unroll]] for (uint i = 0; i < COLUMNS; i++)
                sums[i] = token_dot(v, TOKEN_READ(down, row[i] * steps + q), sums[i]);
        ,
            const float v = LOAD(h_1[pick * k + e]) * gate;
            [[unroll]] for (uint i = 0; i < COLUMNS; i++)
                sums[i] = fma(v, LOAD(down_1[row[i] * k + e]), sums[i]);
        )
    } while (++pick < top_k);
    token_fold(sums);
    [[unroll]] for (uint i = 0; i < TOKEN_HELD; i++) {
        const uint at = column + token_column(i);
        if (token_writes() && at < n) y[at] = SAVE(sums[i] + LOAD(r[at]));
    }
}
