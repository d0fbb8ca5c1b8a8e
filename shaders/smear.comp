// SPDX-License-Identifier: MIT
// KERNEL_SMEAR (src/kernel.h): each row takes a share of the row before it in its sequence, or, for
// the gradient, gives it back. One workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/within.glsl"

STORE_IN(0, x)
STORE_IN(1, gate)
STORE_OUT(2, y)
DOCUMENTS(3)
layout(push_constant, scalar) uniform push_words { uint rows, cols, seq, first, back; };

void main()
{
    const uint t = group_index();
    if (t >= rows) return;
    const uint n = quads(cols), own = first + t;
    const uint edge = back != 0 ? t + 1 : t; // where a sequence begins, no share crosses
#ifdef WITHIN
    const bool shares = edge % seq != 0 && begins[edge] < edge % seq;
#else
    const bool shares = first != 0 || edge % seq != 0;
#endif
    const uint other = !shares ? own : back != 0 ? own + 1 : own - 1;
    for (uint i = LANE; i < n; i += LANES) {
        const vec4 g = 1.0 / (1.0 + exp(-unpack(gate_4[i])));
        const vec4 share = shares ? unpack(x_4[other * n + i]) : vec4(0.0);
        y_4[t * n + i] = pack(unpack(x_4[own * n + i]) * (1.0 - g) + g * share);
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        const float g = 1.0 / (1.0 + exp(-LOAD(gate_1[c])));
        const float share = shares ? LOAD(x_1[other * cols + c]) : 0.0;
        y_1[t * cols + c] = SAVE(LOAD(x_1[own * cols + c]) * (1.0 - g) + g * share);
    }
}
