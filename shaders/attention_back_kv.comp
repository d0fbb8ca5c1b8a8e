// SPDX-License-Identifier: MIT
// Gradient of attention for the keys and values: dk_j = scale sum_i ds_ij q_i and
// dv_j = sum_i p_ij do_i over the queries i of all heads of the group (p and ds as in
// attention_back_q.comp). A team holds HELD keys, and walks over the (query, head) rows that see
// them.
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
ROWS_IN(3, d_o)
layout(set = 0, binding = 4, scalar) readonly restrict buffer lse_buffer { float lse[]; };
layout(set = 0, binding = 5, scalar) readonly restrict buffer delta_buffer { float delta[]; };
ROWS_IO(6, dk)
ROWS_IO(7, dv)
DOCUMENTS(8)

// Walked over: (query, head) pairs, `pair` counting from the first query's first head.
#ifdef TILE
shared PACK4 q_tile[TILED * D4], d_o_tile[TILED * D4];
shared vec2  scalar_tile[TILED]; // log-sum-exp, delta

void fetch_pairs(uint at, uint group, uint pair, uint pairs)
{
    for (uint e = lane(); e < TILED * D4; e += LANES) {
        const uint n = pair + min(e / D4, pairs - 1), row = at + n / group * heads + n % group;
        q_tile[e] = q_4[row * D4 + e % D4];
        d_o_tile[e] = d_o_4[row * D4 + e % D4];
        if (e % D4 == 0) scalar_tile[e / D4] = vec2(lse[row], delta[row]);
    }
}
vec4 of_row(PACK4 x, uint chunk)
{
    return EXACT || chunk * SPLIT + part() < D4 ? unpack(x) : vec4(0.0);
}
#define WALK(name, row, n, c) of_row(name##_tile[n * D4 + min(c * SPLIT + part(), D4 - 1)], c)
#define WALK_SCALARS(row, n)  scalar_tile[n]
#else
#define WALK(name, row, n, c) load_##name(row, c)
#define WALK_SCALARS(row, n)  vec2(lse[row], delta[row])
#endif

// the first query that sees key j, and one past the last
uint queries_from(uint j) { return bidirectional != 0 ? 0 : j; }
uint queries_of(uint j) { return window != 0 && window < seq - j ? j + window : seq; }
#ifdef WITHIN
// the first query behind the document of key j
uint document_end(uint j)
{
    uint low = j + 1, high = queries_of(j);
    while (low < high) {
        const uint middle = low + (high - low) / 2;
        if (begins[begins_at + middle] > j) high = middle;
        else low = middle + 1;
    }
    return high;
}
// whether a query of this pass sees key j: the first that might does
bool is_seen(uint j)
{
    const uint i = max(j, first);
    return i < pass_end(queries_of(j)) && begins[begins_at + i] <= j;
}
#define QUERIES_END(j) document_end(j)
#define IS_UNSEEN(j)   (!is_seen(j))
#else
#define QUERIES_END(j) queries_of(j)
#define IS_UNSEEN(j)   (max(queries_from(j), first) >= pass_end(queries_of(j)))
#endif

void main()
{
    const uint group = heads / kv_heads;
    const uint tiles = (seq + TEAMS * HELD - 1) / (TEAMS * HELD);
    const uint index = group_index();
    if (index >= tiles * batch * kv_heads) return;
    const uint tile = index % tiles; // the longest first
    const uint b = index / tiles / kv_heads, kv = index / tiles % kv_heads;
    DOCUMENTS_OF(b)
    const uint top = tile * TEAMS * HELD, last = min(top + TEAMS * HELD, seq) - 1;
    const uint queries_begin = max(queries_from(top), first);
    const uint queries_end = pass_end(QUERIES_END(last));
    if (queries_begin >= queries_end) return;
    const uint j0 = top + team() * HELD;
    const uint at0 = b * seq * heads + kv * group;
    const uint key0 = b * stride * kv_heads + kv;

    vec4 key[HELD * CHUNKS], value[HELD * CHUNKS], sum_k[HELD * CHUNKS], sum_v[HELD * CHUNKS];
    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint at = key0 + min(j0 + r, last) * kv_heads;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            key[r * CHUNKS + c] = load_k(at, c) * (scale * LOG2E);
            value[r * CHUNKS + c] = load_v(at, c);
            sum_k[r * CHUNKS + c] = sum_v[r * CHUNKS + c] = vec4(0.0);
        }
    }

#ifdef WITHIN
    uint own_end[OWN];
    [[unroll]] for (uint o = 0; o < OWN; o++)
        own_end[o] = document_end(min(j0 + own_row(o), last));
#endif
    uint i = queries_begin, h = 0; // query and head: a row of q, do, lse, delta
#ifdef TILE
    const uint pairs = (queries_end - queries_begin) * group;
    for (uint pair = 0; pair < pairs; pair += TILED) {
    barrier();
    fetch_pairs(at0 + queries_begin * heads, group, pair, pairs - pair);
    barrier();
    const uint stop = min(pairs - pair, TILED);
    uint n = 0;
    do {
#else
    do {
#endif
        const uint at = at0 + i * heads + h;
        vec4 query[CHUNKS], grad[CHUNKS];
        float x[HELD], z[HELD], prob[OWN], d_score[OWN];
        [[unroll]] for (uint r = 0; r < HELD; r++) x[r] = z[r] = 0.0;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            query[c] = WALK(q, at, n, c);
            grad[c] = WALK(d_o, at, n, c);
            [[unroll]] for (uint r = 0; r < HELD; r++) {
                x[r] = dot_add(key[r * CHUNKS + c], query[c], x[r]);
                z[r] = dot_add(value[r * CHUNKS + c], grad[c], z[r]);
            }
        }
        fold(x, prob);
        fold(z, d_score);
        const vec2 scalars = WALK_SCALARS(at, n);
        const float row_lse = scalars.x * LOG2E, row_delta = scalars.y;
        [[unroll]] for (uint o = 0; o < OWN; o++) {
            const uint j = j0 + own_row(o);
#ifdef WITHIN
            const bool seen = j <= i && i < own_end[o];
#else
            const bool seen = (bidirectional != 0 || j <= i) && (window == 0 || i - j < window);
#endif
            prob[o] = seen ? exp2(prob[o] - row_lse) : 0.0;
            d_score[o] = prob[o] * (d_score[o] - row_delta);
        }
        [[unroll]] for (uint r = 0; r < HELD; r++) {
            const vec4 p = vec4(spread(prob, r)), ds = vec4(spread(d_score, r));
            [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
                sum_v[r * CHUNKS + c] = fma(p, grad[c], sum_v[r * CHUNKS + c]);
                sum_k[r * CHUNKS + c] = fma(ds, query[c], sum_k[r * CHUNKS + c]);
            }
        }
        h++;
        if (h == group) h = 0, i++;
#ifdef TILE
        n++;
    } while (n < stop);
    }
#else
    } while (i < queries_end);
#endif

    [[unroll]] for (uint r = 0; r < HELD; r++) {
        const uint j = j0 + r, at = key0 + j * kv_heads;
        if (j > last || IS_UNSEEN(j)) continue;
        [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
            vec4 x = sum_k[r * CHUNKS + c] * scale, y = sum_v[r * CHUNKS + c];
            if (queries_from(j) < first) x += load_dk(at, c), y += load_dv(at, c);
            save_dk(at, c, x);
            save_dv(at, c, y);
        }
    }
}
