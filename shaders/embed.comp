// SPDX-License-Identifier: MIT
// Rows of the embedding table, one workgroup a token; an id outside the vocabulary gives zeros.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer ids_buffer { uint ids[]; };
STORE_IN(1, table)
STORE_OUT(2, x)
layout(push_constant, scalar) uniform push_words { uint rows, cols, vocab, first; };

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint id = ids[row] - first, from = min(id, vocab - 1), n = quads(cols);
    const bool known = id < vocab;
    if (!known && first != 0) return; // of another window
    for (uint i = LANE; i < n; i += LANES)
        x_4[row * n + i] = pack(known ? unpack(table_4[from * n + i]) : vec4(0.0));
    for (uint c = 4 * n + LANE; c < cols; c += LANES)
        x_1[row * cols + c] = SAVE(known ? LOAD(table_1[from * cols + c]) : 0.0);
}
