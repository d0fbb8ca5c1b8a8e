// SPDX-License-Identifier: MIT
// The loops of lib/matmul.glsl once more, over a second pair of matrices (a2, a24, b2, b24), into
// the same sums: c = a b + a2 b2 in one pass, written once.
#define MATMUL_AGAIN
#define a              a2
#define a4             a24
#define b              b2
#define b4             b24
#define place_b        place_b_second
#define load_b4        load_b4_second
#define load_b         load_b_second
#define load_held      load_held_second
#define load_a4        load_a4_second
#define load_a         load_a_second
#define vector_of_a    vector_of_a_second
#define multiply_row   multiply_row_second
#define multiply4      multiply4_second
#define multiply       multiply_second
#define clear_sums     clear_sums_second
#define accumulate4    accumulate4_second
#define accumulate     accumulate_second
#define row_of_sums    row_of_sums_second
#include "matmul.glsl"
#undef a
#undef a4
#undef b
#undef b4
#undef place_b
#undef load_b4
#undef load_b
#undef load_held
#undef load_a4
#undef load_a
#undef vector_of_a
#undef multiply_row
#undef multiply4
#undef multiply
#undef clear_sums
#undef accumulate4
#undef accumulate
#undef row_of_sums
