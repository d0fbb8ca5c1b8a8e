// SPDX-License-Identifier: MIT
// KERNEL_ACTIVATE_BACK (src/kernel.h), elementwise, in place: gate becomes dgate, up dup, dh
// becomes h, which the gradient of the weight behind it needs.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/activation.glsl"
#define MORE_WORDS uint activation, gated;
#include "lib/elements.glsl"

STORE_IO(0, gate)
STORE_IO(1, up)
STORE_IO(2, dh)

struct back { vec4 dgate, dup, h; };

back body(vec4 g, vec4 u, vec4 d)
{
    const activated f = activation_of(activation, g);
    back y;
    if (gated == 0) u = vec4(1.0);
    y.dgate = d * u * f.slope;
    y.dup = d * g * f.factor;
    y.h = g * f.factor * u;
    return y;
}

void main()
{
    EACH_QUAD {
        const back y = body(unpack(gate_4[q]), unpack(up_4[q]), unpack(dh_4[q]));
        gate_4[q] = pack(y.dgate);
        if (gated != 0) up_4[q] = pack(y.dup);
        dh_4[q] = pack(y.h);
    }
    EACH_LEFT {
        const back y = body(vec4(LOAD(gate_1[e])), vec4(LOAD(up_1[e])), vec4(LOAD(dh_1[e])));
        gate_1[e] = SAVE(y.dgate.x);
        if (gated != 0) up_1[e] = SAVE(y.dup.x);
        dh_1[e] = SAVE(y.h.x);
    }
}
