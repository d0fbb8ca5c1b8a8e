// SPDX-License-Identifier: MIT
// KERNEL_COLUMN_SUM and KERNEL_COLUMN_SUMF (src/kernel.h): gradients of biases (sums of columns)
// and of factors of columns (sums of products).
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, a)
STORE_IN(1, b)
layout(set = 0, binding = 2, scalar) buffer sum_buffer { float sums[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols, product; };
#include "lib/columns.glsl"

vec4 column_quad(uint r, uint q)
{
    const uint at = r * (cols / 4) + q;
    return unpack(a_4[at]) * (product != 0 ? unpack(b_4[at]) : vec4(1.0));
}

float column_one(uint r, uint c)
{
    const uint at = r * cols + c;
    return LOAD(a_1[at]) * (product != 0 ? LOAD(b_1[at]) : 1.0);
}

void column_add(uint c, float sum) { sums[c] += sum; }

void main() { columns_sum(group_index(), 0, rows); }
