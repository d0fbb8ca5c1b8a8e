// SPDX-License-Identifier: MIT
// KERNEL_MOE_SCATTER (src/kernel.h): the stable order within each expert. One workgroup a block,
// LANES pairs at a time, in order. How many pairs of an expert the block has placed so far is kept
// in the first slot of (block, expert) in `order` itself, so no table of experts is needed; that
// slot gets its pair at the end.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) readonly buffer Ids { uint ids[]; };
layout(binding = 1) readonly buffer First { uint first[]; };
layout(binding = 2) coherent buffer Order { uint order[]; };
layout(binding = 3) buffer Inverse { uint inverse[]; };
#include "lib/moe_sort.glsl"

const uint NONE = 0xffffffffu;

void main()
{
    const uint b = group_index();
    if (b >= blocks) return;
    const uint row = b * experts, begin = b * block, end = min(pairs, begin + block);

    for (uint p = begin + LANE; p < end; p += LANES)
        if (ids[p] < experts) order[first[row + ids[p]]] = 0;
    group_sync();

    for (uint base = begin; base < end; base += LANES) {
        const uint p = base + LANE, count = min(LANES, end - base);
        const uint e = p < end ? ids[p] : NONE;
        uint before = 0, after = 0; // pairs of the same expert in lower and higher lanes
        for (uint i = 0; i < count; i++) {
            const bool same = ids[base + i] == e;
            before += uint(same && i < LANE);
            after += uint(same && i > LANE);
        }
        uint slot = 0, placed = 0;
        if (e < experts) {
            slot = first[row + e];
            placed = order[slot] + before;
        }
        group_sync(); // all have read the counters
        if (e < experts) {
            inverse[p] = slot + placed;
            if (placed > 0) order[slot + placed] = p;
            if (after == 0) order[slot] = placed + 1;
        } else if (p < end) {
            inverse[p] = NONE;
        }
        group_sync();
    }

    // the lane that wrote inverse[p] reads it again
    for (uint p = begin + LANE; p < end; p += LANES)
        if (ids[p] < experts && inverse[p] == first[row + ids[p]]) order[inverse[p]] = p;
}
