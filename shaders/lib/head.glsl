// SPDX-License-Identifier: MIT
// What every kernel starts with: the storage type, the local size (specialization constant 0, the
// planned subgroup size), whether that is one subgroup, and the index of its workgroup over a grid
// that may be folded into y.
#extension GL_EXT_scalar_block_layout : enable
#include "types.glsl"
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
#define LANES gl_WorkGroupSize.x
#define LANE  gl_LocalInvocationIndex
// 1 where the host knows that a workgroup is one subgroup: what is for more of them is compiled
// away. CPU drivers run a shader with a barrier in it at half the speed, taken or not.
layout(constant_id = 10) const uint ONE_SUBGROUP = 0;
#define SINGLE (ONE_SUBGROUP != 0 || gl_NumSubgroups == 1)
uint group_index() { return gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x; }
