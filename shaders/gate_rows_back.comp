// SPDX-License-Identifier: MIT
// KERNEL_GATE_ROWS_BACK (src/kernel.h): PER_LANE rows a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Dgates { float dgates[]; };
layout(binding = 1) readonly buffer Gates { float gates[]; };
layout(binding = 2) writeonly buffer Dlogits { STORE dlogits[]; };
layout(push_constant) uniform Push { uint count; };

const uint PER_LANE = 16; // ELEMENTS_PER_LANE of src/kernel_table.c

void main()
{
    const uint begin = group_index() * LANES * PER_LANE;
    for (uint r = begin + LANE; r < min(count, begin + LANES * PER_LANE); r += LANES)
        dlogits[r] = SAVE(dgates[r] * gates[r] * (1.0 - gates[r]));
}
