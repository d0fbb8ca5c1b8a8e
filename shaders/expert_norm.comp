// SPDX-License-Identifier: MIT
// KERNEL_EXPERT_NORM (src/kernel.h): the sum of squares of each block of some matrices. One
// workgroup a block. How a sum is made depends on nothing but the sizes.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer G { float g[]; };
layout(binding = 0) readonly buffer G4 { vec4 g4[]; };
layout(binding = 1) readonly buffer Places { uint places[]; };
layout(binding = 2) writeonly buffer Partial { float partial[]; };
layout(push_constant) uniform Push { uint count, block, matrices, mapped, index; };

const uint NONE = 0xffffffffu;

void main()
{
    const uint blocks = (count + block - 1) / block, at = group_index();
    const uint matrix = at / blocks, b = at % blocks;
    if (matrix >= matrices) return;
    uint place = index + matrix * blocks;
    if (mapped != 0) place = places[index + matrix];
    if (place == NONE) return;
    const uint begin = matrix * count + b * block;
    const uint end = begin + min(block, count - b * block);
    vec4 sums = vec4(0.0);
    float sum = 0.0;
    if ((count | block) % 4 == 0) {
        for (uint q = begin / 4 + LANE; q < end / 4; q += LANES) sums += g4[q] * g4[q];
        sum = (sums.x + sums.y) + (sums.z + sums.w);
    } else {
        for (uint i = begin + LANE; i < end; i += LANES) sum += g[i] * g[i];
    }
    sum = reduce_add(sum);
    if (LANE == 0) partial[place + b] = sum;
}
