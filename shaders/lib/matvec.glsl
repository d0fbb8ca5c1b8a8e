// SPDX-License-Identifier: MIT
// Dot products of one row of A with COLUMNS (a multiple of 4) rows of B: K goes across the lanes,
// so that every load is of neighbouring values, and one reduction at the end adds the lanes. For
// decoding, where the time is the reading of B. The includer has COLUMNS and the operands
// quad_of_a and quad_of_b of lib/operand.glsl (UP: also quad_of_b_up), and fills dot_a and dot_b
// with the elements where the rows begin. (Four rows at a time were tried: on lavapipe a quarter
// of the speed of matmul's tile of four rows.)
const uint DOT_VECTORS = COLUMNS / 4;

uint  dot_a;
uint  dot_b[COLUMNS];
float dot_parts[COLUMNS]; // this lane's share
#ifdef UP
float dot_parts_up[COLUMNS];
#endif

float dot_add(vec4 x, vec4 w, float sum)
{
    return fma(x.x, w.x, fma(x.y, w.y, fma(x.z, w.z, fma(x.w, w.w, sum))));
}

// The four at `at`, those before the end.
vec4 dot_before_end(vec4 x, uint at, uint end)
{
    if (RAGGED == 0) return x;
    return mix(vec4(0.0), x, lessThan(uvec4(at, at + 1, at + 2, at + 3), uvec4(end)));
}

void dot_accumulate(uint at, uint end)
{
    const vec4 x = dot_before_end(quad_of_a(dot_a + at), at, end);
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) {
        dot_parts[i] =
            dot_add(x, dot_before_end(quad_of_b(dot_b[i] + at), at, end), dot_parts[i]);
#ifdef UP
        dot_parts_up[i] =
            dot_add(x, dot_before_end(quad_of_b_up(dot_b[i] + at), at, end), dot_parts_up[i]);
#endif
    }
}

// Over [begin, end) of the rows; `begin` is a multiple of 4.
void dot_loop(uint begin, uint end)
{
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) {
        dot_parts[i] = 0.0;
#ifdef UP
        dot_parts_up[i] = 0.0;
#endif
    }
    uint at = begin + LANE * 4;
    if (at < end) do {
        dot_accumulate(at, end);
        at += LANES * 4;
    } while (at < end);
}

// ---- the sums over the lanes

shared vec4 dot_share[32];

vec4 dot_reduce(vec4 own)
{
    const vec4 sum = subgroupAdd(own);
    if (SINGLE) return sum;
    barrier();
    if (subgroupElect()) dot_share[gl_SubgroupID] = sum;
    barrier();
    vec4 total = vec4(0.0);
    for (uint i = 0; i < gl_NumSubgroups; i++) total += dot_share[i];
    return total;
}

// Columns 4v .. 4v + 3.
#define DOT_SUM(parts, v) \
    dot_reduce(vec4(parts[4 * (v)], parts[4 * (v) + 1], parts[4 * (v) + 2], parts[4 * (v) + 3]))
