// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_POOL (src/kernel.h): Hugging Face's balance loss, whose fractions are over the
// tokens of all layers. One workgroup.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) buffer Stats { float stats[]; };
layout(binding = 1) buffer Slope { float slope[]; };
layout(push_constant) uniform Push { uint tokens, experts, layers, stride, layer; float coef; };
#include "lib/router_stats.glsl"

void main()
{
    float sum = 0.0;
    for (uint e = LANE; e < experts; e += LANES) {
        float picks = 0.0;
        for (uint i = 0; i < layers; i++) picks += stats[i * stride + stat_count(e)];
        const float part = float(experts) * picks / (float(layers) * float(tokens));
        sum += part * stats[layer * stride + stat_mean(e)];
        slope[e] += coef * part;
    }
    sum = reduce_add(sum);
    if (LANE == 0) stats[layer * stride + STAT_POOLED] = sum;
}
