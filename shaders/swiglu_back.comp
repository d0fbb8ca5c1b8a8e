// SPDX-License-Identifier: MIT
// Gradients of h = silu(gate) up, and h again for the gradient of the weight behind it.
// dgate may be dh.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/elements.glsl"

STORE_IN(0, gate)
STORE_IN(1, up)
STORE_IN(2, dh)
STORE_OUT(3, dgate)
STORE_OUT(4, dup)
STORE_OUT(5, h)

void main()
{
    EACH_QUAD {
        const vec4 g = unpack(gate_4[q]), u = unpack(up_4[q]), d = unpack(dh_4[q]);
        const vec4 s = 1.0 / (1.0 + exp(-g));
        dgate_4[q] = pack(d * u * s * (1.0 + g * (1.0 - s)));
        dup_4[q] = pack(d * g * s);
        h_4[q] = pack(g * s * u);
    }
    EACH_LEFT {
        const float g = LOAD(gate_1[e]), u = LOAD(up_1[e]), d = LOAD(dh_1[e]);
        const float s = 1.0 / (1.0 + exp(-g));
        dgate_1[e] = SAVE(d * u * s * (1.0 + g * (1.0 - s)));
        dup_1[e] = SAVE(d * g * s);
        h_1[e] = SAVE(g * s * u);
    }
}
