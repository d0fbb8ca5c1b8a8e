// SPDX-License-Identifier: MIT
// Gradient of RMSNorm for its weight: dweight[c] += sum over rows of dy x rstd. A workgroup has
// COLUMNS columns, four to a lane; lanes share out the rows, and their sums are added in order.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

STORE_IN(0, x)
layout(set = 0, binding = 1, scalar) readonly buffer rstd_buffer { float rstd[]; };
STORE_IN(2, dy)
layout(set = 0, binding = 3, scalar) buffer dweight_buffer { float dweight[]; };
layout(push_constant, scalar) uniform push_words { uint rows, cols, accumulate; float eps; };

const uint ACROSS = 4, COLUMNS = 4 * ACROSS; // COLUMNS as in src/kernel_table.c
shared vec4 part[LANES];

void main()
{
    const uint c = group_index() * COLUMNS + LANE % ACROSS * 4;
    const uint n = quads(cols), down = LANES / ACROSS;
    vec4 sum = vec4(0.0);
    for (uint r = LANE / ACROSS; r < rows && c < 4 * n; r += down) {
        const uint at = r * n + c / 4;
        sum += unpack(dy_4[at]) * unpack(x_4[at]) * rstd[r];
    }
    for (uint r = LANE / ACROSS; r < rows && n == 0; r += down)
        for (uint i = 0; i < 4 && c + i < cols; i++)
            sum[i] += LOAD(dy_1[r * cols + c + i]) * LOAD(x_1[r * cols + c + i]) * rstd[r];
    part[LANE] = sum;
    barrier();
    for (uint i = LANE; i < COLUMNS; i += LANES) {
        const uint column = group_index() * COLUMNS + i;
        float total = 0.0;
        for (uint k = 0; k < down; k++) total += part[k * ACROSS + i / 4][i & 3];
        if (column < cols) dweight[column] += total;
    }
}
