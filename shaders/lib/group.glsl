// SPDX-License-Identifier: MIT
// lib/reduce.glsl for unsigned numbers, an exclusive scan in order of LANE, and a barrier for
// buffer memory. With one subgroup (the planned shape) none of them leaves the subgroup. Uniform
// control flow only. The includer enables GL_KHR_shader_subgroup_basic and _arithmetic.
shared uint group_part[128];

void group_share(uint own)
{
    barrier();
    if (subgroupElect()) group_part[gl_SubgroupID] = own;
    barrier();
}

uint reduce_max(uint value)
{
    const uint own = subgroupMax(value);
    if (SINGLE) return own;
    group_share(own);
    uint best = 0;
    for (uint i = 0; i < gl_NumSubgroups; i++) best = max(best, group_part[i]);
    return best;
}

uint reduce_min(uint value) { return ~reduce_max(~value); }

uint reduce_add(uint value)
{
    const uint own = subgroupAdd(value);
    if (SINGLE) return own;
    group_share(own);
    uint sum = 0;
    for (uint i = 0; i < gl_NumSubgroups; i++) sum += group_part[i];
    return sum;
}

// The sum of `value` over the lanes before this one; `total` is the sum over all.
uint scan_add(uint value, out uint total)
{
    uint before = subgroupExclusiveAdd(value);
    total = subgroupAdd(value);
    if (SINGLE) return before;
    group_share(total);
    total = 0;
    for (uint i = 0; i < gl_NumSubgroups; i++) {
        if (i < gl_SubgroupID) before += group_part[i];
        total += group_part[i];
    }
    return before;
}

// What the lanes wrote to coherent buffers before is seen by all lanes after.
void group_sync()
{
    if (SINGLE) {
        subgroupBarrier();
    } else {
        memoryBarrierBuffer();
        barrier();
    }
}
