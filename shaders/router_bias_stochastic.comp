// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_BIAS_STOCHASTIC (src/kernel.h): the balancing bias where there are no masters. One
// workgroup.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Stats { float stats[]; };
layout(binding = 2) readonly buffer Norm { float norm[]; };
layout(binding = 3) buffer Bias { STORE bias[]; };
layout(push_constant) uniform Push { uint experts, draw, nearest; float speed; };
#include "lib/router_stats.glsl"
#include "lib/stochastic.glsl"

void main()
{
    if (norm[2] == 0.0) return;
    float all = 0.0;
    for (uint e = LANE; e < experts; e += LANES) all += stats[stat_step(e)];
    const float mean = reduce_add(all) / float(experts);
    for (uint e = LANE; e < experts; e += LANES) {
        const float b = LOAD(bias[e]) + speed * sign(mean - stats[stat_step(e)]);
        bias[e] = STORE(round_one(b, random_halves(draw + e / 8), e));
    }
}
