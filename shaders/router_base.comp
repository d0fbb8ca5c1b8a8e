// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_BASE (src/kernel.h), one lane a pair.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Ids { uint ids[]; };
layout(binding = 1) readonly buffer Inverse { uint inverse[]; };
layout(binding = 2) writeonly buffer Base { uint base[]; };
layout(push_constant) uniform Push { uint pairs, picks, size; };

void main()
{
    const uint p = group_index() * LANES + LANE;
    if (p < pairs) base[inverse[p]] = ids[p] * size;
}
