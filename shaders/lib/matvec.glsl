// SPDX-License-Identifier: MIT
// Dot products of few rows of A with DOT_COLUMNS rows of B: K goes across the lanes, so that every load is of
// neighbouring values, and one reduction at the end adds the lanes. For decoding, where the time is the
// reading of B. The includer defines DOT_ROWS and DOT_COLUMNS (a multiple of 4), has the push word k, the
// arrays a, a4, b, b4 (UP: also b_up, b4_up), and fills dot_a and dot_b with the elements where rows begin.
const uint DOT_VECTORS = DOT_COLUMNS / 4;

uint dot_a[DOT_ROWS];
uint dot_b[DOT_COLUMNS];
vec4 dot_parts[DOT_ROWS * DOT_COLUMNS]; // [row][column], this lane's share
#ifdef UP
vec4 dot_parts_up[DOT_ROWS * DOT_COLUMNS];
#endif

void dot_accumulate4(uint at)
{
    vec4 x[DOT_ROWS];
    [[unroll]] for (uint r = 0; r < DOT_ROWS; r++) x[r] = LOAD(a4[(dot_a[r] + at) / 4]);
    [[unroll]] for (uint i = 0; i < DOT_COLUMNS; i++) {
        const vec4 w = LOAD(b4[(dot_b[i] + at) / 4]);
        [[unroll]] for (uint r = 0; r < DOT_ROWS; r++)
            dot_parts[r * DOT_COLUMNS + i] = fma(x[r], w, dot_parts[r * DOT_COLUMNS + i]);
#ifdef UP
        const vec4 v = LOAD(b4_up[(dot_b[i] + at) / 4]);
        [[unroll]] for (uint r = 0; r < DOT_ROWS; r++)
            dot_parts_up[r * DOT_COLUMNS + i] = fma(x[r], v, dot_parts_up[r * DOT_COLUMNS + i]);
#endif
    }
}

void dot_accumulate(uint at)
{
    [[unroll]] for (uint r = 0; r < DOT_ROWS; r++) {
        const float x = LOAD(a[dot_a[r] + at]);
        [[unroll]] for (uint i = 0; i < DOT_COLUMNS; i++) {
            dot_parts[r * DOT_COLUMNS + i].x += x * LOAD(b[dot_b[i] + at]);
#ifdef UP
            dot_parts_up[r * DOT_COLUMNS + i].x += x * LOAD(b_up[dot_b[i] + at]);
#endif
        }
    }
}

void dot_loop()
{
    [[unroll]] for (uint i = 0; i < DOT_ROWS * DOT_COLUMNS; i++) {
        dot_parts[i] = vec4(0.0);
#ifdef UP
        dot_parts_up[i] = vec4(0.0);
#endif
    }
    if (k % 4 == 0) {
        for (uint at = LANE * 4; at < k; at += LANES * 4) dot_accumulate4(at);
    } else {
        for (uint at = LANE; at < k; at += LANES) dot_accumulate(at);
    }
}

// ---- the sums over the lanes

shared vec4 dot_share[32];

vec4 dot_reduce(vec4 own)
{
    const vec4 sum = subgroupAdd(own);
    if (gl_NumSubgroups == 1) return sum;
    barrier();
    if (subgroupElect()) dot_share[gl_SubgroupID] = sum;
    barrier();
    vec4 total = vec4(0.0);
    for (uint i = 0; i < gl_NumSubgroups; i++) total += dot_share[i];
    return total;
}

float dot_lane(vec4 part) { return (part.x + part.y) + (part.z + part.w); }

// Columns 4v .. 4v + 3 of a row.
#define DOT_SUM(parts, row, v) dot_reduce(vec4( \
    dot_lane(parts[(row) * DOT_COLUMNS + (v) * 4]), dot_lane(parts[(row) * DOT_COLUMNS + (v) * 4 + 1]), \
    dot_lane(parts[(row) * DOT_COLUMNS + (v) * 4 + 2]), dot_lane(parts[(row) * DOT_COLUMNS + (v) * 4 + 3])))
