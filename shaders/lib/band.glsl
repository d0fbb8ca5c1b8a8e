// SPDX-License-Identifier: MIT
// The tile (column, row) of a workgroup: the grid is walked in bands of 8 rows, down each band's
// columns, so that workgroups that run at the same time share panels of both operands in the cache.
uvec2 tile_of_group()
{
    const uvec2 grid = gl_NumWorkGroups.xy;
    const uint at = gl_WorkGroupID.y * grid.x + gl_WorkGroupID.x, band = at / (8 * grid.x);
    const uint in_band = at - band * 8 * grid.x, rows = min(8, grid.y - band * 8);
    return uvec2(in_band / rows, band * 8 + in_band % rows);
}
