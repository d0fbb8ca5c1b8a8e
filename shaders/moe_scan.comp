// SPDX-License-Identifier: MIT
// KERNEL_MOE_SCAN (src/kernel.h): from the counts of (block, expert) to first sorted positions, the
// row range of each expert, the tiles of the grouped matmuls, and their indirect grids. One
// workgroup a slice of the experts; what lies before its slice it adds up by itself from the
// totals. LANES experts at a time, one a lane, blocks in a loop, eight a turn (lavapipe ends every
// loop of an invocation after 65,535 turns in all, and more loads are under way).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) buffer Counts { uint counts[]; };
layout(binding = 1) readonly buffer Totals { uint totals[]; };
layout(binding = 2) writeonly buffer Offsets { uint offsets[]; };
layout(binding = 3) writeonly buffer Tiles { uvec4 tiles[]; };
layout(binding = 4) writeonly buffer Ranges { uvec4 ranges[]; };
layout(binding = 5) writeonly buffer Indirect { uvec4 indirect[6]; };
#include "lib/moe_sort.glsl"
#include "lib/moe_tiles.glsl"

struct place { uint row, tile, range; };

place before_slice(uint first)
{
    place at = place(0, 0, 0);
    for (uint e = LANE; e < first; e += LANES) {
        const uint count = totals[e];
        at.row += count;
        at.tile += tile_count(count);
        at.range += min(count, 1);
    }
    return place(reduce_add(at.row), reduce_add(at.tile), reduce_add(at.range));
}

uint pairs_of(uint e)
{
    uint count = 0;
    for (uint b = 0; b < blocks; b += 8)
        [[unroll]] for (uint i = 0; i < 8; i++)
            if (b + i < blocks) count += counts[(b + i) * experts + e];
    return count;
}

void write_expert(uint e, place own, uint count)
{
    offsets[e] = own.row;
    uint position = own.row;
    for (uint b = 0; b < blocks; b += 8)
        [[unroll]] for (uint i = 0; i < 8; i++)
            if (b + i < blocks) {
                const uint at = (b + i) * experts + e, part = counts[at];
                counts[at] = position;
                position += part;
            }
    if (count > 0) write_rows(e, own.row, count, own.tile, own.range);
}

void main()
{
    const uint slice = group_index();
    if (slice >= slices) return;
    const uint turns = (experts + LANES * slices - 1) / (LANES * slices);
    const uint first = min(slice * turns * LANES, experts);
    const uint last = min(first + turns * LANES, experts);
    place done = before_slice(slices > 1 ? first : 0);
    for (uint base = first; base < last; base += LANES) {
        const uint e = base + LANE;
        const uint count = e < last ? pairs_of(e) : 0;
        place own, all;
        own.row = done.row + scan_add(count, all.row);
        own.tile = done.tile + scan_add(tile_count(count), all.tile);
        own.range = done.range + scan_add(min(count, 1), all.range);
        done = place(done.row + all.row, done.tile + all.tile, done.range + all.range);
        if (e < last) write_expert(e, own, count);
    }
    if (slice != slices - 1 || LANE > 0) return;
    offsets[experts] = done.row;
    write_ends(done.tile, done.range);
}
