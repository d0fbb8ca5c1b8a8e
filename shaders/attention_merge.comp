// SPDX-License-Identifier: MIT
// Merges the parts of attention_decode, in their order; a workgroup a head, a lane every LANES-th
// element.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/attention.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
layout(set = 0, binding = 1, scalar) readonly buffer part_buffer { float part_1[]; };
layout(set = 0, binding = 2, scalar) readonly buffer sum_buffer { vec2 sums[]; };
STORE_OUT(3, o)
#include "lib/decode.glsl"

void main()
{
    const uint head = group_index();
    if (head >= heads) return;
    const uint end = decode_end(), keys = end - window_begin(end);
    const uint chunk = decode_chunk(keys), used = (keys + chunk - 1) / chunk;
    const uint row0 = head * parts;
    float most = NEVER;
    for (uint i = 0; i < used; i++) most = max(most, sums[row0 + i].x);
    const uint each = (HEAD_DIM + LANES - 1) / LANES; // elements a lane
    float sum[(HEAD_DIM + 3) / 4], total = 0.0;       // LANES is at least 4
    [[unroll]] for (uint d = 0; d < each; d++) sum[d] = 0.0;
    for (uint i = 0; i < used; i++) {
        const vec2 one = sums[row0 + i];
        const float factor = exp2(one.x - most);
        total = fma(one.y, factor, total);
        [[unroll]] for (uint d = 0; d < each; d++) {
            const uint at = min(d * LANES + LANE, HEAD_DIM - 1);
            sum[d] = fma(part_1[(row0 + i) * HEAD_DIM + at], factor, sum[d]);
        }
    }
    [[unroll]] for (uint d = 0; d < each; d++)
        if (d * LANES + LANE < HEAD_DIM)
            o_1[head * HEAD_DIM + d * LANES + LANE] = SAVE(sum[d] / total);
}
