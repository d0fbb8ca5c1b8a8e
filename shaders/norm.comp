// SPDX-License-Identifier: MIT
// KERNEL_NORM (src/kernel.h), one workgroup a row: y = x rstd weight. y may be x.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
STORE_IN(1, weight)
STORE_OUT(2, y)
layout(set = 0, binding = 3, scalar) writeonly buffer rstd_buffer { float rstd[]; };
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
    float sum = 0.0;
    for (uint i = LANE; i < n; i += LANES) {
        const vec4 v = unpack(x_4[row * n + i]);
        sum += dot(v, v);
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        const float v = LOAD(x_1[row * cols + c]);
        sum += v * v;
    }
    const float scale = 1.0 / sqrt(reduce_add(sum) / float(cols) + eps), own = weight_of(row);
    for (uint i = LANE; i < n; i += LANES)
        y_4[row * n + i] = pack(unpack(x_4[row * n + i]) * scale * weights_at(own, i));
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        y_1[row * cols + c] = SAVE(LOAD(x_1[row * cols + c]) * scale * weight_at(own, c));
    if (LANE == 0) rstd[row] = scale;
}
