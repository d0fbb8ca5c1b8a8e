// SPDX-License-Identifier: MIT
// KERNEL_MUON_MOMENTUM (src/kernel.h): the momentum of a matrix, the matrix that Newton-Schulz
// makes orthogonal, and its squares, summed over each MUON_BLOCK elements.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"

layout(binding = 0) readonly buffer Norm { float norm[4]; };
layout(binding = 1) readonly buffer G { float g[]; };
layout(binding = 1) readonly buffer G4 { vec4 g4[]; };
layout(binding = 2) buffer M { float m[]; };
layout(binding = 2) buffer M4 { vec4 m4[]; };
layout(binding = 3) readonly buffer Moves { uint moves[]; };
layout(binding = 4) writeonly buffer X { float x[]; };
layout(binding = 4) writeonly buffer X4 { vec4 x4[]; };
layout(binding = 5) writeonly buffer Partial { float partial[]; };
#define EACH 1024 // MUON_BLOCK of src/kernel.h
#define MORE_PUSH uint rows, tile_rows, columns, row_groups;
#include "lib/optimizer.glsl"

bool  goes;   // norm[2], read once: no store can be between
float factor; // norm[1]

vec4 squares = vec4(0.0);

vec4 update(vec4 gradient, inout vec4 mean)
{
    gradient *= factor;
    mean = beta1 * mean + gradient;
    return nesterov != 0 ? gradient + beta1 * mean : mean;
}

void four(uint i)
{
    vec4 mean = m4[i], direction = vec4(0.0);
    if (goes) {
        direction = update(g4[i], mean);
        m4[i] = mean;
    }
    x4[i] = direction;
    squares += direction * direction;
}

void one(uint i)
{
    vec4 mean = vec4(m[i]), direction = vec4(0.0);
    if (goes) {
        direction = update(vec4(g[i]), mean);
        m[i] = mean.x;
    }
    x[i] = direction.x;
    squares.x += direction.x * direction.x;
}

void main()
{
    const piece own = piece_of_group(1);
    if (own.t == 0) return;
    goes = norm[2] != 0.0;
    factor = norm[1];
    EACH_ELEMENT(own, four, one)
    const float sum = reduce_add((squares.x + squares.y) + (squares.z + squares.w));
    if (LANE == 0) partial[group_index()] = sum;
}
