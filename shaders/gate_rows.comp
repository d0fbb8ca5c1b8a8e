// SPDX-License-Identifier: MIT
// KERNEL_GATE_ROWS (src/kernel.h): one workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/pack.glsl"

layout(binding = 0) readonly buffer Logits { float logits[]; };
STORE_IO(1, x)
layout(binding = 2) writeonly buffer Gates { float gates[]; };
layout(binding = 3) writeonly buffer Places { uint places[]; };
layout(push_constant) uniform Push { uint rows, cols; };

void main()
{
    const uint row = group_index();
    if (row >= rows) return;
    const float gate = 1.0 / (1.0 + exp(-logits[row]));
    const uint all = quads(cols), begin = row * all;
    for (uint c = begin + LANE; c < begin + all; c += LANES) x_4[c] = pack(gate * unpack(x_4[c]));
    for (uint c = row * cols + all * 4 + LANE; c < (row + 1) * cols; c += LANES)
        x_1[c] = SAVE(gate * LOAD(x_1[c]));
    if (LANE != 0) return;
    gates[row] = gate;
    places[row] = row;
}
