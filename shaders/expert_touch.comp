// SPDX-License-Identifier: MIT
// KERNEL_EXPERT_TOUCH (src/kernel.h): experts that have rows in this micro-batch. One a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Offsets { uint offsets[]; };
layout(binding = 1) buffer Touched { uint touched[]; };
layout(push_constant) uniform Push { uint count; };

void main()
{
    const uint e = group_index() * LANES + LANE;
    if (e < count && offsets[e + 1] > offsets[e]) touched[e] = 1;
}
