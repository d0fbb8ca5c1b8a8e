// SPDX-License-Identifier: MIT
// KERNEL_MATMUL_SUM and _SUMF (src/kernel.h): the parts of a split matmul added in their order,
// then its epilogue. A lane has groups of four neighbours of a row, QUADS of them.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Partial { float partial[]; };
layout(binding = 0) readonly buffer Partial4 { vec4 partial4[]; };
layout(push_constant) uniform Push {
    uint m, n, k, add, lda, ldb, ldc, parts, activation, bias;
    float scale;
};
#define EPILOGUE 1
#include "lib/epilogue.glsl"

const uint QUADS = 4; // MATMUL_SUM_QUADS of the kernel table

vec4 load_part(uint at, uint count)
{
    if (n % 4 == 0) return partial4[at / 4];
    vec4 x = vec4(partial[at], 0.0, 0.0, 0.0);
    if (count > 1) x.y = partial[at + 1];
    if (count > 2) x.z = partial[at + 2];
    if (count > 3) x.w = partial[at + 3];
    return x;
}

void main()
{
    const uint quads = (n + 3) / 4;
    for (uint i = 0; i < QUADS; i++) {
        const uint q = (group_index() * QUADS + i) * LANES + LANE;
        if (q >= m * quads) return;
        const uint row = q / quads, column = q % quads * 4;
        vec4 sum = vec4(0.0);
        for (uint part = 0; part < parts; part++)
            sum += load_part((part * m + row) * n + column, n - column);
        write_row(row, column, sum);
    }
}
