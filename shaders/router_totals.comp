// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_TOTALS (src/kernel.h): balance loss = E / T * sum_e f_e sum_t p_te, z loss,
// entropy, from what router_stats left of each expert. One workgroup.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Lse { float lse[]; };
layout(binding = 1) readonly buffer Entropy { float entropy[]; };
layout(binding = 2) buffer Stats { float stats[]; };

void main()
{
    float load = 0.0, unsure = 0.0, square = 0.0;
    for (uint e = LANE; e < experts; e += LANES) {
        load += stats[4 + e] * stats[4 + experts + e];
        unsure += entropy[e];
    }
    for (uint t = LANE; t < tokens; t += LANES) square += lse[t] * lse[t];
    const float mean = 1.0 / float(tokens);
    load = reduce_add(load) * mean * float(experts) / float(top_k);
    square = reduce_add(square) * mean;
    unsure = reduce_add(unsure) * mean / log(float(experts));
    if (LANE != 0) return;
    stats[0] = load;
    stats[1] = square;
    stats[2] = unsure;
    stats[3] = 0.0;
}
