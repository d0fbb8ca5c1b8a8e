// SPDX-License-Identifier: MIT
// Attention of one query over the KV cache (flash-decoding): a workgroup, one subgroup, has up to
// HELD heads that share keys, and one part of the keys. Each of its teams of lanes takes every
// TEAMS-th key with its own online softmax; they are merged here, the parts by attention_merge.
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
layout(set = 0, binding = 5, scalar) writeonly buffer part_one { float part_1[]; };
layout(set = 0, binding = 5, scalar) writeonly buffer part_four { vec4 part_4[]; };
layout(set = 0, binding = 6, scalar) writeonly buffer sum_buffer { vec2 sums[]; };
#include "lib/decode.glsl"

void save_part(uint row, uint chunk, vec4 value)
{
    const uint at = chunk * SPLIT + part();
    if (WHOLE) {
        if (EXACT || at < D4) part_4[row * D4 + at] = value;
        return;
    }
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (4 * at + i < HEAD_DIM) part_1[row * HEAD_DIM + 4 * at + i] = value[i];
}

void main()
{
    const uint group = heads / kv_heads, tiles = (group + HELD - 1) / HELD;
    const uint index = group_index(), part_index = index % parts, tile = index / parts;
    if (tile >= tiles * kv_heads) return;
    const uint kv = tile / tiles, head0 = kv * group + tile % tiles * HELD;
    const uint last = (kv + 1) * group - 1; // heads past it are computed again, not stored
    const uint all_end = decode_end(), all_begin = window_begin(all_end);
    const uint chunk = decode_chunk(all_end - all_begin);
    const uint begin = all_begin + part_index * chunk, end = min(begin + chunk, all_end);
    if (begin >= end) return;

    vec4 query[HELD * CHUNKS], sum[HELD * CHUNKS];
    [[unroll]] for (uint r = 0; r < HELD; r++)
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            query[r * CHUNKS + c] = load_q(min(head0 + r, last), c) * (scale * LOG2E);
            sum[r * CHUNKS + c] = vec4(0.0);
        }
    float most[OWN], total[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++) most[o] = NEVER, total[o] = 0.0;

    uint j = begin;
    do {
        float score[BLOCK][OWN], shrink[OWN];
        [[unroll]] for (uint o = 0; o < OWN; o++) shrink[o] = most[o];
        [[unroll]] for (uint n = 0; n < BLOCK; n++) {
            const uint key = j + n * TEAMS + team(), at = min(key, end - 1) * kv_heads + kv;
            float x[HELD];
            [[unroll]] for (uint r = 0; r < HELD; r++) x[r] = 0.0;
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                const vec4 y = load_k(at, c);
                [[unroll]] for (uint r = 0; r < HELD; r++)
                    x[r] = dot_add(query[r * CHUNKS + c], y, x[r]);
            }
            fold(x, score[n]);
            [[unroll]] for (uint o = 0; o < OWN; o++) {
                score[n][o] = key < end ? score[n][o] : NEVER;
                most[o] = max(most[o], score[n][o]);
            }
        }
        [[unroll]] for (uint o = 0; o < OWN; o++) {
            shrink[o] = exp2(shrink[o] - most[o]);
            total[o] *= shrink[o];
            [[unroll]] for (uint n = 0; n < BLOCK; n++) {
                score[n][o] = score[n][o] == NEVER ? 0.0 : exp2(score[n][o] - most[o]);
                total[o] += score[n][o];
            }
        }
        [[unroll]] for (uint r = 0; r < HELD; r++) {
            const float factor = spread(shrink, r);
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) sum[r * CHUNKS + c] *= factor;
        }
        [[unroll]] for (uint n = 0; n < BLOCK; n++) {
            const uint at = min(j + n * TEAMS + team(), end - 1) * kv_heads + kv;
            float prob[HELD];
            [[unroll]] for (uint r = 0; r < HELD; r++) prob[r] = spread(score[n], r);
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                const vec4 y = load_v(at, c);
                [[unroll]] for (uint r = 0; r < HELD; r++)
                    sum[r * CHUNKS + c] = fma(vec4(prob[r]), y, sum[r * CHUNKS + c]);
            }
        }
        j += BLOCK * TEAMS;
    } while (j < end);

    [[unroll]] for (uint s = 0; s < 6; s++) { // teams in pairs, then pairs of pairs
        const uint step = SPLIT << s;
        if (step >= LANES) continue;
        float mine[OWN], theirs[OWN];
        [[unroll]] for (uint o = 0; o < OWN; o++) {
            const float other = subgroupShuffleXor(most[o], step), next = max(most[o], other);
            mine[o] = exp2(most[o] - next);
            theirs[o] = exp2(other - next);
            total[o] = total[o] * mine[o] + subgroupShuffleXor(total[o], step) * theirs[o];
            most[o] = next;
        }
        [[unroll]] for (uint r = 0; r < HELD; r++) {
            const float ours = spread(mine, r), other = spread(theirs, r);
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                const uint at = r * CHUNKS + c;
                sum[at] = sum[at] * ours + subgroupShuffleXor(sum[at], step) * other;
            }
        }
    }

    float share[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++) {
        const uint head = head0 + own_row(o);
        share[o] = 1.0 / total[o];
        if (parts > 1 && head <= last && team() == 0 && part() < FOLD)
            sums[head * parts + part_index] = vec2(most[o], total[o]);
    }
    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint head = head0 + r;
        const float factor = spread(share, r);
        if (head > last || team() > 0) continue;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++)
            if (parts > 1) save_part(head * parts + part_index, c, sum[r * CHUNKS + c]);
            else save_o(head, c, sum[r * CHUNKS + c] * factor);
    }
}
