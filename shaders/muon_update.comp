// SPDX-License-Identifier: MIT
// KERNEL_MUON_UPDATE (src/kernel.h): the weights go along the orthogonal matrix. Where norm[2] is 0
// nothing moves, but the copy is written.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Norm { float norm[4]; };
layout(binding = 2) readonly buffer X { float x[]; };
layout(binding = 2) readonly buffer X4 { vec4 x4[]; };
layout(binding = 3) buffer P { float p[]; };
layout(binding = 3) buffer P4 { vec4 p4[]; };
layout(binding = 4) writeonly buffer Copy { STORE copy[]; };
layout(binding = 4) writeonly buffer Copy4 { STORE4 copy4[]; };
layout(binding = 5) readonly buffer Moves { uint moves[]; };
#define MORE_PUSH uint rows, tile_rows, columns, row_groups;
#include "lib/optimizer.glsl"

bool  goes;   // norm[2], read once: no store can be between

float decay, pace;

void four(uint i)
{
    vec4 w = p4[i];
    if (goes) {
        w = w * decay - pace * x4[i];
        p4[i] = w;
    }
    if (write_copy != 0) copy4[i] = SAVE(w);
}

void one(uint i)
{
    float w = p[i];
    if (goes) {
        w = w * decay - pace * x[i];
        p[i] = w;
    }
    if (write_copy != 0) copy[i] = SAVE(w);
}

void main()
{
    const piece own = piece_of_group(1);
    if (own.t == 0) return;
    goes = norm[2] != 0.0;
    decay = 1.0 - step.learning_rate * rate * weight_decay;
    pace = step.learning_rate * rate * scale;
    EACH_ELEMENT(own, four, one)
}
