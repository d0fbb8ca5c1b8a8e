// SPDX-License-Identifier: MIT
// delta = sum of o * do of each row, for the attention gradients; a lane a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, o)
STORE_IN(1, d_o)
layout(set = 0, binding = 2, scalar) writeonly buffer delta_buffer { float delta[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols, accumulate; float eps; };

void main()
{
    const uint row = group_index() * LANES + LANE, n = quads(cols);
    if (row >= rows) return;
    float sum = 0.0;
    for (uint i = 0; i < n; i++) sum += dot(unpack(o_4[row * n + i]), unpack(d_o_4[row * n + i]));
    for (uint c = 4 * n; c < cols; c++)
        sum += LOAD(o_1[row * cols + c]) * LOAD(d_o_1[row * cols + c]);
    delta[row] = sum;
}
