// SPDX-License-Identifier: MIT
// h = silu(gate) up (Shazeer 2020), elementwise.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/elements.glsl"

STORE_IN(0, gate)
STORE_IN(1, up)
STORE_OUT(2, h)

void main()
{
    EACH_QUAD {
        const vec4 g = unpack(gate_4[q]);
        h_4[q] = pack(g / (1.0 + exp(-g)) * unpack(up_4[q]));
    }
    EACH_LEFT {
        const float g = LOAD(gate_1[e]);
        h_1[e] = SAVE(g / (1.0 + exp(-g)) * LOAD(up_1[e]));
    }
}
