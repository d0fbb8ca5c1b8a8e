// SPDX-License-Identifier: MIT
// KERNEL_MOE_BIAS_BACK (src/kernel.h): what the biases of the experts' second matrices are worth to
// the gates. One workgroup a pair.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/pack.glsl"

STORE_IN(0, dy)
layout(set = 0, binding = 1, scalar) readonly buffer ids_buffer { uint ids[]; };
STORE_IN(2, bias)
layout(set = 0, binding = 3, scalar) buffer dgates_buffer { float dgates[]; };
layout(push_constant, scalar) uniform push_words { uint pairs, experts, cols, top_k; };

void main()
{
    const uint p = group_index();
    if (p >= pairs || ids[p] >= experts) return; // dropped
    const uint n = quads(cols), row = p / top_k, e = ids[p];
    float sum = 0.0;
    for (uint i = LANE; i < n; i += LANES)
        sum += dot(unpack(dy_4[row * n + i]), unpack(bias_4[e * n + i]));
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        sum += LOAD(dy_1[row * cols + c]) * LOAD(bias_1[e * cols + c]);
    sum = reduce_add(sum);
    if (LANE == 0) dgates[p] += sum;
}
