// SPDX-License-Identifier: MIT
// A tile of C by register blocks: a workgroup has ROWS x COLUMNS of C, a lane PART_ROWS x
// PART_COLUMNS of them, in blocks of 4 x 4 spread over the tile. Panels of A and B, DEPTH of k at a
// time, go through shared memory in f32, always across k ([k][row]): a lane then reads four rows
// and four columns at once, neighbours read neighbouring columns (no bank is asked twice) and
// the same rows (broadcast). While one step is multiplied, the next is on its way into registers.
// No subgroup operations: any subgroup size. The includer has lib/tile_head.glsl and what it asks
// for, and A_ALONG_K and B_ALONG_K: do rows of the operand run along k?
const uint A_LINE = (A_ALONG_K ? DEPTH : ROWS) / 4, A_FOURS = ROWS * DEPTH / 4;
const uint B_LINE = (B_ALONG_K ? DEPTH : COLUMNS) / 4, B_FOURS = COLUMNS * DEPTH / 4;
const uint A_HELD = (A_FOURS + THREADS - 1) / THREADS, B_HELD = (B_FOURS + THREADS - 1) / THREADS;
const uint A_STRIDE = ROWS + 4, B_STRIDE = COLUMNS + 4; // padded: lines along k are stored across
const uint B_BEGIN = DEPTH * A_STRIDE;
shared float stage[B_BEGIN + DEPTH * B_STRIDE];

const uint ROW_FOURS = PART_ROWS / 4, COLUMN_FOURS = PART_COLUMNS / 4;
const uint SUM_FOURS = PART_ROWS * COLUMN_FOURS;
vec4 sums[SUM_FOURS]; // [row][column / 4]
vec4 a_held[A_HELD], b_held[B_HELD];
uint a_begin[A_HELD], b_begin[B_HELD]; // along k: where the held fours begin at k = 0

uint part_row(uint i) { return (i / 4 * PARTS_DOWN + LANE / PARTS_ACROSS) * 4 + i % 4; }
uint part_column(uint four) { return (four * PARTS_ACROSS + LANE % PARTS_ACROSS) * 4; }

// ---- from memory to registers; for k, rows and strides that are multiples of 4

void panels_place()
{
    [[unroll]] for (uint i = 0; i < A_HELD; i++) {
        const uint e = min(LANE + i * THREADS, A_FOURS - 1);
        a_begin[i] = A_ALONG_K ? a_line(e / A_LINE, 0) + e % A_LINE * 4 : 0;
    }
    [[unroll]] for (uint i = 0; i < B_HELD; i++) {
        const uint e = min(LANE + i * THREADS, B_FOURS - 1);
        b_begin[i] = B_ALONG_K ? b_line(e / B_LINE, 0) + e % B_LINE * 4 : 0;
    }
}

vec4 a_fetch(uint i, uint at, uint end)
{
    const uint e = LANE + i * THREADS, line = e / A_LINE, in_line = e % A_LINE * 4;
    if (A_ALONG_K) {
        if (at + in_line < end) return a_some(a_begin[i] + at, line);
    } else if (at + line < end && in_line < a_left() && e < A_FOURS) {
        return a_some(a_line(0, at + line) + in_line, line);
    }
    return vec4(0.0);
}

vec4 b_fetch(uint i, uint at, uint end)
{
    const uint e = LANE + i * THREADS, line = e / B_LINE, in_line = e % B_LINE * 4;
    if (B_ALONG_K) {
        if (at + in_line < end) return b_some(b_begin[i] + at, line);
    } else if (at + line < end && in_line < b_left() && e < B_FOURS) {
        return b_some(b_line(0, at + line) + in_line, line);
    }
    return vec4(0.0);
}

void panels_fetch(uint at, uint end)
{
    [[unroll]] for (uint i = 0; i < A_HELD; i++) a_held[i] = a_fetch(i, at, end);
    [[unroll]] for (uint i = 0; i < B_HELD; i++) b_held[i] = b_fetch(i, at, end);
}

// ---- from registers, or slowly from memory, to the panels

void panel_keep(uint from, uint line, uint in_line, bool along_k, uint stride, vec4 four)
{
    const uint at = along_k ? from + in_line * stride + line : from + line * stride + in_line;
    const uint step = along_k ? stride : 1;
    [[unroll]] for (uint i = 0; i < 4; i++) stage[at + i * step] = four[i];
}

void panels_keep()
{
    [[unroll]] for (uint i = 0; i < A_HELD; i++) {
        const uint e = LANE + i * THREADS;
        if (e < A_FOURS)
            panel_keep(0, e / A_LINE, e % A_LINE * 4, A_ALONG_K, A_STRIDE, a_held[i]);
    }
    [[unroll]] for (uint i = 0; i < B_HELD; i++) {
        const uint e = LANE + i * THREADS;
        if (e < B_FOURS)
            panel_keep(B_BEGIN, e / B_LINE, e % B_LINE * 4, B_ALONG_K, B_STRIDE, b_held[i]);
    }
}

// Any sizes and strides, one element at a time.
void panels_slow(uint at, uint end)
{
    [[dont_unroll]] for (uint e = LANE; e < A_FOURS * 4; e += THREADS) {
        const uint line = e / (A_LINE * 4), in_line = e % (A_LINE * 4);
        const uint k_at = A_ALONG_K ? in_line : line, row = A_ALONG_K ? line : in_line;
        float x = 0.0;
        if (at + k_at < end && (A_ALONG_K || in_line < a_left()))
            x = a_one(a_line(A_ALONG_K ? line : 0, at + (A_ALONG_K ? 0 : line)) + in_line, line);
        stage[k_at * A_STRIDE + row] = x;
    }
    [[dont_unroll]] for (uint e = LANE; e < B_FOURS * 4; e += THREADS) {
        const uint line = e / (B_LINE * 4), in_line = e % (B_LINE * 4);
        const uint k_at = B_ALONG_K ? in_line : line, row = B_ALONG_K ? line : in_line;
        float x = 0.0;
        if (at + k_at < end && (B_ALONG_K || in_line < b_left()))
            x = b_one(b_line(B_ALONG_K ? line : 0, at + (B_ALONG_K ? 0 : line)) + in_line, line);
        stage[B_BEGIN + k_at * B_STRIDE + row] = x;
    }
}

// ---- the loop

vec4 stage4(uint at) { return vec4(stage[at], stage[at + 1], stage[at + 2], stage[at + 3]); }

void multiply_step()
{
    // shared addresses of the first blocks; the others are constants away
    const uint row = LANE / PARTS_ACROSS * 4, column = B_BEGIN + LANE % PARTS_ACROSS * 4;
    [[dont_unroll]] for (uint begin = 0; begin < DEPTH; begin += 4)
        [[unroll]] for (uint k_at = begin; k_at < begin + 4; k_at++) {
            vec4 y[COLUMN_FOURS];
            [[unroll]] for (uint j = 0; j < COLUMN_FOURS; j++)
                y[j] = stage4(k_at * B_STRIDE + column + j * PARTS_ACROSS * 4);
            [[unroll]] for (uint i = 0; i < ROW_FOURS; i++) {
                const vec4 x = stage4(k_at * A_STRIDE + row + i * PARTS_DOWN * 4);
                [[unroll]] for (uint r = 0; r < 4; r++)
                    [[unroll]] for (uint j = 0; j < COLUMN_FOURS; j++)
                        sums[(i * 4 + r) * COLUMN_FOURS + j] =
                            fma(vec4(x[r]), y[j], sums[(i * 4 + r) * COLUMN_FOURS + j]);
            }
        }
}

// The sums over k in [begin, end) of all operands; `vectors`: all strides, and the length of lines
// that run across k, are multiples of 4.
void multiply_panels(uint begin, uint end, bool vectors)
{
    [[unroll]] for (uint i = 0; i < SUM_FOURS; i++) sums[i] = vec4(0.0);
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

// A loop that picks a constant one of the sums: written out, the end of a matmul is long.
vec4 sum_of(uint which)
{
    vec4 sum = sums[0];
    [[unroll]] for (uint i = 1; i < SUM_FOURS; i++)
        if (i == which) sum = sums[i];
    return sum;
}

// Calls part_write for all of the tile.
void parts_write()
{
#ifdef PAIRS
    const uint fours = COLUMN_FOURS / 2;
    [[dont_unroll]] for (uint e = 0; e < PART_ROWS * fours; e++) {
        const uint row = e / fours, four = e % fours, at = row * COLUMN_FOURS + four;
        part_write(part_row(row), part_column(four), sum_of(at), sum_of(at + fours));
    }
#else
    [[dont_unroll]] for (uint e = 0; e < SUM_FOURS; e++)
        part_write(part_row(e / COLUMN_FOURS), part_column(e % COLUMN_FOURS), sum_of(e));
#endif
}
