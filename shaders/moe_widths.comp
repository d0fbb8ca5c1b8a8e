// SPDX-License-Identifier: MIT
// KERNEL_MOE_WIDTHS (src/kernel.h): one entry a lane, those of the tiles first.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Widths { uint widths[]; };
layout(binding = 1) buffer Tiles { uvec4 tiles[]; };
layout(binding = 2) buffer Ranges { uvec4 ranges[]; };
layout(push_constant) uniform Push { uint count, tile_count, experts; };

void main()
{
    const uint i = group_index() * LANES + LANE;
    if (i >= count) return;
    const bool tile = i < tile_count;
    const uvec4 entry = tile ? tiles[i] : ranges[i - tile_count];
    // behind the end of a table stands anything
    if (entry.z == 0 || entry.x >= experts) return;
    if (tile) tiles[i].w = widths[entry.x];
    else ranges[i - tile_count].w = widths[entry.x];
}
