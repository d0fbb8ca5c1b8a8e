// SPDX-License-Identifier: MIT
// KERNEL_MATVEC and _MATVECF (src/kernel.h): matmul_nt for few rows. A workgroup computes COLUMNS
// columns (x) of one row (y) of C. Columns past the end read the last one and are not written.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#define NT
#include "lib/head.glsl"
layout(constant_id = 2) const uint COLUMNS = 4;
#include "lib/matmul_io.glsl"
#include "lib/matvec.glsl"

void main()
{
    const uint row = gl_WorkGroupID.y, column = gl_WorkGroupID.x * COLUMNS;
    const uvec2 share = share_of_k();
    dot_a = row * stride_a();
    [[unroll]] for (uint i = 0; i < COLUMNS; i++) dot_b[i] = min(column + i, n - 1) * stride_b();
    dot_loop(share.x, share.y);
    [[unroll]] for (uint v = 0; v < DOT_VECTORS; v++) {
        const vec4 sum = DOT_SUM(dot_parts, v);
        if (LANE == 0) write_sum(row, column + v * 4, sum);
    }
}
