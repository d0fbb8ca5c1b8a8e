// SPDX-License-Identifier: MIT
// KERNEL_EXPERT_MOVES (src/kernel.h): the step that each slot's expert takes. One a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Moves { uint moves[]; };
layout(binding = 1) readonly buffer Places { uint places[]; };
layout(binding = 2) writeonly buffer Own { uint own[]; };
layout(push_constant) uniform Push { uint count; };

const uint NONE = 0xffffffffu;

void main()
{
    const uint i = group_index() * LANES + LANE;
    if (i >= count) return;
    const uint place = places[i];
    uint move = 0;
    if (place != NONE) move = moves[place];
    own[i] = move;
}
