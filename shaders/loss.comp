// SPDX-License-Identifier: MIT
// KERNEL_LOSS and, with SOFTCAP, KERNEL_LOSS_CAPPED (src/kernel.h): softmax cross-entropy of a row,
// and its gradient in place. One workgroup a row; every lane keeps a running maximum and a sum
// relative to it (Milakov & Gimelshein 2018), four elements at a time, so that a row is read once
// for the loss and once more for the gradient.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) buffer Logits { STORE logits[]; };
layout(binding = 2) readonly buffer Targets { uint targets[]; };
layout(binding = 3) writeonly buffer Loss { float loss[]; };
layout(push_constant) uniform Push { uint rows, vocab, backward; float softcap; };
#ifdef SOFTCAP
#include "lib/softcap.glsl"
#define VALUE(x) softcap_of(LOAD(x), softcap)
#define SLOPE(y) (1.0 - (y) * (y) / (softcap * softcap)) // of the cap, where its value is y
#else
#define VALUE(x) LOAD(x)
#define SLOPE(y) 1.0
#endif

const float LOWEST = -3.402823466e38; // not -inf: -inf minus -inf is NaN

// (maximum, sum of exp(x - maximum)) over this lane's elements
vec2 lane_sum(uint row)
{
    float top = LOWEST, sum = 0.0;
    uint c = LANE;
    for (; c + 3 * LANES < vocab; c += 4 * LANES) {
        const vec4 x = vec4(VALUE(logits[row + c]), VALUE(logits[row + c + LANES]),
                            VALUE(logits[row + c + 2 * LANES]),
                            VALUE(logits[row + c + 3 * LANES]));
        const float next = max(top, max(max(x.x, x.y), max(x.z, x.w)));
        const vec4 parts = exp(x - next);
        sum = sum * exp(top - next) + ((parts.x + parts.y) + (parts.z + parts.w));
        top = next;
    }
    for (; c < vocab; c += LANES) {
        const float x = VALUE(logits[row + c]), next = max(top, x);
        sum = sum * exp(top - next) + exp(x - next);
        top = next;
    }
    return vec2(top, sum);
}

void main()
{
    const uint r = group_index();
    if (r >= rows) return;
    const uint row = r * vocab, target = targets[r];
    if (target >= vocab) { // masked
        if (LANE == 0) loss[r] = 0.0;
        for (uint c = LANE; c < vocab && backward != 0; c += LANES) logits[row + c] = SAVE(0.0);
        return;
    }

    const vec2 own = lane_sum(row);
    const float top = reduce_max(own.x);
    const float sum = reduce_add(own.y * exp(own.x - top));
    // the lane that owns the target's column: nobody else writes it
    const bool owner = target % LANES == LANE;
    const float own_value = owner ? VALUE(logits[row + target]) : 0.0;
    const float distance = owner ? own_value - top : 0.0;
    if (owner) loss[r] = log(sum) - distance;
    if (backward == 0) return;
    const float scale = step.loss_scale / sum;
    for (uint base = LANE; base < vocab; base += 4 * LANES)
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint c = base + i * LANES;
            if (c < vocab) {
                const float x = VALUE(logits[row + c]);
                logits[row + c] = SAVE(scale * exp(x - top) * SLOPE(x));
            }
        }
    if (owner)
        logits[row + target] =
            SAVE(step.loss_scale * (exp(distance) / sum - 1.0) * SLOPE(own_value));
}
