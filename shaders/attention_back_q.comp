// SPDX-License-Identifier: MIT
// Gradient of attention for the queries: dq_i = scale sum_j ds_ij k_j with
// p_ij = exp(scale q_i k_j - lse_i) and ds_ij = p_ij (do_i v_j - delta_i) (Dao et al. 2022,
// appendix B). A team holds HELD (query, head) rows that share keys, and walks over the keys.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/attention.glsl"

ROWS_IN(0, q)
ROWS_IN(1, k)
ROWS_IN(2, v)
TILED_ROWS(k)
TILED_ROWS(v)
ROWS_IN(3, d_o)
layout(set = 0, binding = 4, scalar) readonly restrict buffer lse_buffer { float lse[]; };
layout(set = 0, binding = 5, scalar) readonly restrict buffer delta_buffer { float delta[]; };
ROWS_IO(6, dq)
DOCUMENTS(7)

uint keys_end(uint i) { return bidirectional != 0 ? seq : i + 1; }
// keys [x, y) that query i sees, of this pass
uvec2 keys_of(uint i)
{
    return uvec2(max(KEYS_BEGIN(i, keys_end(i)), first), pass_end(keys_end(i)));
}

void main()
{
    const uint group = heads / kv_heads, rows = seq * group;
    const uint tiles = (rows + TEAMS * HELD - 1) / (TEAMS * HELD);
    const uint index = group_index();
    if (index >= tiles * batch * kv_heads) return;
    const uint tile = tiles - 1 - index % tiles; // the longest first
    const uint b = index / tiles / kv_heads, kv = index / tiles % kv_heads;
    DOCUMENTS_OF(b)
    const uint top = tile * TEAMS * HELD, last = min(top + TEAMS * HELD, rows) - 1;
    const uint end = keys_of(last / group).y, begin = keys_of(top / group).x;
    if (begin >= end) return;
    const uint row0 = top + team() * HELD;
    const uint at0 = b * seq * heads + kv * group;
    const uint key0 = b * stride * kv_heads + kv;

    vec4 query[HELD * CHUNKS], grad[HELD * CHUNKS], sum[HELD * CHUNKS];
    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint row = min(row0 + r, last), at = at0 + row / group * heads + row % group;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            query[r * CHUNKS + c] = load_q(at, c) * (scale * LOG2E);
            grad[r * CHUNKS + c] = load_d_o(at, c);
            sum[r * CHUNKS + c] = vec4(0.0);
        }
    }
    uvec2 own_keys[OWN];
    float own_lse[OWN], own_delta[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++) {
        const uint row = min(row0 + own_row(o), last), at = at0 + row / group * heads + row % group;
        own_keys[o] = keys_of(row / group);
        own_lse[o] = lse[at] * LOG2E;
        own_delta[o] = delta[at];
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
        vec4 y[CHUNKS];
        float x[HELD], z[HELD], score[OWN], d_score[OWN];
        [[unroll]] for (uint r = 0; r < HELD; r++) x[r] = z[r] = 0.0;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            const vec4 value = walk_v(key, j, kv_heads, c);
            y[c] = walk_k(key, j, kv_heads, c);
            [[unroll]] for (uint r = 0; r < HELD; r++) {
                x[r] = dot_add(query[r * CHUNKS + c], y[c], x[r]);
                z[r] = dot_add(grad[r * CHUNKS + c], value, z[r]);
            }
        }
        fold(x, score);
        fold(z, d_score);
        [[unroll]] for (uint o = 0; o < OWN; o++) {
            const bool seen = at + j >= own_keys[o].x && at + j < own_keys[o].y;
            const float prob = seen ? exp2(score[o] - own_lse[o]) : 0.0;
            d_score[o] = prob * (d_score[o] - own_delta[o]);
        }
        [[unroll]] for (uint r = 0; r < HELD; r++) {
            const vec4 factor = vec4(spread(d_score, r));
            [[unroll]] for (uint c = 0; c < CHUNKS; c++)
                sum[r * CHUNKS + c] = fma(factor, y[c], sum[r * CHUNKS + c]);
        }
        j++;
    } while (j < stop);
#ifdef TILE
    }
#endif

    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint row = row0 + r, i = row / group, at = at0 + i * heads + row % group;
        const uvec2 keys = keys_of(i);
        if (row > last || keys.x >= keys.y) continue;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            // loaded in any case: with a branch around it lavapipe of Mesa 26.1.6 loses the stores
            // of some components (LLVM 21; f32 with 8 rows of 32, f16 with 8 of 128)
            const vec4 x = sum[r * CHUNKS + c] * scale, old = load_dq(at, c);
            save_dq(at, c, KEYS_BEGIN(i, keys_end(i)) < first ? x + old : x);
        }
    }
}
