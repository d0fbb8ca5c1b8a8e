// SPDX-License-Identifier: MIT
// KERNEL_MIX (src/kernel.h): y = a x + b r, factors by columns or one for all. One workgroup a row;
// y may be x or r.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
STORE_IN(1, r)
STORE_IN(2, a)
STORE_IN(3, b)
STORE_OUT(4, y)
layout(push_constant, scalar) uniform push_words { uint rows, cols, a_is, b_is; };

const uint COLUMN = 1, NUMBER = 2, ABSENT = 3; // enum kernel_factor; else 1
#define FACTOR4(name, i) (name##_is == COLUMN ? unpack(name##_4[i]) : vec4(name##_all))
#define FACTOR1(name, c) (name##_is == COLUMN ? LOAD(name##_1[c]) : name##_all)

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint n = quads(cols);
    const float a_all = a_is == NUMBER ? LOAD(a_1[0]) : 1.0;
    const float b_all = b_is == NUMBER ? LOAD(b_1[0]) : 1.0;
    for (uint i = LANE; i < n; i += LANES) {
        vec4 v = unpack(x_4[row * n + i]) * FACTOR4(a, i);
        if (b_is != ABSENT) v += unpack(r_4[row * n + i]) * FACTOR4(b, i);
        y_4[row * n + i] = pack(v);
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        float v = LOAD(x_1[row * cols + c]) * FACTOR1(a, c);
        if (b_is != ABSENT) v += LOAD(r_1[row * cols + c]) * FACTOR1(b, c);
        y_1[row * cols + c] = SAVE(v);
    }
}
