// SPDX-License-Identifier: MIT
// KERNEL_COLUMN_SCALE and _SCALEF (src/kernel.h), one workgroup a row. A row's first factor is at a
// multiple of its length, so fours of both begin together.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

layout(set = 0, binding = 0, scalar) readonly buffer factor_one { float factor_1[]; };
layout(set = 0, binding = 0, scalar) readonly buffer factor_four { vec4 factor_4[]; };
layout(set = 0, binding = 1, scalar) readonly buffer base_buffer { uint base[]; };
STORE_IO(2, x)
layout(push_constant, scalar) uniform push_words { uint rows, cols, based; float scale; };

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const uint n = quads(cols), first = based != 0 ? base[row] : 0;
    for (uint i = LANE; i < n; i += LANES) {
        const uint at = row * n + i;
        x_4[at] = pack(unpack(x_4[at]) * (scale * factor_4[first / 4 + i]));
    }
    for (uint c = 4 * n + LANE; c < cols; c += LANES) {
        const uint at = row * cols + c;
        x_1[at] = SAVE(LOAD(x_1[at]) * (scale * factor_1[first + c]));
    }
}
