// SPDX-License-Identifier: MIT
// KERNEL_ATTENTION (src/kernel.h) with an online softmax (Milakov & Gimelshein 2018; Dao et al.
// 2022). A team holds HELD of the (query, head) rows that share keys, and walks over the keys BLOCK
// at a time. Scores are kept in base 2. WITHIN: not past the
// begin of a document (lib/within.glsl).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/attention.glsl"
#include "lib/step.glsl"

layout(set = 0, binding = 0, scalar) readonly restrict buffer step_buffer { step_words words; };
ROWS_IN(1, q)
ROWS_IN(2, k)
ROWS_IN(3, v)
TILED_ROWS(k)
TILED_ROWS(v)
ROWS_IO(4, o)
layout(set = 0, binding = 5, scalar) restrict buffer lse_buffer { float lse[]; };
DOCUMENTS(6)

#include "lib/attention_keys.glsl"

void main()
{
    const uint group = heads / kv_heads, rows = seq * group; // that share the keys of one kv head
    const uint tiles = (rows + TEAMS * HELD - 1) / (TEAMS * HELD);
    const uint index = group_index();
    if (index >= tiles * batch * kv_heads) return;
    const uint tile = tiles - 1 - index % tiles; // the longest first
    const uint b = index / tiles / kv_heads, kv = index / tiles % kv_heads;
    DOCUMENTS_OF(b)
    const uint top = tile * TEAMS * HELD, last = min(top + TEAMS * HELD, rows) - 1;
    const uint end = pass_end(keys_end(last / group));
    const uint begin = max(KEYS_BEGIN(top / group, keys_end(top / group)), first);
    if (begin >= end) return;
    const uint row0 = top + team() * HELD; // rows past the last compute it again, store nothing
    const uint at0 = b * seq * heads + kv * group;
    const uint key0 = b * stride * kv_heads + kv;

    vec4 query[HELD * CHUNKS], sum[HELD * CHUNKS];
    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint row = min(row0 + r, last), at = at0 + row / group * heads + row % group;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            query[r * CHUNKS + c] = load_q(at, c) * (scale * LOG2E);
            sum[r * CHUNKS + c] = vec4(0.0);
        }
    }
    uint own_end[OWN], own_begin[OWN];
    float most[OWN], total[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++) {
        const uint row = min(row0 + own_row(o), last), i = row / group;
        own_end[o] = pass_end(keys_end(i));
        own_begin[o] = max(KEYS_BEGIN(i, keys_end(i)), first);
        most[o] = NEVER;
        total[o] = 0.0;
        if (first > 0 && is_old(i)) { // goes on where the passes before ended
            most[o] = lse[at0 + i * heads + row % group] * LOG2E;
            total[o] = 1.0;
        }
    }
    if (first > 0)
        [[unroll]] for (uint r = 0; r < HELD; r++) {
            const uint row = min(row0 + r, last), at = at0 + row / group * heads + row % group;
            [[unroll]] for (uint c = 0; c < CHUNKS; c++)
                if (is_old(row / group)) sum[r * CHUNKS + c] = load_o(at, c);
        }

#ifdef TILE
    for (uint at = begin; at < end; at += TILED) {
    const uint key = key0 + at * kv_heads, stop = min(end - at, TILED);
    barrier();
    fetch_k(key, kv_heads, stop);
    fetch_v(key, kv_heads, stop);
    barrier();
#else
    const uint at = begin, key = key0 + at * kv_heads, stop = end - at;
#endif
    uint j = 0; // key number at + j
    do {
        float score[BLOCK][OWN], next[OWN];
        [[unroll]] for (uint o = 0; o < OWN; o++) next[o] = most[o];
        [[unroll]] for (uint n = 0; n < BLOCK; n++) {
            const uint which = min(j + n, stop - 1);
            float x[HELD];
            [[unroll]] for (uint r = 0; r < HELD; r++) x[r] = 0.0;
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                const vec4 y = walk_k(key, which, kv_heads, c);
                [[unroll]] for (uint r = 0; r < HELD; r++)
                    x[r] = dot_add(query[r * CHUNKS + c], y, x[r]);
            }
            fold(x, score[n]);
            [[unroll]] for (uint o = 0; o < OWN; o++) {
                const bool seen = at + j + n >= own_begin[o] && at + j + n < own_end[o];
                score[n][o] = seen ? score[n][o] : NEVER;
                next[o] = max(next[o], score[n][o]);
            }
        }
        float shrink[OWN];
        [[unroll]] for (uint o = 0; o < OWN; o++) {
            shrink[o] = exp2(most[o] - next[o]);
            total[o] *= shrink[o];
            most[o] = next[o];
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
            const uint which = min(j + n, stop - 1);
            float prob[HELD];
            [[unroll]] for (uint r = 0; r < HELD; r++) prob[r] = spread(score[n], r);
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                const vec4 y = walk_v(key, which, kv_heads, c);
                [[unroll]] for (uint r = 0; r < HELD; r++)
                    sum[r * CHUNKS + c] = fma(vec4(prob[r]), y, sum[r * CHUNKS + c]);
            }
        }
        j += BLOCK;
    } while (j < stop);
#ifdef TILE
    }
#endif

    float share[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++) {
        const uint row = row0 + own_row(o);
        share[o] = 1.0 / total[o];
        if (row <= last && own_begin[o] < own_end[o] && part() < FOLD)
            lse[at0 + row / group * heads + row % group] = (most[o] + log2(total[o])) * LN2;
    }
    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint row = row0 + r, at = at0 + row / group * heads + row % group;
        const float factor = spread(share, r);
        [[unroll]] for (uint c = 0; c < CHUNKS; c++)
            if (row <= last && is_seen(row / group))
                save_o(at, c, sum[r * CHUNKS + c] * factor);
    }
}
