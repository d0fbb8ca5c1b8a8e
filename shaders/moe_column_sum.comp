// SPDX-License-Identifier: MIT
// KERNEL_MOE_COLUMN_SUM (src/kernel.h): gradients of the experts' biases.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, a)
layout(set = 0, binding = 1, scalar) readonly buffer order_buffer { uint order[]; };
layout(set = 0, binding = 2, scalar) readonly buffer offsets_buffer { uint offsets[]; };
layout(set = 0, binding = 3, scalar) readonly buffer gates_buffer { float gates[]; };
layout(set = 0, binding = 4, scalar) buffer sum_buffer { float sums[]; };
layout(push_constant, scalar) uniform push_words { uint experts, cols, top_k, gather; };
#include "lib/columns.glsl"

uint expert;

uint source(uint r) { return gather != 0 ? order[r] / top_k : r; }
float weight(uint r) { return gather != 0 ? gates[order[r]] : 1.0; }

vec4 column_quad(uint r, uint q) { return unpack(a_4[source(r) * (cols / 4) + q]) * weight(r); }
float column_one(uint r, uint c) { return LOAD(a_1[source(r) * cols + c]) * weight(r); }
void column_add(uint c, float sum) { sums[expert * cols + c] += sum; }

void main()
{
    const uint chunks = (cols + COLUMNS - 1) / COLUMNS;
    expert = group_index() / chunks;
    if (expert >= experts) return;
    const uint begin = offsets[expert], end = offsets[expert + 1];
    if (begin >= end) return; // an expert without rows is not touched
    columns_sum(group_index() % chunks, begin, end);
}
