// SPDX-License-Identifier: MIT
// KERNEL_MOE_CAPACITY (src/kernel.h): PER_LANE pairs a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Ids { uint ids[]; };
layout(binding = 1) readonly buffer Inverse { uint inverse[]; };
layout(binding = 2) readonly buffer Offsets { uint offsets[]; };
layout(binding = 3) writeonly buffer Kept { uint kept[]; };
layout(push_constant) uniform Push { uint pairs, experts, capacity; };

const uint NONE = 0xffffffffu, PER_LANE = 16; // ELEMENTS_PER_LANE of src/kernel_table.c

void main()
{
    const uint begin = group_index() * LANES * PER_LANE;
    for (uint p = begin + LANE; p < min(pairs, begin + LANES * PER_LANE); p += LANES) {
        const uint e = ids[p];
        kept[p] = e < experts && inverse[p] - offsets[e] < capacity ? e : NONE;
    }
}
