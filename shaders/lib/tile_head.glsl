// SPDX-License-Identifier: MIT
// A tile of C of a workgroup, by its sizes and by what the includer says of its operands: common to
// lib/tile.glsl and lib/coop.glsl, which have the loop. After this file the includer defines
//   uint  a_line(uint line, uint at)   element where a line of the panel of A begins: its row
//                                      `line` at k = at, or (across k) its first column at k = at
//   uint  b_line(uint line, uint at)   the same of B (lines of B along k are columns of C)
//   SOME  a_some(uint e, uint line), b_some   WIDE elements from e on (a multiple of WIDE)
//   ONE   a_one(uint e, uint line), b_one     one element
//   uint  a_left(), b_left()           how long a line across k is
//   void  part_write(uint row, uint column, vec4 sum)   four neighbours of the tile of C
// and, with OPERANDS 2, looks at `operand` for which pair of matrices is asked for; all pairs are
// summed up. PAIRS: B has two matrices, and part_write gets the sums of both for its columns;
// b_which and b_column tell what a line of the panel is.
layout(constant_id = 1) const uint ROWS = 32;
layout(constant_id = 2) const uint OWN_COLUMNS = 32;
layout(constant_id = 3) const uint SUBGROUP = 8; // lanes of a subgroup (coop)
layout(constant_id = 4) const uint DEPTH = 16;
layout(constant_id = 5) const uint PART_ROWS = 4;    // of a subgroup (coop) or a lane
layout(constant_id = 6) const uint OWN_PART_COLUMNS = 4;
layout(constant_id = 7) const uint MATRIX_M = 8;
layout(constant_id = 8) const uint MATRIX_N = 8;
layout(constant_id = 9) const uint MATRIX_K = 8;

#ifdef PAIRS
const uint COLUMNS = 2 * OWN_COLUMNS, PART_COLUMNS = 2 * OWN_PART_COLUMNS;
#else
const uint COLUMNS = OWN_COLUMNS, PART_COLUMNS = OWN_PART_COLUMNS;
#endif
const uint PARTS_DOWN = ROWS / PART_ROWS, PARTS_ACROSS = COLUMNS / PART_COLUMNS;

#ifdef COOP // 16 bits, as they are
#define WIDE 8
#define SOME uvec4
#define ONE  uint
const uint THREADS = PARTS_DOWN * PARTS_ACROSS * SUBGROUP;
// half of each part's columns from each matrix
uint b_which(uint line) { return line / OWN_PART_COLUMNS % 2; }
uint b_column(uint line)
{
    return line / PART_COLUMNS * OWN_PART_COLUMNS + line % OWN_PART_COLUMNS;
}
#else // f32
#define WIDE 4
#define SOME vec4
#define ONE  float
const uint THREADS = PARTS_DOWN * PARTS_ACROSS;
uint b_which(uint line) { return line / OWN_COLUMNS; }
uint b_column(uint line) { return line % OWN_COLUMNS; }
#endif
#ifndef OPERANDS
#define OPERANDS 1
#endif
uint operand = 0;
