// SPDX-License-Identifier: MIT
// KERNEL_TOKEN_UP (src/kernel.h): norm, then gate and up of one token's experts. A
// workgroup has COLUMNS / 2 elements of one pick's h, gate and up of each.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/token.glsl"
#include "lib/activation.glsl"

OPERAND(0, x)
OPERAND(1, norm)
layout(set = 0, binding = 2, scalar) readonly buffer ids_buffer { uint ids[]; };
OPERAND(3, gate)
OPERAND(4, up)
layout(set = 0, binding = 5, scalar) writeonly buffer h_buffer { STORE h[]; };
layout(push_constant, scalar) uniform push_words {
    uint experts, top_k, n, k, activation;
    float eps;
};

const uint PAIRS = COLUMNS / 2;

void main()
{
    const uint pick = gl_WorkGroupID.y, column = gl_WorkGroupID.x * PAIRS, steps = token_steps(k);
    const uint expert = min(ids[pick], experts - 1);
    uint row[PAIRS];
    float sums[COLUMNS], squares = 0.0; // gate, up, gate, up ...
    [[unroll]] for (uint i = 0; i < PAIRS; i++) row[i] = expert * n + min(column + i, n - 1);
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) sums[i] = 0.0;
    TOKEN_WALK(steps, k,
        const vec4 raw = TOKEN_READ(x, q);
        const vec4 v = raw * TOKEN_READ(norm, q);
        squares = token_dot(raw, raw, squares);
        [[unroll]] for (uint i = 0; i < PAIRS; i++) {
            const uint at = row[i] * steps + q;
            sums[2 * i] = token_dot(v, TOKEN_READ(gate, at), sums[2 * i]);
            sums[2 * i + 1] = token_dot(v, TOKEN_READ(up, at), sums[2 * i + 1]);
        }
    ,
        const float raw = LOAD(x_1[e]);
        const float v = raw * LOAD(norm_1[e]);
        squares = fma(raw, raw, squares);
        [[unroll]] for (uint i = 0; i < PAIRS; i++) {
            sums[2 * i] = fma(v, LOAD(gate_1[row[i] * k + e]), sums[2 * i]);
            sums[2 * i + 1] = fma(v, LOAD(up_1[row[i] * k + e]), sums[2 * i + 1]);
        }
    )
    const float scale = TOKEN_RSTD(squares, k, eps);
    token_fold(sums);
    // a lane of one column has its pair beside it
    const float other = subgroupShuffleXor(sums[0], 1);
    [[unroll]] for (uint i = 0; i < TOKEN_HELD; i += 2) {
        const float g = sums[i] * scale, u = (TOKEN_HELD > 1 ? sums[i + 1] : other) * scale;
        const uint at = column + token_column(i) / 2;
        if (token_writes() && token_column(i) % 2 == 0 && at < n)
            h[pick * n + at] = SAVE(activate(activation, vec4(g)).x * u);
    }
}
