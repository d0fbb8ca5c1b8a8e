// SPDX-License-Identifier: MIT
// Gradient of RMSNorm for its weight: dweight[c] += sum over rows of dy x rstd.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
layout(set = 0, binding = 1, scalar) readonly buffer rstd_buffer { float rstd[]; };
STORE_IN(2, dy)
layout(set = 0, binding = 3, scalar) buffer dweight_buffer { float dweight[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols, accumulate; float eps; };
#include "lib/columns.glsl"

vec4 column_quad(uint r, uint q)
{
    const uint at = r * (cols / 4) + q;
    return unpack(dy_4[at]) * unpack(x_4[at]) * rstd[r];
}

float column_one(uint r, uint c)
{
    return LOAD(dy_1[r * cols + c]) * LOAD(x_1[r * cols + c]) * rstd[r];
}

void column_add(uint c, float sum) { dweight[c] += sum; }

void main() { columns_sum(group_index(), 0, rows); }
