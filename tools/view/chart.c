// SPDX-License-Identifier: MIT
// Axes and curves: see chart.h.
#include "tools/view/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

// ---- numbers

static const char *bytes_text(char *out, size_t bytes, double value)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t at = 0;
    while (fabs(value) >= 1024 && at + 1 < COUNT_OF(units)) value /= 1024, at++;
    snprintf(out, bytes, value >= 100 || value == floor(value) ? "%.0f %s" : "%.3g %s", value,
             units[at]);
    return out;
}

const char *unit_text(char *out, size_t bytes, double value, enum unit unit)
{
    const double size = fabs(value);
    if (!isfinite(value)) snprintf(out, bytes, "\u2013");
    else if (unit == UNIT_BYTES) return bytes_text(out, bytes, value);
    else if (unit == UNIT_SHARE)
        snprintf(out, bytes, size < 0.0995 && value != 0 ? "%.1f %%" : "%.0f %%", 100 * value);
    else if (size >= 1e9) snprintf(out, bytes, "%.3g G", value / 1e9);
    else if (size >= 1e6) snprintf(out, bytes, "%.3g M", value / 1e6);
    else if (size >= 1e4) snprintf(out, bytes, "%.3g k", value / 1e3);
    else if (size >= 1e3) snprintf(out, bytes, "%.0f", value);
    else snprintf(out, bytes, "%.4g", value);
    return out;
}

// The least of 1, 2, 5 times a power of ten (of bytes: powers of two) that is not below `least`.
static double tidy(double least, enum unit unit)
{
    if (!(least > 0)) return 1;
    if (unit == UNIT_BYTES) return exp2(ceil(log2(least)));
    const double power = pow(10, floor(log10(least)));
    static const double steps[] = {1, 2, 5, 10};
    for (size_t i = 0; i < COUNT_OF(steps); i++)
        if (steps[i] * power >= least * (1 - 1e-9)) return steps[i] * power;
    return 10 * power;
}

// ---- ranges

struct rows { uint32_t first, end; };

static struct rows rows_of(const struct view *view, struct view_span span)
{
    const struct history *h = view->history;
    return (struct rows){span.first ? history_row(h, span.first - 1) + 1 : 0, // NONE + 1 is 0
                         history_row(h, span.last) + 1};
}

bool chart_range(const struct view *view, const struct history_series *series, double *low,
                 double *high)
{
    if (!series) return false;
    const struct rows rows = rows_of(view, view_span(view));
    float least = INFINITY, most = -INFINITY;
    for (uint32_t i = rows.first; i < rows.end; i++) {
        const float value = series->value[i];
        if (value < least) least = value;
        if (value > most && value < INFINITY) most = value;
    }
    if (!(least <= most) || !isfinite(least)) return false;
    *low = fmin(*low, least), *high = fmax(*high, most);
    return true;
}

double chart_value(const struct view *view, const struct history_series *series, uint32_t step)
{
    uint32_t row = series ? history_row(view->history, step) : HISTORY_NONE;
    if (row == HISTORY_NONE) return NAN;
    while (row > 0 && isnan(series->value[row])) row--;
    return series->value[row];
}

// ---- axes

float chart_y(const struct chart *c, double value)
{
    const double share = (value - c->low) / (c->high - c->low);
    return (float)(c->plot.y + c->plot.h - 1 - share * (c->plot.h - 1));
}

void chart_steps(struct view *view, struct canvas *c, struct rect area)
{
    const struct view_span span = view_span(view);
    if (span.last < span.first) return;
    const double count = span.last - span.first + 1.0;
    const int room = canvas_px(c, 72);
    const double step = fmax(tidy(count * room / fmax(area.w, 1), UNIT_NUMBER), 1);
    for (double at = ceil(span.first / step) * step; at <= span.last; at += step) {
        char text[32];
        const int x = (int)view_x(view, area, (uint32_t)at), half = room / 2;
        if (step < 1000) snprintf(text, sizeof text, "%.0f", at);
        else unit_text(text, sizeof text, at, UNIT_NUMBER);
        struct rect box = {x - half, area.y, 2 * half, area.h};
        const int width = canvas_text_width(c, FONT_SMALL, text);
        if (x - width / 2 < area.x) box.x = area.x - half + width / 2;
        if (x + width / 2 > area.x + area.w) box.x = area.x + area.w - half - (width + 1) / 2;
        canvas_text(c, FONT_SMALL, box, ALIGN_CENTER, view->theme->dim, text);
    }
}

static int widest_label(struct canvas *c, double low, double high, double step, enum unit unit)
{
    int width = 0;
    char text[48];
    for (double at = ceil(low / step - 1e-6) * step; at <= high + step * 1e-6; at += step) {
        const int own = canvas_text_width(c, FONT_SMALL, unit_text(text, sizeof text, at, unit));
        width = own > width ? own : width;
    }
    return width;
}

struct chart chart_axes(struct view *view, struct canvas *c, struct rect area, double low,
                        double high, enum unit unit, bool steps)
{
    const int line = canvas_line_height(c, FONT_SMALL), gap = canvas_px(c, 6);
    if (!(high > low)) {
        const double about = fmax(fabs(low) * 0.05, 1e-9);
        low = low == 0 ? 0 : low - about, high += about;
    }
    if (low != 0) low -= (high - low) * 0.04;
    if (unit != UNIT_SHARE || high < 0.999) high += (high - low) * 0.06;
    if (unit == UNIT_SHARE) high = fmin(high, 1);
    struct rect below = steps ? rect_bottom(&area, line + gap / 3) : (struct rect){0};
    const double ticks = fmax(floor(area.h / (2.6 * line)), 1);
    const double step = tidy((high - low) / ticks, unit);
    const int left = widest_label(c, low, high, step, unit) + gap;
    const struct rect labels = rect_left(&area, left < area.w / 2 ? left : 0);
    struct chart chart = {area, view_span(view), low, high, unit};
    for (double at = ceil(low / step - 1e-6) * step; at <= high + step * 1e-6; at += step) {
        char text[48];
        const int y = (int)chart_y(&chart, at);
        struct rect box = {labels.x, y - line / 2, labels.w - gap, line};
        canvas_fill(c, (struct rect){area.x, y, area.w, 1}, view->theme->grid);
        if (box.y < area.y) box.y = area.y;
        if (box.y + line > area.y + area.h) box.y = area.y + area.h - line;
        unit_text(text, sizeof text, fabs(at) < step * 1e-6 ? 0 : at, unit);
        if (labels.w) canvas_text(c, FONT_SMALL, box, ALIGN_RIGHT, view->theme->dim, text);
    }
    if (steps) chart_steps(view, c, (struct rect){area.x, below.y, area.w, below.h});
    return chart;
}

void chart_cursor(struct view *view, struct canvas *c, const struct chart *chart)
{
    const struct rect p = chart->plot;
    const int x = (int)view_x(view, p, view->step);
    if (view->step >= chart->span.first && view->step <= chart->span.last)
        canvas_fill(c, (struct rect){x, p.y, 1, p.h}, colour_with(view->theme->text, 120));
    if (!view_over(view, p)) return;
    const int own = (int)view_x(view, p, view_step_at(view, p, view->mouse.x));
    canvas_fill(c, (struct rect){own, p.y, 1, p.h}, colour_with(view->theme->accent, 150));
}

// ---- curves

struct column { float least, most, sum, x; uint32_t count; }; // x: sum of where they lie

// What of the series lies in each pixel of the plot's width.
static struct column *columns_of(const struct view *view, const struct chart *chart,
                                 const struct history_series *series, struct rows rows)
{
    struct column *column = os_alloc((size_t)(chart->plot.w + 1) * sizeof *column);
    const double scale = chart->plot.w / (chart->span.last - chart->span.first + 1.0);
    for (uint32_t i = rows.first; i < rows.end; i++) {
        const float value = series->value[i];
        if (!isfinite(value)) continue;
        const uint32_t step = view->history->row_step[i] - chart->span.first;
        const double x = (step + 0.5) * scale;
        struct column *own = &column[(int)x];
        if (!own->count++) own->least = own->most = value;
        if (value < own->least) own->least = value;
        if (value > own->most) own->most = value;
        own->sum += value, own->x += (float)x;
    }
    return column;
}

struct pen { float x, y; bool down; };

static void draw_to(struct canvas *c, struct pen *pen, float x, float y, float width, colour own)
{
    if (pen->down) canvas_line(c, pen->x, pen->y, x, y, width, own);
    *pen = (struct pen){x, y, true};
}

// Over the columns; `window` > 1: a mean that forgets within as many columns.
static void draw_means(struct canvas *c, const struct chart *chart, const struct column *column,
                       float window, float width, colour own)
{
    struct pen pen = {0};
    float mean = 0, weight = 0;
    for (int x = 0; x < chart->plot.w; x++) {
        mean *= 1 - 1 / window, weight *= 1 - 1 / window;
        if (!column[x].count) continue;
        mean += column[x].sum / (float)column[x].count, weight += 1;
        draw_to(c, &pen, (float)chart->plot.x + column[x].x / (float)column[x].count,
                chart_y(chart, mean / weight) + 0.5f, width, own);
    }
}

static void draw_bands(struct canvas *c, const struct chart *chart, const struct column *column,
                       colour own)
{
    for (int x = 0; x < chart->plot.w; x++) {
        if (!column[x].count) continue;
        const int top = (int)chart_y(chart, column[x].most);
        const int low = (int)chart_y(chart, column[x].least);
        canvas_fill(c, (struct rect){chart->plot.x + x, top, 1, low - top + 1}, own);
    }
}

void chart_curve(const struct view *view, struct canvas *c, const struct chart *chart,
                 const struct history_series *series, colour own, bool smooth)
{
    const struct rows rows = rows_of(view, chart->span);
    if (!series || chart->plot.w < 2 || rows.end <= rows.first) return;
    struct column *column = columns_of(view, chart, series, rows);
    const struct rect old = canvas_clip(c, chart->plot);
    const uint32_t count = rows.end - rows.first, width = (uint32_t)chart->plot.w;
    const float thick = 1.6f * c->scale;
    smooth = smooth && count > 40;
    if (count > width + width / 2) {
        draw_bands(c, chart, column, colour_with(own, smooth ? 70 : 90));
        draw_means(c, chart, column, smooth ? (float)width / 60 : 1, thick, own);
    } else {
        draw_means(c, chart, column, 1, smooth ? c->scale : thick,
                   smooth ? colour_with(own, 90) : own);
        if (smooth) draw_means(c, chart, column, fmaxf((float)width / 50, 2), thick, own);
    }
    canvas_unclip(c, old);
    free(column);
}

void chart_points(const struct view *view, struct canvas *c, const struct chart *chart,
                  const struct history_series *series, colour own)
{
    const struct rows rows = rows_of(view, chart->span);
    if (!series || rows.end <= rows.first) return;
    const struct rect old = canvas_clip(c, chart->plot);
    struct pen pen = {0};
    float last = -1e9f;
    for (uint32_t i = rows.first; i < rows.end; i++) {
        if (!isfinite(series->value[i])) continue;
        const float x = view_x(view, chart->plot, view->history->row_step[i]);
        const float y = chart_y(chart, series->value[i]) + 0.5f;
        draw_to(c, &pen, x, y, 1.2f * c->scale, colour_with(own, 160));
        if (x - last < 5 * c->scale && i + 1 < rows.end) continue;
        canvas_disc(c, x, y, 2.6f * c->scale, own);
        last = x;
    }
    canvas_unclip(c, old);
}
