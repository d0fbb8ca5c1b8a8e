// SPDX-License-Identifier: MIT
// The last valid row of a padded prefill, so that only its logits are computed.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
STORE_IN(1, x)
STORE_OUT(2, y)
layout(push_constant, scalar) uniform push_words { uint rows, cols, vocab; };

void main()
{
    const uint row = min(max(words.tokens, 1), rows) - 1, n = quads(cols);
    for (uint i = LANE; i < n; i += LANES) y_4[i] = x_4[row * n + i];
    for (uint c = 4 * n + LANE; c < cols; c += LANES) y_1[c] = x_1[row * cols + c];
}
