// SPDX-License-Identifier: MIT
// Operand A of a matmul (operand.glsl): a, a4, quad_of_a at BINDING.
#define QUAD    quad_of_a
#define TEXELS  a_texels
#define SCALARS a
#define VECTORS a4
#define BLOCK   A
#define BLOCK4  A4
#include "operand.glsl"
