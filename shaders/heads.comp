// SPDX-License-Identifier: MIT
// KERNEL_HEADS (src/kernel.h): what happens to queries, keys and values between their linear layer
// and attention over a cache: RMSNorm of a head, rotary position, and the way into the cache. One
// workgroup (one subgroup) a head of q, k or v of a token.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
layout(set = 0, binding = 1, scalar) readonly buffer table_one { vec2 table_1[]; };  // cos, sin
layout(set = 0, binding = 1, scalar) readonly buffer table_four { vec4 table_4[]; }; // two pairs
STORE_IN(2, x)
STORE_IN(3, q_norm)
STORE_IN(4, k_norm)
STORE_OUT(5, q)
STORE_OUT(6, cache_k)
STORE_OUT(7, cache_v)
layout(push_constant, scalar) uniform push_words {
    uint tokens, heads, kv_heads, head_dim, capacity, normalise;
    float eps;
};

// of the head that begins at element `from`: 1 without a norm
float norm_scale(uint from)
{
    if (normalise == 0) return 1.0;
    float squares = 0.0;
    for (uint i = LANE; i < quads(head_dim); i += LANES) {
        const vec4 v = unpack(x_4[from / 4 + i]);
        squares += dot(v, v);
    }
    for (uint i = 4 * quads(head_dim) + LANE; i < head_dim; i += LANES) {
        const float v = LOAD(x_1[from + i]);
        squares += v * v;
    }
    return 1.0 / sqrt(subgroupAdd(squares) / float(head_dim) + eps);
}

// x1, x2: a pair's halves, in quads (n of them a half) or elements
#define ROTATE(VEC, read, norm, at, n, i, cos_, sin_, write_low, write_high)                       \
    {                                                                                              \
        VEC low = read(x, at + i) * scale, high = read(x, at + n + i) * scale;                     \
        if (normalise != 0) {                                                                      \
            low *= read(norm, i);                                                                  \
            high *= read(norm, n + i);                                                             \
        }                                                                                          \
        write_low = low * cos_ - high * sin_;                                                      \
        write_high = high * cos_ + low * sin_;                                                     \
    }
#define READ4(name, at) unpack(name##_4[at])
#define READ1(name, at) LOAD(name##_1[at])

#define TURN(norm, out, to)                                                                        \
    {                                                                                              \
        const uint n = quads(head_dim / 2), half_ = head_dim / 2;                                  \
        const float scale = norm_scale(from);                                                      \
        for (uint i = LANE; i < n; i += LANES) {                                                   \
            const uint pair = (position * n + i) * 2;                                              \
            const vec4 a = table_4[pair], b = table_4[pair + 1];                                   \
            vec4 first, second;                                                                    \
            ROTATE(vec4, READ4, norm, from / 4, n, i, vec4(a.xz, b.xz), vec4(a.yw, b.yw), first,   \
                   second)                                                                         \
            out##_4[(to) / 4 + i] = pack(first);                                                   \
            out##_4[(to) / 4 + n + i] = pack(second);                                              \
        }                                                                                          \
        for (uint i = 4 * n + LANE; i < half_; i += LANES) {                                       \
            const vec2 turn = table_1[position * half_ + i];                                       \
            float first, second;                                                                   \
            ROTATE(float, READ1, norm, from, half_, i, turn.x, turn.y, first, second)              \
            out##_1[(to) + i] = SAVE(first);                                                       \
            out##_1[(to) + half_ + i] = SAVE(second);                                              \
        }                                                                                          \
    }

void main()
{
    const uint rows = heads + 2 * kv_heads, t = group_index() / rows, head = group_index() % rows;
    if (t >= tokens) return;
    const uint from = (t * rows + head) * head_dim, position = words.base + t;
    const bool cached = t < words.tokens && position < capacity; // padding is not
    if (head < heads) {
        TURN(q_norm, q, (t * heads + head) * head_dim)
    } else if (!cached) {
        return;
    } else if (head < heads + kv_heads) {
        TURN(k_norm, cache_k, (position * kv_heads + head - heads) * head_dim)
    } else {
        const uint n = quads(head_dim);
        const uint to = (position * kv_heads + head - heads - kv_heads) * head_dim;
        for (uint i = LANE; i < n; i += LANES) cache_v_4[to / 4 + i] = x_4[from / 4 + i];
        for (uint i = 4 * n + LANE; i < head_dim; i += LANES) cache_v_1[to + i] = x_1[from + i];
    }
}
