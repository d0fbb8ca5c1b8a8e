// SPDX-License-Identifier: MIT
// KERNEL_SUM (src/kernel.h): one number from n, in one workgroup and a fixed order.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer X { float x[]; };
layout(binding = 1) buffer Out { float result[]; };
layout(push_constant) uniform Push { uint count, index, block, accumulate; };

void main()
{
    float sum = 0.0;
    for (uint i = LANE; i < count; i += LANES) sum += x[i];
    sum = reduce_add(sum);
    if (LANE == 0) result[index] = accumulate != 0 ? result[index] + sum : sum;
}
