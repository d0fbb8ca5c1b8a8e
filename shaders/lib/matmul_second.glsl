// SPDX-License-Identifier: MIT
// The loop of lib/matmul.glsl once more, over a second pair of matrices (quad_of_a2, quad_of_b2),
// into the same sums: c = a b + a2 b2 in one pass, written once.
#define MATMUL_AGAIN
#undef  LOAD_B
#define quad_of_a      quad_of_a2
#define quad_of_b      quad_of_b2
#define load_b         load_b_second
#define load_held      load_held_second
#define load_a         load_a_second
#define vector_of_a    vector_of_a_second
#define multiply       multiply_second
#define accumulate     accumulate_second
#include "matmul.glsl"
#undef quad_of_a
#undef quad_of_b
#undef load_b
#undef load_held
#undef load_a
#undef vector_of_a
#undef multiply
#undef accumulate
