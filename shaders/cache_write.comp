// SPDX-License-Identifier: MIT
// New keys or values into their place in the KV cache, one workgroup a token; no padding.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
STORE_IN(1, x)
STORE_OUT(2, cache)
layout(push_constant, scalar) uniform push_words { uint rows, cols, capacity; };

void main()
{
    const uint row = group_index(), to = words.base + row, n = quads(cols);
    if (row >= min(rows, words.tokens) || to >= capacity) return;
    for (uint i = LANE; i < n; i += LANES) cache_4[to * n + i] = x_4[row * n + i];
    for (uint c = 4 * n + LANE; c < cols; c += LANES) cache_1[to * cols + c] = x_1[row * cols + c];
}
