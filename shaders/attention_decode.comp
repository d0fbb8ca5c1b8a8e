// SPDX-License-Identifier: MIT
// Attention of one query over the KV cache, one workgroup (one subgroup) a head: each team of lanes
// takes every TEAMS-th key with its own online softmax (HELD is 1), and the results are merged.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/attention.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
ROWS_IN(1, q)
ROWS_IN(2, k)
ROWS_IN(3, v)
ROWS_OUT(4, o)

void main()
{
    const uint head = group_index();
    if (head >= heads) return;
    const uint end = min(words.base + 1, stride);
    const uint begin = window != 0 && end > window ? end - window : 0;
    const uint kv = head / (heads / kv_heads);
    vec4 query[CHUNKS], sum[CHUNKS];
    [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
        query[c] = load_q(head, c) * (scale * LOG2E);
        sum[c] = vec4(0.0);
    }
    float most = NEVER, total = 0.0;
    uint j = begin;
    do {
        float score[BLOCK][OWN], next = most;
        [[unroll]] for (uint n = 0; n < BLOCK; n++) {
            const uint key = j + n * TEAMS + team();
            float x[HELD];
            x[0] = 0.0;
            [[unroll]] for (uint c = 0; c < CHUNKS; c++)
                x[0] = dot_add(query[c], load_k(min(key, end - 1) * kv_heads + kv, c), x[0]);
            fold(x, score[n]);
            score[n][0] = key < end ? score[n][0] : NEVER;
            next = max(next, score[n][0]);
        }
        const float shrink = exp2(most - next);
        total *= shrink;
        most = next;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) sum[c] *= shrink;
        [[unroll]] for (uint n = 0; n < BLOCK; n++) {
            const uint key = min(j + n * TEAMS + team(), end - 1);
            const float prob = score[n][0] == NEVER ? 0.0 : exp2(score[n][0] - most);
            total += prob;
            [[unroll]] for (uint c = 0; c < CHUNKS; c++)
                sum[c] = fma(vec4(prob), load_v(key * kv_heads + kv, c), sum[c]);
        }
        j += BLOCK * TEAMS;
    } while (j < end);

    for (uint step = SPLIT; step < LANES; step *= 2) { // teams in pairs, then pairs of pairs
        const float other = subgroupShuffleXor(most, step), next = max(most, other);
        const float mine = exp2(most - next), theirs = exp2(other - next);
        total = total * mine + subgroupShuffleXor(total, step) * theirs;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++)
            sum[c] = sum[c] * mine + subgroupShuffleXor(sum[c], step) * theirs;
        most = next;
    }
    if (team() > 0) return;
    [[unroll]] for (uint c = 0; c < CHUNKS; c++) save_o(head, c, sum[c] / total);
}
