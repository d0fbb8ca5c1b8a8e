// SPDX-License-Identifier: MIT
// Reductions over a workgroup whatever the subgroup size is. With one subgroup (the planned shape)
// they are one subgroup operation; else each subgroup's part goes through shared memory, in
// subgroup order.
// Must be called in uniform control flow. The includer enables GL_KHR_shader_subgroup_arithmetic.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
shared float reduce_part[128];
float reduce_add(float value)
{
    const float own = subgroupAdd(value);
    if (SINGLE) return own;
    barrier();
    if (subgroupElect()) reduce_part[gl_SubgroupID] = own;
    barrier();
    float sum = 0.0;
    for (uint i = 0; i < gl_NumSubgroups; i++) sum += reduce_part[i];
    return sum;
}
float reduce_max(float value)
{
    const float own = subgroupMax(value);
    if (SINGLE) return own;
    barrier();
    if (subgroupElect()) reduce_part[gl_SubgroupID] = own;
    barrier();
    float best = reduce_part[0];
    for (uint i = 1; i < gl_NumSubgroups; i++) best = max(best, reduce_part[i]);
    return best;
}
