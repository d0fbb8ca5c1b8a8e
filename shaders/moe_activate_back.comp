// SPDX-License-Identifier: MIT
// KERNEL_MOE_ACTIVATE_BACK (src/kernel.h): one pair a workgroup, in place: its rows of gate, up and
// dh become dgate, dup and h, all times the pair's gate weight; dot(dh, h) without the weight is
// the gradient of that weight.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/reduce.glsl"
#include "lib/activation.glsl"

STORE_IO(0, gate)
STORE_IO(1, up)
STORE_IO(2, dh)
layout(binding = 3) readonly buffer Inverse { uint inverse[]; };
layout(binding = 4) readonly buffer Gates { float gates[]; };
layout(binding = 5) writeonly buffer Dgates { float dgates[]; };
layout(push_constant) uniform Push { uint pairs, cols, activation, gated; };

const uint NONE = 0xffffffffu;

struct back { vec4 dgate, dup, h, dot_part; };

back body(float weight, vec4 g, vec4 u, vec4 d)
{
    const activated f = activation_of(activation, g);
    back y;
    if (gated == 0) u = vec4(1.0);
    const vec4 h = g * f.factor * u;
    y.dgate = weight * d * u * f.slope;
    y.dup = weight * d * g * f.factor;
    y.h = weight * h;
    y.dot_part = d * h;
    return y;
}

float row_back(uint row, float weight)
{
    const uint all = quads(cols), begin = row * all;
    vec4 sum = vec4(0.0);
    for (uint c = begin + LANE; c < begin + all; c += LANES) {
        const back y = body(weight, unpack(gate_4[c]), unpack(up_4[c]), unpack(dh_4[c]));
        gate_4[c] = pack(y.dgate);
        if (gated != 0) up_4[c] = pack(y.dup);
        dh_4[c] = pack(y.h);
        sum += y.dot_part;
    }
    for (uint c = row * cols + all * 4 + LANE; c < (row + 1) * cols; c += LANES) {
        const back y = body(weight, vec4(LOAD(gate_1[c])), vec4(LOAD(up_1[c])),
                            vec4(LOAD(dh_1[c])));
        gate_1[c] = SAVE(y.dgate.x);
        if (gated != 0) up_1[c] = SAVE(y.dup.x);
        dh_1[c] = SAVE(y.h.x);
        sum.x += y.dot_part.x;
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

void main()
{
    const uint p = group_index();
    if (p >= pairs) return;
    const uint row = inverse[p];
    const float sum = reduce_add(row != NONE ? row_back(row, gates[p]) : 0.0);
    if (LANE == 0) dgates[p] = sum;
}
