// SPDX-License-Identifier: MIT
// A curve over steps with tidy axes: ticks at 1, 2 and 5 times a power of ten (powers of two for
// bytes), and as much of a long run as fits: per pixel the mean, behind it from least to most.
#pragma once

#include "tools/view/view.h"

enum unit { UNIT_NUMBER, UNIT_BYTES, UNIT_SHARE, UNIT_RATE };

struct chart {
    struct rect      plot;
    struct view_span span;
    double           low, high;
    enum unit        unit;
};

// A value for people: "2.415", "12.3 k", "41.6 MiB", "87 %".
const char *unit_text(char *out, size_t bytes, double value, enum unit unit);

// Widens [low, high] by what the series holds within the span. False where that is nothing.
bool chart_range(const struct view *view, const struct history_series *series, double *low,
                 double *high);
// Axes in an area: grid, labels of both axes; steps below where `steps` wants it.
struct chart chart_axes(struct view *view, struct canvas *canvas, struct rect area, double low,
                        double high, enum unit unit, bool steps);
void chart_curve(const struct view *view, struct canvas *canvas, const struct chart *chart,
                 const struct history_series *series, colour own, bool smooth);
// Few values: a point each, joined.
void chart_points(const struct view *view, struct canvas *canvas, const struct chart *chart,
                  const struct history_series *series, colour own);
// The slider's step as a line, and what is under the mouse as another.
void  chart_cursor(struct view *view, struct canvas *canvas, const struct chart *chart);
float chart_y(const struct chart *chart, double value);
// Labels of steps under an area, and how high they are.
void chart_steps(struct view *view, struct canvas *canvas, struct rect area);
// The value of a series at or before a step, NAN where there is none.
double chart_value(const struct view *view, const struct history_series *series, uint32_t step);
