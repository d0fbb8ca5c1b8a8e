// SPDX-License-Identifier: MIT
// KERNEL_MUON_SCALE (src/kernel.h): each matrix divided by its Frobenius norm + 1e-7.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer Partial { float partial[]; };
layout(binding = 1) readonly buffer Moves { uint moves[]; };
layout(binding = 2) buffer X { float x[]; };
layout(binding = 2) buffer X4 { vec4 x4[]; };
#define EACH 1024 // MUON_BLOCK of src/kernel.h
#define MORE_PUSH uint rows, tile_rows, columns, row_groups;
#include "lib/optimizer.glsl"

float factor;

void four(uint i) { x4[i] *= factor; }
void one(uint i) { x[i] *= factor; }

void main()
{
    const piece own = piece_of_group(1);
    if (own.t == 0) return;
    const uint parts = (count + EACH - 1) / EACH;
    float sum = 0.0;
    for (uint i = LANE; i < parts; i += LANES) sum += partial[own.matrix * parts + i];
    factor = 1.0 / (sqrt(reduce_add(sum)) + 1e-7);
    EACH_ELEMENT(own, four, one)
}
