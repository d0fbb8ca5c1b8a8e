// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_GATES (src/kernel.h): how much weight each expert was given. One workgroup an
// expert, its rows over the lanes.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer Offsets { uint offsets[]; };
layout(binding = 2) readonly buffer Order { uint order[]; };
layout(binding = 3) writeonly buffer Sums { float sums[]; };

void main()
{
    const uint e = group_index();
    if (e >= experts) return;
    float sum = 0.0;
    for (uint i = offsets[e] + LANE; i < offsets[e + 1]; i += LANES) sum += gates[order[i]];
    sum = reduce_add(sum);
    if (LANE == 0) sums[e] = sum;
}
