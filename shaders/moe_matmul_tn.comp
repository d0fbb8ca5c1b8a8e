// SPDX-License-Identifier: MIT
// KERNEL_MOE_MATMUL_TN (src/kernel.h): the weight gradient of each expert that has rows (z), summed
// over them; any number. Rows and columns of C as in matmul.comp's TN.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/head.glsl"
#include "lib/moe_tn_io.glsl"

#define TN
#define GATHER
void find_rows(uint at);
uint stride_a() { return m; }
uint stride_b() { return n; }
#include "lib/matmul.glsl"

// What is gathered, at its token. Each of four lanes looks one row up, and all get it by a shuffle
// with a constant index; cards (SPREAD 1) load the same for all lanes at once.
void find_rows(uint at)
{
    if (SPREAD == 1) {
        [[unroll]] for (uint j = 0; j < 4; j++) {
            const uint row = min(at + j, k_end - 1);
            uint token = row;
            if (gather != 0) token = order[row] / top_k;
            row_a[j] = (gather & 2) != 0 ? token : row;
            row_b[j] = (gather & 1) != 0 ? token : row;
        }
        return;
    }
    const uint row = min(at + gl_SubgroupInvocationID % 4, k_end - 1), token = order[row] / top_k;
    const uint own_a = (gather & 2) != 0 ? token : row, own_b = (gather & 1) != 0 ? token : row;
    [[unroll]] for (uint j = 0; j < 4; j++) {
        row_a[j] = subgroupShuffle(own_a, j);
        row_b[j] = subgroupShuffle(own_b, j);
    }
}

void main()
{
    const uvec4 range = ranges[gl_WorkGroupID.z]; // expert, first sorted row, rows, width
    const uint first = gl_WorkGroupID.y * ROWS;
    // beyond a narrow expert's width there is nothing to add
    const uint along = (gather & 2) != 0 ? gl_WorkGroupID.x * LANES * 4 : first;
    const bool idle = range.w != 0 && along >= range.w;
    const uint begin = range.y, end = idle ? range.y : range.y + range.z;
    const uint column = (gl_WorkGroupID.x * LANES + LANE) * 4;
    place_a(first);
    place_b(0, column);
    accumulate(begin, end);
    const uint rows = idle ? 0 : min(ROWS, m - first);
    [[dont_unroll]] for (uint row = 0; row < rows; row++)
        write_row((range.x * m + first + row) * n + column, column, row_of_sums(row));
}
