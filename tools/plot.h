// SPDX-License-Identifier: MIT
// Pictures of numbers as PNG, on the viewer's canvas: lines, bars with their spread, and grids, in
// panels of one sheet. Where the program was built without FreeType or libpng, or there is no font,
// plot_create says so and gives NULL, and all other calls take that NULL and do nothing.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct plot;

struct plot_chart { const char *title, *x_label, *y_label; };
struct plot_series { const char *name; const double *x, *y; uint32_t count; }; // NAN: skipped
// colour: that of the curve of this index, or PLOT_CONTROL
struct plot_bar { const char *name; double value, spread; uint32_t colour; };
enum { PLOT_CONTROL = 6 }; // grey: what a value is compared with

// A sheet of columns x rows panels, each `width` x `height` pixels.
struct plot *plot_create(uint32_t columns, uint32_t rows, uint32_t width, uint32_t height);
// Draws into the next panel, by rows.
void plot_lines(struct plot *plot, const struct plot_chart *chart, const struct plot_series *series,
                uint32_t count);
void plot_bars(struct plot *plot, const struct plot_chart *chart, const struct plot_bar *bar,
               uint32_t count);
// value[row * columns + column], dark is large, each printed in its cell where there is room; names
// may be NULL (numbers).
void plot_grid(struct plot *plot, const struct plot_chart *chart, const double *value,
               uint32_t rows, uint32_t columns, const char *const *row_names,
               const char *const *column_names);
// Writes the file beside its place and renames it. False after one line; true for a NULL plot.
bool plot_save(struct plot **plot, const char *path);
