// SPDX-License-Identifier: MIT
// KERNEL_MOE_COUNT (src/kernel.h): the histogram of one block of pairs over the experts, and where
// moe_scan runs in slices, of all blocks. One workgroup a block. The row of counts lies in the
// buffer itself (20,480 experts do not fit shared memory); integer additions commute, so atomics
// give the same bytes in any order.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/group.glsl"

layout(binding = 0) readonly buffer Ids { uint ids[]; };
layout(binding = 1) coherent buffer Counts { uint counts[]; };
layout(binding = 2) buffer Totals { uint totals[]; };
#include "lib/moe_sort.glsl"

void main()
{
    const uint b = group_index();
    if (b >= blocks) return;
    const uint row = b * experts;
    for (uint e = LANE; e < experts; e += LANES) counts[row + e] = 0;
    group_sync();
    const uint end = min(pairs, (b + 1) * block);
    for (uint p = b * block + LANE; p < end; p += LANES) {
        const uint e = ids[p];
        if (e >= experts) continue;
        atomicAdd(counts[row + e], 1);
        if (slices > 1) atomicAdd(totals[e], 1);
    }
}
