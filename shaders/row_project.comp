// SPDX-License-Identifier: MIT
// KERNEL_ROW_PROJECT (src/kernel.h), one workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
layout(set = 0, binding = 1, scalar) readonly buffer inverse_buffer { float inverse[]; };
layout(set = 0, binding = 2, scalar) buffer g_one { float g_1[]; };
layout(set = 0, binding = 2, scalar) buffer g_four { vec4 g_4[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols; };

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint n = quads(cols);
    float sum = 0.0;
    for (uint i = LANE; i < n; i += LANES)
        sum += dot(g_4[row * n + i], unpack(x_4[row * n + i]));
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        sum += g_1[row * cols + c] * LOAD(x_1[row * cols + c]);
    const float along = reduce_add(sum) * inverse[row] * inverse[row];
    for (uint i = LANE; i < n; i += LANES) g_4[row * n + i] -= along * unpack(x_4[row * n + i]);
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        g_1[row * cols + c] -= along * LOAD(x_1[row * cols + c]);
}
