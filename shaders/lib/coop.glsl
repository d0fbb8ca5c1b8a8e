// SPDX-License-Identifier: MIT
// A tile of C by cooperative matrices (VK_KHR_cooperative_matrix): a workgroup has ROWS x COLUMNS
// of C, a subgroup PART_ROWS x PART_COLUMNS of them as sums in f32. Panels of A and B, DEPTH of k
// at a time, go through shared memory in 16 bits, as they lie in memory (along k or across it:
// coopMatLoad turns them); while one step is multiplied, the next is on its way into registers.
// Lines of the panels are 16 bytes longer than their data, which spreads them over the banks.
//
// The includer has lib/tile_head.glsl and what it asks for, and A_ALONG_K and B_ALONG_K: do rows of
// the operand run along k?
//
// Types: f16 as it is; bf16 where COOP_BF16 (VK_KHR_shader_bfloat16); else (STORE_BF16) bf16 in f16
// tiles: scaled by powers of two so that the first step's largest value is below 2^8, which leaves
// f16 the range 2^-14 .. 2^16 around it; where a later value did not fit, everything is done once
// more with the scales that fit all. What is 2^30 times smaller than the largest value of its panel
// (all k) counts as 0.
#ifdef COOP_BF16
#define CALC bfloat16_t
#else
#define CALC float16_t
#ifdef STORE_BF16
#define RANGED
#endif
#endif

const uint DOWN = PART_ROWS / MATRIX_M, ACROSS = PART_COLUMNS / MATRIX_N; // matrices of a part

// panels, in eights of 16 bits
const uint A_LINE = (A_ALONG_K ? DEPTH : ROWS) / 8, A_LINES = A_ALONG_K ? ROWS : DEPTH;
const uint B_LINE = (B_ALONG_K ? DEPTH : COLUMNS) / 8, B_LINES = B_ALONG_K ? COLUMNS : DEPTH;
const uint A_STRIDE = A_LINE + 1, B_STRIDE = B_LINE + 1;
const uint B_BEGIN = A_LINES * A_STRIDE, PANELS = B_BEGIN + B_LINES * B_STRIDE;
const uint A_EIGHTS = A_LINES * A_LINE, B_EIGHTS = B_LINES * B_LINE;
const uint A_HELD = (A_EIGHTS + THREADS - 1) / THREADS, B_HELD = (B_EIGHTS + THREADS - 1) / THREADS;
// the same memory afterwards: a row of matrices of each subgroup, in f32, fours of 32 bits
const uint OUT_STRIDE = PART_COLUMNS / 4 + 1, OUT_SLOT = MATRIX_M * OUT_STRIDE;
const uint OUT_SLOTS = PARTS_DOWN * PARTS_ACROSS * OUT_SLOT;
shared uvec4 stage[PANELS > OUT_SLOTS ? PANELS : OUT_SLOTS];

#define SUMS coopmat<float, gl_ScopeSubgroup, MATRIX_M, MATRIX_N, gl_MatrixUseAccumulator>
SUMS sums[DOWN * ACROSS];

uvec4 a_held[A_HELD], b_held[B_HELD];
uint  a_begin[A_HELD], b_begin[B_HELD]; // along k: where the held eights begin at k = 0

uint part_row() { return gl_SubgroupID / PARTS_ACROSS * PART_ROWS; }
uint part_column() { return gl_SubgroupID % PARTS_ACROSS * PART_COLUMNS; }

// ---- from memory to registers; for k, rows and strides that are multiples of 8

void panels_place()
{
    [[unroll]] for (uint i = 0; i < A_HELD; i++) {
        const uint e = LANE + i * THREADS;
        a_begin[i] = A_ALONG_K ? a_line(min(e / A_LINE, A_LINES - 1), 0) + e % A_LINE * 8 : 0;
    }
    [[unroll]] for (uint i = 0; i < B_HELD; i++) {
        const uint e = LANE + i * THREADS;
        b_begin[i] = B_ALONG_K ? b_line(min(e / B_LINE, B_LINES - 1), 0) + e % B_LINE * 8 : 0;
    }
}

#define PANEL_FETCH(x, ALONG_K)                                                                    \
    [[unroll]] for (uint i = 0; i < x##_HELD; i++) {                                               \
        const uint e = LANE + i * THREADS, line = e / x##_LINE, in_line = e % x##_LINE * 8;        \
        HELD(x, i) = uvec4(0);                                                                     \
        if (ALONG_K) {                                                                             \
            if (at + in_line < end) HELD(x, i) = EIGHT(x)(BEGIN(x, i) + at, line);                 \
        } else if (at + line < end && in_line < LEFT(x) && e < x##_EIGHTS) {                       \
            HELD(x, i) = EIGHT(x)(LINE_OF(x)(0, at + line) + in_line, line);                       \
        }                                                                                          \
    }
#define HELD(x, i) HELD_##x[i]
#define HELD_A a_held
#define HELD_B b_held
#define BEGIN(x, i) BEGIN_##x[i]
#define BEGIN_A a_begin
#define BEGIN_B b_begin
#define EIGHT(x) EIGHT_##x
#define EIGHT_A a_some
#define EIGHT_B b_some
#define LINE_OF(x) LINE_OF_##x
#define LINE_OF_A a_line
#define LINE_OF_B b_line
#define LEFT(x) LEFT_##x
#define LEFT_A a_left()
#define LEFT_B b_left()

void panels_fetch(uint at, uint end)
{
    PANEL_FETCH(A, A_ALONG_K)
    PANEL_FETCH(B, B_ALONG_K)
}

// ---- bf16 in f16 tiles

#ifdef RANGED
shared uvec2 stage_most[THREADS / SUBGROUP];
uvec2 a_most, b_most; // largest magnitudes seen: bits of the odd elements << 16, of the even ones
float a_scale, b_scale;

uvec2 most(uvec2 best, uvec4 eight)
{
    const uvec4 odd = eight & 0x7fff0000u, even = eight & 0x7fffu;
    best.x = max(best.x, max(max(odd.x, odd.y), max(odd.z, odd.w)));
    best.y = max(best.y, max(max(even.x, even.y), max(even.z, even.w)));
    return best;
}

uint f16_pair(uint pair, float scale)
{
    return packHalf2x16(uintBitsToFloat(uvec2(pair << 16, pair & 0xffff0000u)) * scale);
}

uvec4 fitted(uvec4 eight, float scale)
{
    return uvec4(f16_pair(eight.x, scale), f16_pair(eight.y, scale), f16_pair(eight.z, scale),
                 f16_pair(eight.w, scale));
}

// Exponents (biased) of the largest values of A and B that the workgroup has seen.
uvec2 most_exponents()
{
    const uvec2 own =
        subgroupMax(uvec2(max(a_most.x, a_most.y << 16), max(b_most.x, b_most.y << 16)));
    barrier();
    if (subgroupElect()) stage_most[gl_SubgroupID] = own;
    barrier();
    uvec2 all = uvec2(0);
    for (uint i = 0; i < THREADS / SUBGROUP; i++) all = max(all, stage_most[i]);
    return all >> 23;
}

// 2^(7 - exponent): the largest value comes to 2^7 .. 2^8. Nothing but zeros, or Inf and NaN (which
// stay what they are): 1.
float scale_for(uint exponent)
{
    if (exponent == 0 || exponent == 255) return 1.0;
    return uintBitsToFloat(clamp(261u - exponent, 1u, 254u) << 23);
}

bool fits(uvec2 exponents)
{
    const uvec2 scales = floatBitsToUint(vec2(a_scale, b_scale)) >> 23;
    // 2^15 .. 2^16 is the last binade of f16
    const bvec2 ok = lessThanEqual(exponents + scales, uvec2(127 + 127 + 15));
    const bvec2 special = equal(exponents, uvec2(255));
    return (ok.x || special.x) && (ok.y || special.y);
}

// Two factors that together undo the scales; either alone could be out of range.
vec2 unscale()
{
    const uvec2 up = floatBitsToUint(vec2(a_scale, b_scale)) >> 23;
    const int down = 254 - int(up.x + up.y), half_down = down / 2;
    return uintBitsToFloat(uvec2(127 + half_down, 127 + down - half_down) << 23);
}
#define TO_A(eight) (a_most = most(a_most, eight), fitted(eight, a_scale))
#define TO_B(eight) (b_most = most(b_most, eight), fitted(eight, b_scale))
#else
#define TO_A(eight) (eight)
#define TO_B(eight) (eight)
#endif

// ---- from registers, or slowly from memory, to the panels

void panels_keep()
{
    [[unroll]] for (uint i = 0; i < A_HELD; i++) {
        const uint e = LANE + i * THREADS;
        const uvec4 eight = TO_A(a_held[i]);
        if (e < A_EIGHTS) stage[e / A_LINE * A_STRIDE + e % A_LINE] = eight;
    }
    [[unroll]] for (uint i = 0; i < B_HELD; i++) {
        const uint e = LANE + i * THREADS;
        const uvec4 eight = TO_B(b_held[i]);
        if (e < B_EIGHTS) stage[B_BEGIN + e / B_LINE * B_STRIDE + e % B_LINE] = eight;
    }
}

// Any sizes and strides, one element at a time.
#define PANEL_SLOW(x, ALONG_K, begin, one)                                                         \
    [[dont_unroll]] for (uint e = LANE; e < x##_EIGHTS; e += THREADS) {                            \
        const uint line = e / x##_LINE, in_line = e % x##_LINE * 8;                                \
        uvec4 eight = uvec4(0);                                                                    \
        if (ALONG_K || at + line < end) {                                                          \
            const uint first = ALONG_K ? LINE_OF(x)(line, at) : LINE_OF(x)(0, at + line);          \
            const uint left = ALONG_K ? end - at : LEFT(x);                                        \
            [[unroll]] for (uint i = 0; i < 8; i++)                                                \
                if (in_line + i < left)                                                            \
                    eight[i / 2] |= one(first + in_line + i, line) << (i % 2 * 16);                \
        }                                                                                          \
        stage[begin + line * x##_STRIDE + in_line / 8] = TO_##x(eight);                            \
    }

void panels_slow(uint at, uint end)
{
    PANEL_SLOW(A, A_ALONG_K, 0, a_one)
    PANEL_SLOW(B, B_ALONG_K, B_BEGIN, b_one)
}

// ---- the loop

void multiply_step()
{
    const uint row = part_row(), column = part_column();
    [[unroll]] for (uint k = 0; k < DEPTH; k += MATRIX_K) {
        coopmat<CALC, gl_ScopeSubgroup, MATRIX_M, MATRIX_K, gl_MatrixUseA> x[DOWN];
        coopmat<CALC, gl_ScopeSubgroup, MATRIX_K, MATRIX_N, gl_MatrixUseB> y;
        [[unroll]] for (uint i = 0; i < DOWN; i++) {
            if (A_ALONG_K)
                coopMatLoad(x[i], stage, (row + i * MATRIX_M) * A_STRIDE + k / 8, A_STRIDE,
                            gl_CooperativeMatrixLayoutRowMajor);
            else
                coopMatLoad(x[i], stage, k * A_STRIDE + (row + i * MATRIX_M) / 8, A_STRIDE,
                            gl_CooperativeMatrixLayoutColumnMajor);
        }
        [[unroll]] for (uint j = 0; j < ACROSS; j++) {
            if (B_ALONG_K)
                coopMatLoad(y, stage, B_BEGIN + (column + j * MATRIX_N) * B_STRIDE + k / 8,
                            B_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            else
                coopMatLoad(y, stage, B_BEGIN + k * B_STRIDE + (column + j * MATRIX_N) / 8,
                            B_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint i = 0; i < DOWN; i++)
                sums[i * ACROSS + j] = coopMatMulAdd(x[i], y, sums[i * ACROSS + j]);
        }
    }
}

void multiply_all(uint begin, uint end, bool vectors)
{
    [[unroll]] for (uint i = 0; i < DOWN * ACROSS; i++)
        sums[i] = SUMS(0.0);
    for (operand = 0; operand < OPERANDS; operand++) {
        if (vectors) {
            panels_place();
            panels_fetch(begin, end);
        }
        for (uint at = begin; at < end; at += DEPTH) {
            barrier();
            if (vectors) panels_keep();
            else panels_slow(at, end);
            barrier();
            if (vectors && at + DEPTH < end) panels_fetch(at + DEPTH, end);
            multiply_step();
        }
    }
}

// The sums over k in [begin, end); `vectors`: all strides, and the length of lines that run
// across k, are multiples of 8.
void multiply_panels(uint begin, uint end, bool vectors)
{
#ifdef RANGED
    a_most = b_most = uvec2(0);
    a_scale = b_scale = 1.0;
    if (begin < end) { // the first step tells the scales
        if (vectors) {
            panels_place();
            panels_fetch(begin, end);
            [[unroll]] for (uint i = 0; i < A_HELD; i++) a_most = most(a_most, a_held[i]);
            [[unroll]] for (uint i = 0; i < B_HELD; i++) b_most = most(b_most, b_held[i]);
        } else {
            panels_slow(begin, end);
        }
        const uvec2 first = most_exponents();
        a_scale = scale_for(first.x);
        b_scale = scale_for(first.y);
    }
    for (uint round = 0; round < 2; round++) { // one copy of the loop in the code
        multiply_all(begin, end, vectors);
        const uvec2 largest = most_exponents();
        if (fits(largest)) break;
        a_scale = scale_for(largest.x);
        b_scale = scale_for(largest.y);
    }
#else
    multiply_all(begin, end, vectors);
#endif
}

// ---- the end: each row of matrices through shared memory, four neighbours at a time to PART_WRITE

#ifdef RANGED
#define SUM4(at) (uintBitsToFloat(stage[at]) * factors.x * factors.y)
#else
#define SUM4(at) uintBitsToFloat(stage[at])
#endif

#ifdef PAIRS
const uint FOURS = PART_COLUMNS / 8;
#else
const uint FOURS = PART_COLUMNS / 4;
#endif

void row_write(uint i)
{
    const uint slot = gl_SubgroupID * OUT_SLOT;
#ifdef RANGED
    const vec2 factors = unscale();
#endif
    barrier();
    [[unroll]] for (uint j = 0; j < ACROSS; j++)
        coopMatStore(sums[i * ACROSS + j], stage, slot + j * (MATRIX_N / 4), OUT_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
    barrier();
    [[dont_unroll]]
    for (uint e = gl_SubgroupInvocationID; e < MATRIX_M * FOURS; e += SUBGROUP) {
        const uint row = e / FOURS, four = e % FOURS, from = slot + row * OUT_STRIDE + four;
#ifdef PAIRS
        part_write(part_row() + i * MATRIX_M + row, part_column() / 2 + four * 4, SUM4(from),
                   SUM4(from + FOURS));
#else
        part_write(part_row() + i * MATRIX_M + row, part_column() + four * 4, SUM4(from));
#endif
    }
}

// All of the tile. Not a loop: RADV does not unroll one of four with a loop inside, and keeps all
// sums in scratch memory then.
void parts_write()
{
    row_write(0);
    if (DOWN > 1) row_write(1);
    if (DOWN > 2) row_write(2);
    if (DOWN > 3) row_write(3);
    if (DOWN > 4) row_write(4);
    if (DOWN > 5) row_write(5);
    if (DOWN > 6) row_write(6);
    if (DOWN > 7) row_write(7);
}
