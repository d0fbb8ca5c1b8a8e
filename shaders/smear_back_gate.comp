// SPDX-License-Identifier: MIT
// KERNEL_SMEAR_BACK_GATE (src/kernel.h): the gradient of smear's gate, before its logistic
// function.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/within.glsl"

STORE_IN(0, x)
STORE_IN(1, gate)
STORE_IN(2, dy)
layout(set = 0, binding = 3, scalar) buffer dgate_buffer { float dgate[]; };
DOCUMENTS(4)
layout(push_constant, scalar) uniform push_words { uint rows, cols, seq, first, back; };
#include "lib/columns.glsl"
#ifdef WITHIN
#define SHARES(r) (begins[r] < (r) % seq)
#else
#define SHARES(r) ((r) % seq != 0)
#endif

vec4 column_quad(uint r, uint q)
{
    const uint n = cols / 4;
    const vec4 before = SHARES(r) ? unpack(x_4[(r - 1) * n + q]) : vec4(0.0);
    return unpack(dy_4[r * n + q]) * (before - unpack(x_4[r * n + q]));
}

float column_one(uint r, uint c)
{
    const float before = SHARES(r) ? LOAD(x_1[(r - 1) * cols + c]) : 0.0;
    return LOAD(dy_1[r * cols + c]) * (before - LOAD(x_1[r * cols + c]));
}

void column_add(uint c, float sum)
{
    const float g = 1.0 / (1.0 + exp(-LOAD(gate_1[c])));
    dgate[c] += g * (1.0 - g) * sum;
}

void main() { columns_sum(group_index(), 0, rows); }
