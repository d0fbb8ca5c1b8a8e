// SPDX-License-Identifier: MIT
// Operand B of a matmul (operand.glsl): b, b4, quad_of_b at BINDING.
#define QUAD    quad_of_b
#define TEXELS  b_texels
#define SCALARS b
#define VECTORS b4
#define BLOCK   B
#define BLOCK4  B4
#include "operand.glsl"
