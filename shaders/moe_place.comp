// SPDX-License-Identifier: MIT
// KERNEL_MOE_PLACE (src/kernel.h): the tiles of those experts whose matrices lie in some slots. One
// workgroup, LANES entries of the ranges at a time, up to the one that ends them.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) readonly buffer Entries { uvec4 entries[]; };
layout(binding = 1) readonly buffer Slots { uint slots[]; };
layout(binding = 2) writeonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 3) writeonly buffer Ranges { uvec4 ranges[]; };
layout(binding = 4) writeonly buffer Indirect { uvec4 indirect[6]; };
layout(push_constant) uniform Push {
    uint entry_count, first, slot_count, tile_rows, max_tiles, columns[6], rows[2], own_number;
};
#include "lib/moe_tiles.glsl"

void main()
{
    if (group_index() > 0) return;
    uint tile = 0, range = 0;
    uint end = entry_count; // of the entries; what follows the one that ends them may be anything
    for (uint base = 0; base < end; base += LANES) {
        const uint i = base + LANE;
        const uvec4 own = i < end ? entries[i] : uvec4(0);
        end = min(end, reduce_min(own.z > 0 ? end : i));
        const uint slot = i >= end ? 0 : own_number != 0 ? own.x : slots[i];
        const bool here = i < end && slot >= first && slot - first < slot_count;
        uint some_tiles, some_ranges;
        const uint own_tile = tile + scan_add(here ? tile_count(own.z) : 0, some_tiles);
        const uint own_range = range + scan_add(here ? 1 : 0, some_ranges);
        if (here) write_rows(slot - first, own.y, own.z, own_tile, own_range);
        tile += some_tiles;
        range += some_ranges;
    }
    if (LANE == 0) write_ends(tile, range);
}
