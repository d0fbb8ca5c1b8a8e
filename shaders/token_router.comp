// SPDX-License-Identifier: MIT
// KERNEL_TOKEN_ROUTER (src/kernel.h): norm, logits, and the picks of one token in one workgroup
// (one subgroup): worth it while the router's weight is small. Picks as in router.comp: the next
// is the largest key below the last in the order (logit, then lowest id).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/order.glsl"
#include "lib/token.glsl"

OPERAND(0, x)
OPERAND(1, norm)
OPERAND(2, w)
layout(set = 0, binding = 3, scalar) coherent buffer logits_buffer { float logits[]; };
layout(set = 0, binding = 4, scalar) writeonly buffer ids_buffer { uint ids[]; };
layout(set = 0, binding = 5, scalar) writeonly buffer gates_buffer { float gates[]; };
layout(push_constant, scalar) uniform push_words {
    uint k, experts, top_k, renormalise;
    float inv_temperature, eps;
};

const uint NONE = 0xffffffffu;

float norm_scale()
{
    const uint steps = token_steps(k);
    float squares = 0.0;
    TOKEN_WALK(steps, k,
        const vec4 raw = TOKEN_READ(x, q);
        squares = token_dot(raw, raw, squares);
    ,
        const float raw = LOAD(x_1[e]);
        squares = fma(raw, raw, squares);
    )
    return TOKEN_RSTD(squares, k, eps);
}

void write_logits(uint first, float scale)
{
    const uint steps = token_steps(k);
    uint row[COLUMNS];
    float sums[COLUMNS];
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) {
        row[i] = min(first + i, experts - 1);
        sums[i] = 0.0;
    }
    TOKEN_WALK(steps, k,
        const vec4 v = TOKEN_READ(x, q) * TOKEN_READ(norm, q);
        [[unroll]] for (uint i = 0; i < COLUMNS; i++)
            sums[i] = token_dot(v, TOKEN_READ(w, row[i] * steps + q), sums[i]);
    ,
        const float v = LOAD(x_1[e]) * LOAD(norm_1[e]);
        [[unroll]] for (uint i = 0; i < COLUMNS; i++)
            sums[i] = fma(v, LOAD(w_1[row[i] * k + e]), sums[i]);
    )
    token_fold(sums);
    [[unroll]] for (uint i = 0; i < TOKEN_HELD; i++)
        if (token_writes() && first + token_column(i) < experts)
            logits[first + token_column(i)] = sums[i] * scale;
}

uvec2 next_pick(uvec2 last)
{
    uvec2 best = uvec2(0, NONE);
    for (uint e = LANE; e < experts; e += LANES) {
        const uint key = order_key(logits[e]);
        const bool allowed = key < last.x || (key == last.x && e > last.y) || last.y == NONE;
        if (allowed && (key > best.x || best.y == NONE)) best = uvec2(key, e);
    }
    const uint key = subgroupMax(best.x);
    return uvec2(key, subgroupMin(best.x == key ? best.y : NONE));
}

void main()
{
    if (group_index() != 0) return;
    const float scale = norm_scale();
    for (uint first = 0; first < experts; first += COLUMNS) write_logits(first, scale);
    subgroupBarrier(); // the lanes read what others wrote

    uvec2 pick = next_pick(uvec2(NONE, NONE));
    const float top = order_value(pick.x) * inv_temperature;
    float sum = 0.0, picked = 0.0;
    for (uint e = LANE; e < experts; e += LANES) sum += exp(logits[e] * inv_temperature - top);
    sum = subgroupAdd(sum);
    if (renormalise != 0) { // the divisor has to be known before the first gate
        uvec2 other = pick;
        for (uint i = 0; i < top_k; i++) {
            if (i > 0) other = next_pick(other);
            picked += exp(order_value(other.x) * inv_temperature - top);
        }
        sum = picked;
    }
    for (uint i = 0; i < top_k; i++) {
        if (i > 0) pick = next_pick(pick);
        if (LANE == 0) {
            ids[i] = pick.y;
            gates[i] = exp(order_value(pick.x) * inv_temperature - top) / sum;
        }
    }
}
