// SPDX-License-Identifier: MIT
// Rotary position embedding (Su et al. 2021), half-split pairs (i, i + D/2), one workgroup a token.
// Lanes lie across the pairs of a head and, where these are few, across heads.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
layout(set = 0, binding = 1, scalar) readonly buffer table_one { vec2 table_1[]; };  // cos, sin
layout(set = 0, binding = 1, scalar) readonly buffer table_four { vec4 table_4[]; }; // two pairs
STORE_IN(2, x)
STORE_OUT(3, y)
layout(push_constant, scalar) uniform push_words { uint tokens, heads, head_dim, seq, inverse; };

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    const uint half_ = head_dim / 2, position = words.base + t % seq, n = quads(half_);
    const float sign = inverse != 0 ? -1.0 : 1.0;
    const uint items = n > 0 ? n : half_;                       // vec4s, or pairs, of a half head
    const uint width = clamp(items, 1, LANES); // lanes a head
    const uint together = LANES / width;       // heads at a time
    const uint h0 = LANE < width * together ? LANE / width : heads;
    for (uint i = LANE % width; i < n; i += width) {
        const vec4 a = table_4[(position * n + i) * 2], b = table_4[(position * n + i) * 2 + 1];
        const vec4 c = vec4(a.xz, b.xz), s = vec4(a.yw, b.yw) * sign;
        for (uint h = h0; h < heads; h += together) {
            const uint at = (t * heads + h) * 2 * n + i;
            const vec4 x1 = unpack(x_4[at]), x2 = unpack(x_4[at + n]);
            y_4[at] = pack(x1 * c - x2 * s);
            y_4[at + n] = pack(x2 * c + x1 * s);
        }
    }
    for (uint i = 4 * n + LANE % width; i < half_; i += width) {
        const vec2 cs = table_1[position * half_ + i] * vec2(1.0, sign);
        for (uint h = h0; h < heads; h += together) {
            const uint at = (t * heads + h) * head_dim + i;
            const float x1 = LOAD(x_1[at]), x2 = LOAD(x_1[at + half_]);
            y_1[at] = SAVE(x1 * cs.x - x2 * cs.y);
            y_1[at + half_] = SAVE(x2 * cs.x + x1 * cs.y);
        }
    }
}
