// SPDX-License-Identifier: MIT
// KERNEL_GRAD_NORM (src/kernel.h): the sum of squares of each block of a gradient. One workgroup a
// block.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer G { float g[]; };
layout(binding = 0) readonly buffer G4 { vec4 g4[]; };
layout(binding = 1) writeonly buffer Partial { float partial[]; };
layout(push_constant) uniform Push { uint count, index, block, accumulate; };

void main()
{
    const uint b = group_index(), begin = b * block;
    if (begin >= count) return;
    const uint end = begin + min(block, count - begin);
    vec4 sums = vec4(0.0);
    uint rest = begin; // what the aligned part leaves
    if (begin % 4 == 0) {
        for (uint q = begin / 4 + LANE; q < end / 4; q += LANES) sums += g4[q] * g4[q];
        rest = end / 4 * 4;
    }
    float sum = (sums.x + sums.y) + (sums.z + sums.w);
    for (uint i = rest + LANE; i < end; i += LANES) sum += g[i] * g[i];
    sum = reduce_add(sum);
    if (LANE == 0) partial[index + b] = sum;
}
