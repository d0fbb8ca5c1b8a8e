// SPDX-License-Identifier: MIT
// KERNEL_ROW_INVERSE (src/kernel.h), one workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
layout(set = 0, binding = 1, scalar) writeonly buffer inverse_buffer { float inverse[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols; };

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint n = quads(cols);
    float sum = 0.0;
    for (uint i = LANE; i < n; i += LANES) {
        const vec4 v = unpack(x_4[row * n + i]);
        sum += dot(v, v);
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        const float v = LOAD(x_1[row * cols + c]);
        sum += v * v;
    }
    sum = reduce_add(sum);
    if (LANE == 0) inverse[row] = sum > 0.0 ? 1.0 / sqrt(sum) : 0.0;
}
