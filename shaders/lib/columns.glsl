// SPDX-License-Identifier: MIT
// Sums over rows, a workgroup for 4 * ACROSS columns: lanes share out the rows, and their sums are
// added in order. After lib/pack.glsl; the includer has `cols` and defines
//   vec4  column_quad(uint r, uint q)      four neighbours of row r, where cols % 4 is 0
//   float column_one(uint r, uint c)       one value
//   void  column_add(uint c, float sum)    what becomes of the sum of column c
const uint ACROSS = 4, COLUMNS = 4 * ACROSS; // COLUMNS as in src/kernel_table.c
shared vec4 part[LANES];

vec4 column_quad(uint r, uint q);
float column_one(uint r, uint c);
void column_add(uint c, float sum);

// Columns from `group` * COLUMNS on, over rows [begin, end).
void columns_sum(uint group, uint begin, uint end)
{
    const uint c = group * COLUMNS + LANE % ACROSS * 4;
    const uint n = quads(cols), down = LANES / ACROSS;
    vec4 sum = vec4(0.0);
    for (uint r = begin + LANE / ACROSS; r < end && c < 4 * n; r += down)
        sum += column_quad(r, c / 4);
    for (uint r = begin + LANE / ACROSS; r < end && n == 0; r += down)
        for (uint i = 0; i < 4 && c + i < cols; i++) sum[i] += column_one(r, c + i);
    part[LANE] = sum;
    barrier();
    for (uint i = LANE; i < COLUMNS; i += LANES) {
        const uint column = group * COLUMNS + i;
        float total = 0.0;
        for (uint k = 0; k < down; k++) total += part[k * ACROSS + i / 4][i & 3];
        if (column < cols) column_add(column, total);
    }
}
