// SPDX-License-Identifier: MIT
// KERNEL_ACTIVATE (src/kernel.h): h = f(gate) up, or f(gate), elementwise.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/activation.glsl"
#define MORE_WORDS uint activation, gated;
#include "lib/elements.glsl"

STORE_IN(0, gate)
STORE_IN(1, up)
STORE_OUT(2, h)

vec4 body(vec4 g, vec4 u)
{
    const vec4 y = activate(activation, g);
    return gated != 0 ? y * u : y;
}

void main()
{
    EACH_QUAD h_4[q] = pack(body(unpack(gate_4[q]), unpack(up_4[q])));
    EACH_LEFT h_1[e] = SAVE(body(vec4(LOAD(gate_1[e])), vec4(LOAD(up_1[e]))).x);
}
