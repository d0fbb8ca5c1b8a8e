// SPDX-License-Identifier: MIT
// Gradient of RMSNorm for its input, one workgroup a row: with g = dy weight and xhat = x rstd,
// dx (+)= rstd (g - xhat mean(g xhat)). dx may be dy.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
STORE_IN(1, weight)
layout(set = 0, binding = 2, scalar) readonly buffer rstd_buffer { float rstd[]; };
STORE_IN(3, dy)
STORE_IO(4, dx)
layout(push_constant, scalar) uniform push_words {
    uint rows, cols, accumulate;
    float eps;
    uint weights;
};
#include "lib/norm_weight.glsl"

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint n = quads(cols);
    const float own = weight_of(row);
    float sum = 0.0; // of g x
    for (uint i = LANE; i < n; i += LANES)
        sum += dot(unpack(dy_4[row * n + i]) * weights_at(own, i), unpack(x_4[row * n + i]));
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        sum += LOAD(dy_1[row * cols + c]) * weight_at(own, c) * LOAD(x_1[row * cols + c]);
    const float scale = rstd[row];
    const float slope = reduce_add(sum) / float(cols) * scale * scale; // dx = scale (g - x slope)
    for (uint i = LANE; i < n; i += LANES) {
        const uint at = row * n + i;
        const vec4 g = unpack(dy_4[at]) * weights_at(own, i);
        const vec4 old = accumulate != 0 ? unpack(dx_4[at]) : vec4(0.0);
        dx_4[at] = pack(old + scale * (g - unpack(x_4[at]) * slope));
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        const uint at = row * cols + c;
        const float g = LOAD(dy_1[at]) * weight_at(own, c);
        const float old = accumulate != 0 ? LOAD(dx_1[at]) : 0.0;
        dx_1[at] = SAVE(old + scale * (g - LOAD(x_1[at]) * slope));
    }
}
