// SPDX-License-Identifier: MIT
// Gradient of the embedding table, a workgroup for 4 * LANES columns of a distinct token id: the
// rows of dx that had this id, in the host's order, are summed and added to the id's row. (One
// workgroup for all columns ran into lavapipe's limit of 65,535 loop turns an invocation where a
// long batch repeats one id.)
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
layout(set = 0, binding = 1, scalar) readonly buffer order_buffer { uint order[]; };
layout(set = 0, binding = 2, scalar) readonly buffer begin_buffer { uint segment_begin[]; };
layout(set = 0, binding = 3, scalar) readonly buffer id_buffer { uint segment_id[]; };
STORE_IN(4, dx)
layout(set = 0, binding = 5, scalar) buffer dtable_one { float dtable_1[]; };
layout(set = 0, binding = 5, scalar) buffer dtable_four { vec4 dtable_4[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols, vocab, first; };

void main()
{
    const uint chunks = (cols + 4 * LANES - 1) / (4 * LANES);
    const uint s = group_index() / chunks, chunk = group_index() % chunks;
    if (s >= min(words.segments, rows)) return;
    const uint begin = segment_begin[s], end = segment_begin[s + 1], id = segment_id[s] - first;
    if (id >= vocab || begin >= end) return;
    const uint n = quads(cols), q = chunk * LANES + LANE;
    if (q < n) {
        vec4 sum = vec4(0.0);
        uint i = begin;
        do sum += unpack(dx_4[order[i] * n + q]); while (++i < end);
        dtable_4[id * n + q] += sum;
    }
    if (n != 0) return;
    const uint last = min(cols, (chunk + 1) * 4 * LANES);
    for (uint c = chunk * 4 * LANES + LANE; c < last; c += LANES) {
        float sum = 0.0;
        uint i = begin;
        do sum += LOAD(dx_1[order[i] * cols + c]); while (++i < end);
        dtable_1[id * cols + c] += sum;
    }
}
