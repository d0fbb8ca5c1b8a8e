// SPDX-License-Identifier: MIT
// The inner loop of every flat matmul: a lane holds ROWS x 4 sums of C in registers (UP: two of
// them, for two matrices). Columns go across the lanes. Rows are the same for all lanes, so the
// lanes share out the loads of A, SPREAD at a time, and pass the values around by shuffles with
// constant indices. On CPU drivers one load by all lanes costs about as much as 130
// multiplications of vectors (as a texel, 40) and such a shuffle is one instruction: this made 2.5
// times the speed of loading A in every lane (lavapipe 22.3.6; 1.4 times on 26). SPREAD 1 is the
// plain loop, for cards, which broadcast uniform loads by themselves.
//
// The includer defines one of NT (A [rows][k], B [n][k]), NN (A [rows][k], B [k][n]) and TN (A
// [k][m], B [k][n]); has the push word n (TN: also m); `uint stride_a()` and `stride_b()`, the
// elements from row to row; the operands quad_of_a and quad_of_b (UP: also quad_of_b_up) of
// lib/operand.glsl; and, with GATHER (TN), `void find_rows(uint at)`, which puts the rows of the
// next four `at` into row_a and row_b, those past the end as the last one. k counts along the
// sums, four at a time, and is named `at` here. Where RAGGED,
// strides, n, m and k are any numbers, else multiples of four, but for the k of TN.
#ifndef MATMUL_AGAIN
layout(constant_id = 1) const uint ROWS = 16;
layout(constant_id = 2) const uint COLUMNS = 4;  // for the grid; the loop is written for 4
layout(constant_id = 3) const uint SPREAD = 1;   // divides ROWS, at most the subgroup size
layout(constant_id = 4) const uint DEPTH = 4;    // of k in a turn of the loop: 4 or 8

const uint HELD = ROWS / SPREAD;    // vectors of A a lane loads for four `at`
const uint GROUPS = (ROWS + 3) / 4; // TN: vectors of A along the rows

vec4 sums[ROWS];
vec4 held_a[HELD];
vec4 held_b[4];     // [at][column]
uint a_at[HELD];    // element of A at the beginning of each held vector
uint b_at[4];       // element of B: NT of each column, else [0] of the first column
uint k_end;         // of this workgroup
#ifdef GATHER
uint row_a[4], row_b[4];
#endif
#ifdef UP
vec4 sums_up[ROWS];
vec4 held_b_up[4];
#endif

uint spread_lane() { return gl_SubgroupInvocationID % SPREAD; }

// Of four neighbours along k, those before the end.
vec4 before_end(vec4 x, uint at)
{
    if (RAGGED == 0) return x;
    return mix(vec4(0.0), x, lessThan(uvec4(at, at + 1, at + 2, at + 3), uvec4(k_end)));
}

void clear_sums()
{
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        sums[r] = vec4(0.0);
#ifdef UP
        sums_up[r] = vec4(0.0);
#endif
    }
}

// ---- B

// Four columns from `column` on, in a matrix of B that begins at `base`. Columns past the last one
// read anything; they are never written.
void place_b(uint base, uint column)
{
#ifdef NT
    [[unroll]] for (uint i = 0; i < 4; i++)
        b_at[i] = base + min(column + i, n - 1) * stride_b();
#else
    b_at[0] = base + min(column, RAGGED != 0 ? n - 1 : n - 4);
#endif
}

#endif // MATMUL_AGAIN

#ifdef NT
#define LOAD_B(target, quad) { \
    const vec4 c0 = before_end(quad(b_at[0] + at), at), c1 = before_end(quad(b_at[1] + at), at); \
    const vec4 c2 = before_end(quad(b_at[2] + at), at), c3 = before_end(quad(b_at[3] + at), at); \
    target[0] = vec4(c0.x, c1.x, c2.x, c3.x); target[1] = vec4(c0.y, c1.y, c2.y, c3.y); \
    target[2] = vec4(c0.z, c1.z, c2.z, c3.z); target[3] = vec4(c0.w, c1.w, c2.w, c3.w); }
#else
#ifndef MATMUL_AGAIN
// rows past the end are the last one's, times an A of 0
uint row_before_end(uint at)
{
#ifndef TN
    if (RAGGED == 0) return at;
#endif
    return min(at, k_end - 1);
}
#endif
#ifdef GATHER
#define ROW_OF_B(j) row_b[j]
#else
#define ROW_OF_B(j) row_before_end(at + j)
#endif
#define LOAD_B(target, quad) \
    [[unroll]] for (uint j = 0; j < 4; j++) \
        target[j] = quad(b_at[0] + ROW_OF_B(j) * stride_b());
#endif

void load_b(uint at)
{
    LOAD_B(held_b, quad_of_b)
#ifdef UP
    LOAD_B(held_b_up, quad_of_b_up)
#endif
}

// ---- A

#ifdef TN
// Rows from `first` on; TN has its rows along A's vectors: vector q is rows 4 (q % GROUPS) .. + 3
// of the k that is q / GROUPS further.
uint k_of_held(uint i) { return (i * SPREAD + spread_lane()) / GROUPS; }

void place_a(uint first)
{
    [[unroll]] for (uint i = 0; i < HELD; i++)
        a_at[i] = min(first + (i * SPREAD + spread_lane()) % GROUPS * 4,
                      RAGGED != 0 ? m - 1 : m - 4);
}

vec4 load_held(uint i, uint at)
{
    const uint ahead = k_of_held(i), own = at + ahead;
#ifdef GATHER
    uint row = row_a[0];
    [[unroll]] for (uint j = 1; j < 4; j++) row = j == ahead ? row_a[j] : row;
#else
    const uint row = min(own, k_end - 1);
#endif
    const vec4 x = quad_of_a(a_at[i] + row * stride_a());
    return own < k_end ? x : vec4(0.0);
}
#else
vec4 load_held(uint i, uint at) { return before_end(quad_of_a(a_at[i] + at), at); }
#endif

void load_a(uint at)
{
    [[unroll]] for (uint i = 0; i < HELD; i++) held_a[i] = load_held(i, at);
}

// Held vector q of all lanes together. With SPREAD 1 it is loaded here, where it is used: cards
// then need few registers for A.
vec4 vector_of_a(uint q, uint at)
{
    if (SPREAD == 1) return load_held(q, at);
    return subgroupShuffle(held_a[q / SPREAD], q % SPREAD);
}

// ---- the loop

#ifndef MATMUL_AGAIN
void multiply_row(uint r, vec4 x)
{
    sums[r] = fma(vec4(x.x), held_b[0], sums[r]);
    sums[r] = fma(vec4(x.y), held_b[1], sums[r]);
    sums[r] = fma(vec4(x.z), held_b[2], sums[r]);
    sums[r] = fma(vec4(x.w), held_b[3], sums[r]);
#ifdef UP
    sums_up[r] = fma(vec4(x.x), held_b_up[0], sums_up[r]);
    sums_up[r] = fma(vec4(x.y), held_b_up[1], sums_up[r]);
    sums_up[r] = fma(vec4(x.z), held_b_up[2], sums_up[r]);
    sums_up[r] = fma(vec4(x.w), held_b_up[3], sums_up[r]);
#endif
}

#endif

void multiply(uint at)
{
    if (SPREAD > 1) load_a(at);
#ifdef TN
    // `at` 0 .. 3 of four neighbouring rows, turned round
    [[unroll]] for (uint g = 0; g < GROUPS; g++) {
        const vec4 x0 = vector_of_a(g, at), x1 = vector_of_a(GROUPS + g, at);
        const vec4 x2 = vector_of_a(2 * GROUPS + g, at), x3 = vector_of_a(3 * GROUPS + g, at);
        multiply_row(g * 4 + 0, vec4(x0.x, x1.x, x2.x, x3.x));
        multiply_row(g * 4 + 1, vec4(x0.y, x1.y, x2.y, x3.y));
        multiply_row(g * 4 + 2, vec4(x0.z, x1.z, x2.z, x3.z));
        multiply_row(g * 4 + 3, vec4(x0.w, x1.w, x2.w, x3.w));
    }
#else
    [[unroll]] for (uint r = 0; r < ROWS; r++) multiply_row(r, vector_of_a(r, at));
#endif
}

#ifdef MATMUL_AGAIN
// The same range as before, into the same sums.
void accumulate(uint begin)
{
    uint at = begin;
    do {
        [[unroll]] for (uint step = 0; step < DEPTH; step += 4) {
            load_b(at);
            multiply(at);
            at += 4;
        }
    } while (at < k_end);
}
#else
// The sums over [begin, end) of k. The loop tests at its end, and nothing is around it: CPU
// drivers run the body of a loop that tests at its head once more, masked, and mask every write
// within a condition. So an empty range runs once, and is cleared behind the loop. They also write
// all sums by mask at the end of each turn: two quads of k in a turn (DEPTH) halve that. What a
// turn reads past the end is times an A of 0; DEPTH divides k, but where RAGGED or TN.
void accumulate(uint begin, uint end)
{
    const bool empty = begin >= end;
    uint at = empty ? 0 : begin;
    k_end = empty ? 1 : end;
    clear_sums();
    do {
        [[unroll]] for (uint step = 0; step < DEPTH; step += 4) {
#ifdef GATHER
            find_rows(at);
#endif
            load_b(at);
            multiply(at);
            at += 4;
        }
    } while (at < k_end);
    if (empty) clear_sums();
}

// The sums of one row, for a loop over rows: ROWS copies of the code that writes a row take
// drivers longer to compile than all the rest, and an array with a variable index would live in
// memory.
vec4 row_of_sums(uint row)
{
    vec4 sum = sums[0];
    [[unroll]] for (uint r = 1; r < ROWS; r++) sum = r == row ? sums[r] : sum;
    return sum;
}

#ifdef UP
vec4 row_of_sums_up(uint row)
{
    vec4 sum = sums_up[0];
    [[unroll]] for (uint r = 1; r < ROWS; r++) sum = r == row ? sums_up[r] : sum;
    return sum;
}
#endif
#endif
