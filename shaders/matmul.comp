// SPDX-License-Identifier: MIT
// KERNEL_MATMUL_NT, _NTF, _NN and _TN (src/kernel.h): dense matrix products. A workgroup computes
// ROWS rows and 4 * LANES columns of C, all in registers. Rows and columns past the end
// are computed from anything and not written.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/matmul_io.glsl"
#include "lib/matmul.glsl"

void main()
{
    const uint first = gl_WorkGroupID.y * ROWS;
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    const uvec2 share = share_of_k();
#ifdef TN
    place_a(first);
#else
    [[unroll]] for (uint i = 0; i < HELD; i++)
        a_at[i] = min(first + i * SPREAD + spread_lane(), m - 1) * stride_a();
#endif
    place_b(0, column);
    accumulate(share.x, share.y);
    const uint rows = min(ROWS, m - first);
    [[dont_unroll]] for (uint row = 0; row < rows; row++)
        write_sum(first + row, column, row_of_sums(row));
}
