// SPDX-License-Identifier: MIT
// KERNEL_MUON_MIX (src/kernel.h): what a Newton-Schulz step multiplies X by.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Moves { uint moves[]; };
layout(binding = 1) readonly buffer A { float a[]; };
layout(binding = 1) readonly buffer A4 { vec4 a4[]; };
layout(binding = 2) buffer B { float b[]; };
layout(binding = 2) buffer B4 { vec4 b4[]; };
#define MORE_PUSH uint rows, tile_rows, columns, row_groups;
#include "lib/optimizer.glsl"

float diagonal(uint i)
{
    const uint at = i % count;
    return at / rows == at % rows ? 3.4445 : 0.0;
}

void one(uint i) { b[i] = diagonal(i) + -4.7750 * a[i] + 2.0315 * b[i]; }

void four(uint q)
{
    const uint i = 4 * q;
    b4[q] = vec4(diagonal(i), diagonal(i + 1), diagonal(i + 2), diagonal(i + 3)) +
            -4.7750 * a4[q] + 2.0315 * b4[q];
}

void main()
{
    const piece own = piece_of_group(1);
    if (own.t == 0) return;
    EACH_ELEMENT(own, four, one)
}
