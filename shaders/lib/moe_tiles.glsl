// SPDX-License-Identifier: MIT
// The tables that grouped matmuls go by, as KERNEL_MOE_SCAN (src/kernel.h) says: the rows of an
// expert cut into tiles, its range, and what ends both with the indirect grids. Wants the buffers
// tiles, ranges and indirect, and the push words tile_rows, max_tiles, columns and rows.

uint tile_count(uint count) { return (count + tile_rows - 1) / tile_rows; }

// The expert's first tile is number `tile`, its range number `at`; count > 0 rows from `row` on.
void write_rows(uint expert, uint row, uint count, uint tile, uint at)
{
    for (uint i = 0; i < tile_count(count) && tile + i < max_tiles; i++) {
        const uint done = i * tile_rows;
        tiles[tile + i] = uvec4(expert, row + done, min(tile_rows, count - done), 0);
    }
    ranges[at] = uvec4(expert, row, count, 0);
}

void write_ends(uint tile, uint range)
{
    const uint tile_end = min(tile, max_tiles);
    tiles[tile_end] = uvec4(0);
    ranges[range] = uvec4(0);
    for (uint i = 0; i < 4; i++) indirect[i] = uvec4(columns[i], tile_end, 1, 0);
    for (uint i = 4; i < 6; i++) indirect[i] = uvec4(columns[i], rows[i - 4], range, 0);
}
