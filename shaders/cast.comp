// SPDX-License-Identifier: MIT
// f32 to the storage type, elementwise.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/elements.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer from_one { float from_1[]; };
layout(set = 0, binding = 0, scalar) readonly buffer from_four { vec4 from_4[]; };
STORE_OUT(1, to)

void main()
{
    EACH_QUAD to_4[q] = pack(from_4[q]);
    EACH_LEFT to_1[e] = SAVE(from_1[e]);
}
