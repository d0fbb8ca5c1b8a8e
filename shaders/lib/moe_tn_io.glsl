// SPDX-License-Identifier: MIT
// What KERNEL_MOE_MATMUL_TN (src/kernel.h) binds; which rows of A and B a sorted row reads; how
// four neighbours of a row of C end.
#include "ragged.glsl"

#define BINDING 0
#include "operand_a.glsl"
#define BINDING 1
#include "operand_b.glsl"
layout(binding = 2) readonly buffer Order { uint order[]; };
layout(binding = 3) readonly buffer Ranges { uvec4 ranges[]; };
layout(binding = 4) buffer C { float c[]; };
layout(binding = 4) buffer C4 { vec4 c4[]; };
layout(push_constant) uniform Push {
    uint pairs, experts, m, n, k, top_k, save, gather, second, activation;
};

uint row_of(uint at, uint which)
{
    uint row = at;
    if ((gather & which) != 0) row = order[at] / top_k;
    return row;
}
uint row_of_b(uint at) { return row_of(at, 1); }
uint row_of_a(uint at) { return row_of(at, 2); }

void write_row(uint at, uint column, vec4 sum)
{
    if (n % 4 == 0) {
        if (column < n) c4[at / 4] += sum;
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] += sum.x;
            sum = sum.yzwx;
        }
    }
}
