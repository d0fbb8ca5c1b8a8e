// SPDX-License-Identifier: MIT
// Experts of different widths (KERNEL_MOE_WIDTHS of src/kernel.h): what is beyond an expert's own
// width is zero, so sums over it end there, and columns of it have none. The width of a tile is 0
// where all are alike.
uint narrow_end(uint width) { return width == 0 ? k : min((width + 7) / 8 * 8, k); }
uint narrow_column(uint width, uint column) { return width != 0 && column >= width ? 0 : k; }

// Where the sums of columns from `column` on end.
uint sums_end(uint width, uint column)
{
#if defined(UP) || defined(ACT)
    return narrow_column(width, column);
#elif defined(NN)
    return gather != 0 ? narrow_column(width, column) : narrow_end(width);
#else
    return narrow_end(width);
#endif
}
