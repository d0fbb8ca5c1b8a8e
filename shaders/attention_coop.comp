// SPDX-License-Identifier: MIT
// KERNEL_ATTENTION (src/kernel.h) on KHR cooperative matrices: a workgroup has ROWS (query, head)
// rows that share keys, a subgroup MATRIX_M of them; keys and values come KEYS at a time through
// shared memory. Scores S = Q K^T leave the matrices through shared memory for the online softmax
// (lanes SUBGROUP / MATRIX_M a row), probabilities return as f16, O += P V stays in matrices and is
// multiplied by a matrix of the rows' factors first. No part of that is behind a branch, also where
// no factor is other than 1 or no row of a subgroup sees a key of the tile: lavapipe of Mesa 26.1
// then lost sums of some columns.
// bf16 goes through f16: each tile is scaled by a power of two so that its largest value is below
// 2^8; what is 2^30 times smaller than that counts as 0.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/tile_extensions.glsl"
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/pack.glsl"
#include "lib/step.glsl"
layout(constant_id = 1) const uint ROWS = 16;
layout(constant_id = 2) const uint KEYS = 16;
layout(constant_id = 3) const uint SUBGROUP = 8;
layout(constant_id = 4) const uint HEAD_DIM = 64;
layout(constant_id = 7) const uint MATRIX_M = 8;
layout(constant_id = 8) const uint MATRIX_N = 8;
layout(constant_id = 9) const uint MATRIX_K = 8;
#include "lib/attention_push.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer step_buffer { step_words words; };
layout(set = 0, binding = 1, scalar) readonly buffer q_eights { uvec4 q_8[]; };
layout(set = 0, binding = 2, scalar) readonly buffer k_eights { uvec4 k_8[]; };
layout(set = 0, binding = 3, scalar) readonly buffer v_eights { uvec4 v_8[]; };
layout(set = 0, binding = 4, scalar) buffer o_four { PACK4 o_4[]; };
layout(set = 0, binding = 5, scalar) buffer lse_buffer { float lse[]; };
DOCUMENTS(6)
#include "lib/attention_keys.glsl"

const uint PARTS = ROWS / MATRIX_M, THREADS = PARTS * SUBGROUP;
const uint LINE = HEAD_DIM / 8, STRIDE = LINE + 1; // of a row, in eights of 16 bits; one spare
const uint K_BEGIN = 0, V_BEGIN = KEYS * STRIDE;
const uint TILES = (2 * KEYS > ROWS ? 2 * KEYS : ROWS) * STRIDE; // also all queries, at first
// of each subgroup: scores, and in their place probabilities; a matrix of factors, or of O
const uint S_STRIDE = KEYS / 4 + 1, S_SLOT = MATRIX_M * S_STRIDE;
const uint F_STRIDE = MATRIX_N / 4 + 1, F_SLOT = MATRIX_M * F_STRIDE;
shared uvec4 stage[TILES + PARTS * (S_SLOT + F_SLOT)];

const uint SHARE = SUBGROUP / MATRIX_M, OWN = KEYS / SHARE; // lanes a row, scores a lane
const uint HELD = (KEYS * LINE + THREADS - 1) / THREADS;
uvec4 k_held[HELD], v_held[HELD];

#define SUMS coopmat<float, gl_ScopeSubgroup, MATRIX_M, MATRIX_N, gl_MatrixUseAccumulator>
coopmat<float16_t, gl_ScopeSubgroup, MATRIX_M, MATRIX_K, gl_MatrixUseA> query[HEAD_DIM / MATRIX_K];
SUMS sums[HEAD_DIM / MATRIX_N];

// ---- scales of bf16

#ifdef STORE_BF16
shared uvec2 stage_most[PARTS];
float q_scale, k_scale, v_scale = 1.7e38;

uint most_of(uint best, uvec4 eight)
{
    const uvec4 high = eight & 0x7fff0000u, low = eight << 16 & 0x7fff0000u, both = max(high, low);
    return max(best, max(max(both.x, both.y), max(both.z, both.w)));
}

// Exponents (biased) of the largest magnitudes that the lanes of the workgroup have.
uvec2 most_exponents(uvec2 own)
{
    own = subgroupMax(own);
    if (subgroupElect()) stage_most[gl_SubgroupID] = own;
    barrier();
    uvec2 all = uvec2(0);
    for (uint i = 0; i < PARTS; i++) all = max(all, stage_most[i]);
    return all >> 23;
}

// 2^(7 - exponent); Inf and NaN stay what they are
float scale_for(uint exponent)
{
    return exponent == 255 ? 1.0 : uintBitsToFloat(clamp(261u - exponent, 1u, 253u) << 23);
}

uint f16_pair(uint pair, float by)
{
    return packHalf2x16(uintBitsToFloat(uvec2(pair << 16, pair & 0xffff0000u)) * by);
}

uvec4 fitted(uvec4 e, float by)
{
    return uvec4(f16_pair(e.x, by), f16_pair(e.y, by), f16_pair(e.z, by), f16_pair(e.w, by));
}
#else
const float q_scale = 1.0, k_scale = 1.0, v_scale = 1.0;
#define fitted(e, by) (e)
#endif

// ---- tiles

void keys_fetch(uint row, uint rows)
{
    [[unroll]] for (uint i = 0; i < HELD; i++) {
        const uint e = LANE + i * THREADS;
        const uint at = (row + min(e / LINE, rows - 1) * kv_heads) * LINE + e % LINE;
        k_held[i] = k_8[at];
        v_held[i] = v_8[at];
    }
}

// Returns by what sums of values must be multiplied to be in the new scale.
float keys_keep()
{
    float before = 1.0;
#ifdef STORE_BF16
    uvec2 own = uvec2(0);
    [[unroll]] for (uint i = 0; i < HELD; i++)
        own = uvec2(most_of(own.x, k_held[i]), most_of(own.y, v_held[i]));
    const uvec2 most = most_exponents(own);
    k_scale = scale_for(most.x);
    before = v_scale;
    v_scale = min(v_scale, scale_for(most.y));
    before = v_scale / before;
#endif
    [[unroll]] for (uint i = 0; i < HELD; i++) {
        const uint e = LANE + i * THREADS, at = e / LINE * STRIDE + e % LINE;
        if (e < KEYS * LINE) {
            stage[K_BEGIN + at] = fitted(k_held[i], k_scale);
            stage[V_BEGIN + at] = fitted(v_held[i], v_scale);
        }
    }
    return before;
}

void query_load(uint at0, uint top, uint last, uint group)
{
#ifdef STORE_BF16
    uvec2 own = uvec2(0);
    [[dont_unroll]] for (uint e = LANE; e < ROWS * LINE; e += THREADS) {
        const uint row = min(top + e / LINE, last);
        own.x = most_of(own.x, q_8[(at0 + row / group * heads + row % group) * LINE + e % LINE]);
    }
    q_scale = scale_for(most_exponents(own).x);
#endif
    [[dont_unroll]] for (uint e = LANE; e < ROWS * LINE; e += THREADS) {
        const uint row = min(top + e / LINE, last);
        const uvec4 x = q_8[(at0 + row / group * heads + row % group) * LINE + e % LINE];
        stage[e / LINE * STRIDE + e % LINE] = fitted(x, q_scale);
    }
    barrier();
    [[unroll]] for (uint k = 0; k < HEAD_DIM / MATRIX_K; k++)
        coopMatLoad(query[k], stage, gl_SubgroupID * MATRIX_M * STRIDE + k * MATRIX_K / 8, STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
}

// ---- a tile of keys

void scores(uint slot)
{
    [[unroll]] for (uint j = 0; j < KEYS / MATRIX_N; j++) {
        SUMS score = SUMS(0.0);
        [[unroll]] for (uint k = 0; k < HEAD_DIM / MATRIX_K; k++) {
            coopmat<float16_t, gl_ScopeSubgroup, MATRIX_K, MATRIX_N, gl_MatrixUseB> key;
            coopMatLoad(key, stage, K_BEGIN + j * MATRIX_N * STRIDE + k * MATRIX_K / 8, STRIDE,
                        gl_CooperativeMatrixLayoutColumnMajor);
            score = coopMatMulAdd(query[k], key, score);
        }
        coopMatStore(score, stage, slot + j * MATRIX_N / 4, S_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
    subgroupBarrier();
}

void values_add(uint slot)
{
    [[unroll]] for (uint k = 0; k < KEYS / MATRIX_K; k++) {
        coopmat<float16_t, gl_ScopeSubgroup, MATRIX_M, MATRIX_K, gl_MatrixUseA> prob;
        coopMatLoad(prob, stage, slot + k * MATRIX_K / 8, S_STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0; j < HEAD_DIM / MATRIX_N; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, MATRIX_K, MATRIX_N, gl_MatrixUseB> value;
            coopMatLoad(value, stage, V_BEGIN + k * MATRIX_K * STRIDE + j * MATRIX_N / 8, STRIDE,
                        gl_CooperativeMatrixLayoutRowMajor);
            sums[j] = coopMatMulAdd(prob, value, sums[j]);
        }
    }
}

// Each row of the sums times its factor: matrices of one type lie alike in the lanes.
void sums_scale(uint slot, uint row, uint part, float factor)
{
    for (uint c = part; c < MATRIX_N / 4; c += SHARE)
        stage[slot + row * F_STRIDE + c] = floatBitsToUint(vec4(factor));
    subgroupBarrier();
    SUMS factors;
    coopMatLoad(factors, stage, slot, F_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint j = 0; j < HEAD_DIM / MATRIX_N; j++)
        for (uint i = 0; i < sums[j].length(); i++) sums[j][i] *= factors[i];
}

void main()
{
    const uint group = heads / kv_heads, rows = seq * group;
    const uint tiles = (rows + ROWS - 1) / ROWS, index = group_index();
    if (index >= tiles * batch * kv_heads) return;
    const uint tile = tiles - 1 - index % tiles; // the longest first
    const uint b = index / tiles / kv_heads, kv = index / tiles % kv_heads;
    DOCUMENTS_OF(b)
    const uint top = tile * ROWS, last = min(top + ROWS, rows) - 1;
    const uint end = pass_end(keys_end(last / group));
    const uint begin = max(KEYS_BEGIN(top / group, keys_end(top / group)), first);
    if (begin >= end) return;
    const uint at0 = b * seq * heads + kv * group, key0 = b * stride * kv_heads + kv;

    const uint row = gl_SubgroupInvocationID / SHARE, part = gl_SubgroupInvocationID % SHARE;
    const uint own = top + gl_SubgroupID * MATRIX_M + row, i = min(own, last) / group;
    const uint own_end = pass_end(keys_end(i));
    const uint own_begin = max(KEYS_BEGIN(i, keys_end(i)), first);
    const uint slot = TILES + gl_SubgroupID * S_SLOT;
    const uint factor_slot = TILES + PARTS * S_SLOT + gl_SubgroupID * F_SLOT;

    query_load(at0, top, last, group);
    keys_fetch(key0 + begin * kv_heads, end - begin);
    [[unroll]] for (uint j = 0; j < HEAD_DIM / MATRIX_N; j++) sums[j] = SUMS(0.0);
    float most = NEVER, total = 0.0;
    for (uint at = begin; at < end; at += KEYS) {
        barrier();
        const float rescale = keys_keep();
        barrier();
        if (at + KEYS < end) keys_fetch(key0 + (at + KEYS) * kv_heads, end - at - KEYS);
        scores(slot);
        const float factor = scale * LOG2E / q_scale / k_scale;
        float next = most;
        vec4 x[OWN / 4];
        [[unroll]] for (uint c = 0; c < OWN / 4; c++) {
            const uvec4 key = uvec4(at + part * OWN + 4 * c) + uvec4(0, 1, 2, 3);
            x[c] = uintBitsToFloat(stage[slot + row * S_STRIDE + part * (OWN / 4) + c]) * factor;
            x[c] = mix(x[c], vec4(NEVER), lessThan(key, uvec4(own_begin)));
            x[c] = mix(x[c], vec4(NEVER), greaterThanEqual(key, uvec4(own_end)));
            next = max(max(next, max(x[c].x, x[c].y)), max(x[c].z, x[c].w));
        }
        [[unroll]] for (uint s = 1; s < SHARE; s *= 2)
            next = max(next, subgroupShuffleXor(next, s));
        const float shrink = exp2(most - next) * rescale;
        total *= exp2(most - next);
        most = next;
        subgroupBarrier(); // all scores are read
        [[unroll]] for (uint c = 0; c < OWN / 4; c++) {
            x[c] = mix(exp2(x[c] - most), vec4(0.0), equal(x[c], vec4(NEVER)));
            total += x[c].x + x[c].y + x[c].z + x[c].w;
        }
        [[unroll]] for (uint c = 0; c < OWN / 8; c++)
            stage[slot + row * S_STRIDE + part * (OWN / 8) + c] =
                uvec4(packHalf2x16(x[2 * c].xy), packHalf2x16(x[2 * c].zw),
                      packHalf2x16(x[2 * c + 1].xy), packHalf2x16(x[2 * c + 1].zw));
        sums_scale(factor_slot, row, part, shrink);
        subgroupBarrier();
        values_add(slot);
    }

    [[unroll]] for (uint s = 1; s < SHARE; s *= 2) total += subgroupShuffleXor(total, s);
    const uint to = at0 + i * heads + min(own, last) % group;
    const bool stored = own <= last && own_begin < own_end;
    float before = 0.0, mine = 1.0;
    if (first > 0 && is_old(i)) { // goes on where the passes before ended
        const float old = lse[to] * LOG2E, next = max(most, old);
        before = exp2(old - next);
        mine = exp2(most - next);
        most = next;
        total = total * mine + before;
    }
    const float share = mine / total / v_scale, old_share = before / total;
    [[unroll]] for (uint j = 0; j < HEAD_DIM / MATRIX_N; j++) {
        subgroupBarrier();
        coopMatStore(sums[j], stage, factor_slot, F_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        [[unroll]] for (uint n = 0; n < MATRIX_N / 4; n += SHARE) {
            const uint c = n + part, out_at = (to * HEAD_DIM + j * MATRIX_N) / 4 + c;
            if (c < MATRIX_N / 4 && stored) {
                vec4 y = uintBitsToFloat(stage[factor_slot + row * F_STRIDE + c]) * share;
                if (before > 0.0) y += unpack(o_4[out_at]) * old_share;
                o_4[out_at] = pack(y);
            }
        }
    }
    if (stored && part == 0) lse[to] = (most + log2(total)) * LN2;
}
