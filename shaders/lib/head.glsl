// SPDX-License-Identifier: MIT
// What every kernel starts with: the storage type, the local size (specialization constant 0, the
// planned subgroup size) and the index of its workgroup over a grid that may be folded into y.
#extension GL_EXT_scalar_block_layout : enable
#include "types.glsl"
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
#define LANES gl_WorkGroupSize.x
#define LANE  gl_LocalInvocationIndex
uint group_index() { return gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x; }
