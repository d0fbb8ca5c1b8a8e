// SPDX-License-Identifier: MIT
// The inner loop of every matmul: a lane holds ROWS x 4 sums of C in registers (UP: two of them,
// for two matrices). Columns go across the lanes. Rows are the same for all lanes, so the lanes
// share out the loads of A, SPREAD at a time, and pass the values around by shuffles with
// constant indices. On CPU drivers one load by all lanes costs about as much as 130
// multiplications of vectors and such a shuffle is one instruction: this made 2.5 times the speed
// of loading A in every lane (lavapipe 22.3.6; 1.4 times on 26). SPREAD 1 is the plain loop, for
// cards, which broadcast uniform loads by themselves.
//
// The includer defines one of NT (A [rows][k], B [n][k]), NN (A [rows][k], B [k][n]) and TN (A
// [k][m], B [k][n]); has the push word n (TN: also m); `uint stride_a()` and `stride_b()`, the
// elements from row to row; the arrays a, a4, b, b4 (UP: also b_up, b4_up); and, with
// GATHER_A (TN) or GATHER_B, `uint row_of_a(uint)` or `uint row_of_b(uint)`. k counts along the
// sums and is named `at` here.
#ifndef MATMUL_AGAIN
layout(constant_id = 1) const uint ROWS = 16;
layout(constant_id = 2) const uint COLUMNS = 4;  // for the grid; the loop is written for 4
layout(constant_id = 3) const uint SPREAD = 1;   // divides ROWS, at most the subgroup size

const uint HELD = ROWS / SPREAD;    // vectors of A a lane loads for four `at`
const uint GROUPS = (ROWS + 3) / 4; // TN: vectors of A along the rows

vec4 sums[ROWS];
vec4 held_a[HELD];
vec4 held_b[4];     // [at][column]
uint a_at[HELD];    // element of A at the beginning of each held vector or scalar
uint b_at[4];       // element of B: NT of each column, else [0] of the first column
#ifdef UP
vec4 sums_up[ROWS];
vec4 held_b_up[4];
#endif

uint spread_lane() { return gl_SubgroupInvocationID % SPREAD; }

float share(float value, uint from)
{
    if (SPREAD == 1) return value;
    return subgroupShuffle(value, from);
}
#endif

// ---- B: held_b from elements b_at

#ifdef NT
#define LOAD_B4(target, array) { \
    const vec4 c0 = LOAD(array[(b_at[0] + at) / 4]), c1 = LOAD(array[(b_at[1] + at) / 4]); \
    const vec4 c2 = LOAD(array[(b_at[2] + at) / 4]), c3 = LOAD(array[(b_at[3] + at) / 4]); \
    target[0] = vec4(c0.x, c1.x, c2.x, c3.x); target[1] = vec4(c0.y, c1.y, c2.y, c3.y); \
    target[2] = vec4(c0.z, c1.z, c2.z, c3.z); target[3] = vec4(c0.w, c1.w, c2.w, c3.w); }
#define B_AT(i) (b_at[i] + at)
#else
#if !defined(GATHER_B) && !defined(MATMUL_AGAIN)
uint row_of_b(uint at) { return at; }
#endif
#define LOAD_B4(target, array) \
    [[unroll]] for (uint j = 0; j < 4; j++) \
        target[j] = LOAD(array[(b_at[0] + row_of_b(at + j) * stride_b()) / 4]);
#define B_AT(i) (b_at[i] + row_of_b(at) * stride_b())
#endif
#define LOAD_B(target, array) target[0] = vec4(LOAD(array[B_AT(0)]), LOAD(array[B_AT(1)]), \
                                               LOAD(array[B_AT(2)]), LOAD(array[B_AT(3)]));

// Elements of the four columns from `column` on, in a matrix of B that begins at `base`. Columns
// past the last one read the last one; they are never written.
void place_b(uint base, uint column, bool vectors)
{
#ifdef NT
    [[unroll]] for (uint i = 0; i < 4; i++)
        b_at[i] = base + min(column + i, n - 1) * stride_b();
#else
    [[unroll]] for (uint i = 0; i < 4; i++) b_at[i] = base + min(column + i, n - 1);
    if (vectors) b_at[0] = base + min(column, n - 4);
#endif
}

void load_b4(uint at)
{
    LOAD_B4(held_b, b4)
#ifdef UP
    LOAD_B4(held_b_up, b4_up)
#endif
}

void load_b(uint at)
{
    LOAD_B(held_b, b)
#ifdef UP
    LOAD_B(held_b_up, b_up)
#endif
}

// ---- A: held_a from elements a_at, and back from it

vec4 load_held(uint i, uint at)
{
#if defined(GATHER_A)
    at = row_of_a(at + (i * SPREAD + spread_lane()) / GROUPS) * stride_a();
#elif defined(TN)
    at *= stride_a();
#endif
    return LOAD(a4[(a_at[i] + at) / 4]);
}

void load_a4(uint at)
{
    [[unroll]] for (uint i = 0; i < HELD; i++) held_a[i] = load_held(i, at);
}

void load_a(uint at)
{
#if defined(GATHER_A)
    at = row_of_a(at) * stride_a();
#elif defined(TN)
    at *= stride_a();
#endif
    [[unroll]] for (uint i = 0; i < HELD; i++) held_a[i].x = LOAD(a[a_at[i] + at]);
}

// Held vector q of all lanes together. With SPREAD 1 it is loaded here, where it is used: cards
// then need few registers for A.
vec4 vector_of_a(uint q, uint at)
{
    if (SPREAD == 1) return load_held(q, at);
    return subgroupShuffle(held_a[q / SPREAD], q % SPREAD);
}

#ifdef TN
// Elements of the rows from `first` on; TN has its rows along A's vectors.
void place_a(uint first, bool vectors)
{
    [[unroll]] for (uint i = 0; i < HELD; i++) {
        const uint q = i * SPREAD + spread_lane();
#ifdef GATHER_A
        const uint row = 0; // load_held's
#else
        const uint row = q / GROUPS * stride_a();
#endif
        a_at[i] = vectors ? row + min(first + q % GROUPS * 4, m - 4) : min(first + q, m - 1);
    }
}
#endif

// ---- the loop

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

void multiply4(uint at)
{
    if (SPREAD > 1) load_a4(at);
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

void multiply()
{
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const vec4 x = vec4(share(held_a[r / SPREAD].x, r % SPREAD));
        sums[r] = fma(x, held_b[0], sums[r]);
#ifdef UP
        sums_up[r] = fma(x, held_b_up[0], sums_up[r]);
#endif
    }
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

// Both loops test at their end: CPU drivers run the body of a loop that tests at its head once
// more, masked.
uint accumulate4(uint begin, uint end)
{
    uint at = begin;
    if (at + 4 <= end) {
        do {
            load_b4(at);
            multiply4(at);
            at += 4;
        } while (at + 4 <= end);
    }
    return at;
}

void accumulate(uint begin, uint end)
{
    uint at = begin;
    if (at < end) {
        do {
            load_b(at);
            load_a(at);
            multiply();
            at++;
        } while (at < end);
    }
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
