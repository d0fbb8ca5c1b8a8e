// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_BIAS (src/kernel.h): the balancing bias goes up where an expert had less than the
// mean load of the step, down where it had more. One workgroup.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer Stats { float stats[]; };
layout(binding = 1) readonly buffer Norm { float norm[]; };
layout(binding = 2) buffer Bias { float bias[]; };
layout(binding = 3) writeonly buffer Copy { STORE compute[]; };
layout(push_constant) uniform Push { uint experts, copy; float speed; };
#include "lib/router_stats.glsl"

void main()
{
    float all = 0.0;
    for (uint e = LANE; e < experts; e += LANES) all += stats[stat_step(e)];
    const float mean = reduce_add(all) / float(experts);
    for (uint e = LANE; e < experts; e += LANES) {
        float b = bias[e];
        if (norm[2] != 0.0) b += speed * sign(mean - stats[stat_step(e)]);
        bias[e] = b;
        if (copy != 0) compute[e] = SAVE(b);
    }
}
