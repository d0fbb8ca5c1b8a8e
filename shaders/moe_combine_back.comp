// SPDX-License-Identifier: MIT
// KERNEL_MOE_COMBINE_BACK (src/kernel.h): the gradient of the weighted combine to each expert row
// and to each gate. One workgroup a pair.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer Dout { STORE dout[]; };
layout(binding = 0) readonly buffer Dout4 { STORE4 dout4[]; };
layout(binding = 1) readonly buffer Y { STORE y[]; };
layout(binding = 1) readonly buffer Y4 { STORE4 y4[]; };
layout(binding = 2) readonly buffer Inverse { uint inverse[]; };
layout(binding = 3) readonly buffer Gates { float gates[]; };
layout(binding = 4) writeonly buffer Dy { STORE dy[]; };
layout(binding = 4) writeonly buffer Dy4 { STORE4 dy4[]; };
layout(binding = 5) writeonly buffer Dgates { float dgates[]; };
layout(push_constant) uniform Push { uint tokens, cols, top_k, weighted, add; };

const uint NONE = 0xffffffffu;

float aligned_row(uint t, uint row, float gate, uint quads)
{
    vec4 sum = vec4(0.0);
    for (uint c = LANE; c < quads; c += LANES) {
        const vec4 d = LOAD(dout4[t * quads + c]);
        sum += d * LOAD(y4[row * quads + c]);
        dy4[row * quads + c] = SAVE(gate * d);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

float plain_row(uint t, uint row, float gate)
{
    float sum = 0.0;
    for (uint c = LANE; c < cols; c += LANES) {
        const float d = LOAD(dout[t * cols + c]);
        sum += d * LOAD(y[row * cols + c]);
        dy[row * cols + c] = SAVE(gate * d);
    }
    return sum;
}

void main()
{
    const uint p = group_index();
    if (p >= tokens * top_k) return;
    const uint row = inverse[p];
    float sum = 0.0;
    if (row != NONE) {
        const uint t = p / top_k;
        sum = cols % 4 == 0 ? aligned_row(t, row, gates[p], cols / 4) : plain_row(t, row, gates[p]);
    }
    sum = reduce_add(sum);
    if (LANE == 0) dgates[p] = sum;
}
