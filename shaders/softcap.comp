// SPDX-License-Identifier: MIT
// KERNEL_SOFTCAP (src/kernel.h): logits for the host and for sampling, in place.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/softcap.glsl"
#define MORE_WORDS float cap;
#include "lib/elements.glsl"

layout(set = 0, binding = 0, scalar) buffer x_one { float x_1[]; };
layout(set = 0, binding = 0, scalar) buffer x_four { vec4 x_4[]; };

void main()
{
    EACH_QUAD {
        const vec4 x = x_4[q];
        x_4[q] = vec4(softcap_of(x.x, cap), softcap_of(x.y, cap), softcap_of(x.z, cap),
                      softcap_of(x.w, cap));
    }
    EACH_LEFT x_1[e] = softcap_of(x_1[e], cap);
}
