// SPDX-License-Identifier: MIT
// Panels of a cairo image surface: axes with round ticks, then what is drawn. See plot.h. Colours
// are Okabe and Ito's, which people who see fewer colours tell apart; after eight series lines are
// dashed.
#include "tools/plot.h"

#include "runtime/log.h"

#ifdef HAVE_CAIRO
#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base.h"

struct plot {
    cairo_surface_t *surface;
    cairo_t         *cairo;
    uint32_t         columns, width, height, next;
};

// the data's rectangle of a panel, in pixels and in values
struct frame { double left, top, right, bottom, x0, x1, y0, y1; };

static const double colours[][3] = {{0.00, 0.45, 0.70}, {0.90, 0.62, 0.00}, {0.00, 0.62, 0.45},
                                    {0.80, 0.47, 0.65}, {0.84, 0.37, 0.00}, {0.34, 0.71, 0.91},
                                    {0.30, 0.30, 0.30}, {0.75, 0.70, 0.15}};

struct plot *plot_create(uint32_t columns, uint32_t rows, uint32_t width, uint32_t height)
{
    struct plot *plot = calloc(1, sizeof *plot);
    *plot = (struct plot){.columns = columns, .width = width, .height = height};
    plot->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(columns * width),
                                               (int)(rows * height));
    plot->cairo = cairo_create(plot->surface);
    cairo_set_source_rgb(plot->cairo, 1, 1, 1);
    cairo_paint(plot->cairo);
    cairo_select_font_face(plot->cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           CAIRO_FONT_WEIGHT_NORMAL);
    return plot;
}

// ---- text

enum align { LEFT, CENTRE, RIGHT };

static double text_width(struct plot *plot, const char *text)
{
    cairo_text_extents_t extents;
    cairo_text_extents(plot->cairo, text, &extents);
    return extents.x_advance;
}

static void draw_text(struct plot *plot, double x, double y, enum align align, const char *text)
{
    const double width = text_width(plot, text);
    cairo_move_to(plot->cairo, x - (align == CENTRE ? width / 2 : align == RIGHT ? width : 0), y);
    cairo_show_text(plot->cairo, text);
}

static void ink(struct plot *plot, double grey)
{
    cairo_set_source_rgb(plot->cairo, grey, grey, grey);
}

static void colour(struct plot *plot, uint32_t i)
{
    static const double dash[] = {6, 3};
    const double *c = colours[i % COUNT_OF(colours)];
    cairo_set_source_rgb(plot->cairo, c[0], c[1], c[2]);
    cairo_set_dash(plot->cairo, dash, i < COUNT_OF(colours) ? 0 : 2, 0);
}

// ---- axes

// The step of round ticks: 1, 2 or 5 times a power of ten.
static double tick_step(double range, double wanted)
{
    const double raw = range / wanted, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static double at_x(const struct frame *f, double x)
{
    return f->left + (x - f->x0) / (f->x1 - f->x0) * (f->right - f->left);
}

static double at_y(const struct frame *f, double y)
{
    return f->bottom - (y - f->y0) / (f->y1 - f->y0) * (f->bottom - f->top);
}

static void line(struct plot *plot, double x0, double y0, double x1, double y1)
{
    cairo_move_to(plot->cairo, x0, y0);
    cairo_line_to(plot->cairo, x1, y1);
    cairo_stroke(plot->cairo);
}

static void axis_y(struct plot *plot, const struct frame *f)
{
    const double step = tick_step(f->y1 - f->y0, 6);
    for (double v = ceil(f->y0 / step) * step; v <= f->y1 + 1e-9 * step; v += step) {
        char text[32];
        snprintf(text, sizeof text, "%.4g", fabs(v) < 1e-9 * step ? 0 : v);
        ink(plot, 0.9);
        line(plot, f->left, at_y(f, v), f->right, at_y(f, v));
        ink(plot, 0.2);
        draw_text(plot, f->left - 6, at_y(f, v) + 4, RIGHT, text);
    }
}

static void axis_x(struct plot *plot, const struct frame *f)
{
    const double step = tick_step(f->x1 - f->x0, 6);
    for (double v = ceil(f->x0 / step) * step; v <= f->x1 + 1e-9 * step; v += step) {
        char text[32];
        snprintf(text, sizeof text, "%.6g", fabs(v) < 1e-9 * step ? 0 : v);
        ink(plot, 0.2);
        line(plot, at_x(f, v), f->bottom, at_x(f, v), f->bottom + 4);
        draw_text(plot, at_x(f, v), f->bottom + 17, CENTRE, text);
    }
}

static void widen(double *low, double *high)
{
    if (!(*low <= *high)) *low = 0, *high = 1;
    // what differs by rounding alone is one value: ticks between would never end
    if (*high - *low <= 1e-9 * fmax(fabs(*low), fabs(*high))) *low -= 0.5, *high += 0.5;
    if (*low == *high) *low -= 0.5, *high += 0.5;
}

// Title and labels of the next panel; room for `legend` lines of names on its right.
static struct frame next_frame(struct plot *plot, const struct plot_chart *chart, double right_room)
{
    const double x = plot->next % plot->columns * plot->width;
    const double y = plot->next / plot->columns * plot->height;
    plot->next++;
    const struct frame f = {.left = x + 70,
                            .top = y + 40,
                            .right = x + plot->width - 16 - right_room,
                            .bottom = y + plot->height - 56};
    cairo_set_line_width(plot->cairo, 1);
    cairo_set_dash(plot->cairo, NULL, 0, 0);
    ink(plot, 0);
    cairo_set_font_size(plot->cairo, 15);
    draw_text(plot, x + 16, y + 24, LEFT, chart->title);
    cairo_set_font_size(plot->cairo, 12);
    if (chart->x_label)
        draw_text(plot, (f.left + f.right) / 2, f.bottom + 36, CENTRE, chart->x_label);
    if (chart->y_label) {
        cairo_save(plot->cairo);
        cairo_translate(plot->cairo, x + 16, (f.top + f.bottom) / 2);
        cairo_rotate(plot->cairo, -M_PI / 2);
        draw_text(plot, 0, 0, CENTRE, chart->y_label);
        cairo_restore(plot->cairo);
    }
    return f;
}

static void box(struct plot *plot, const struct frame *f)
{
    ink(plot, 0.2);
    cairo_rectangle(plot->cairo, f->left, f->top, f->right - f->left, f->bottom - f->top);
    cairo_stroke(plot->cairo);
}

// ---- what is drawn

static void stretch(double value, double *low, double *high)
{
    if (!isfinite(value)) return;
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

static void draw_series(struct plot *plot, const struct frame *f, const struct plot_series *s)
{
    cairo_new_path(plot->cairo); // text leaves its end as the current point
    for (uint32_t i = 0; i < s->count; i++)
        if (isfinite(s->x[i]) && isfinite(s->y[i]))
            cairo_line_to(plot->cairo, at_x(f, s->x[i]), at_y(f, s->y[i]));
    cairo_stroke(plot->cairo);
}

static bool has_points(const struct plot_series *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (isfinite(s->y[i])) return true;
    return false;
}

void plot_lines(struct plot *plot, const struct plot_chart *chart, const struct plot_series *series,
                uint32_t count)
{
    if (!plot) return;
    double names = 0;
    cairo_set_font_size(plot->cairo, 12);
    for (uint32_t i = 0; i < count; i++) names = fmax(names, text_width(plot, series[i].name));
    struct frame f = next_frame(plot, chart, names + 40);
    f.x0 = f.y0 = INFINITY, f.x1 = f.y1 = -INFINITY;
    for (uint32_t s = 0; s < count; s++)
        for (uint32_t i = 0; i < series[s].count; i++) {
            stretch(series[s].x[i], &f.x0, &f.x1);
            stretch(series[s].y[i], &f.y0, &f.y1);
        }
    widen(&f.x0, &f.x1), widen(&f.y0, &f.y1);
    const double margin = 0.04 * (f.y1 - f.y0);
    f.y0 -= margin, f.y1 += margin;
    axis_y(plot, &f), axis_x(plot, &f), box(plot, &f);
    for (uint32_t s = 0, shown = 0; s < count; s++) {
        if (!has_points(&series[s])) continue; // a name without a line would be looked for
        const double y = f.top + 10 + 18 * shown++;
        colour(plot, s);
        cairo_set_line_width(plot->cairo, 1.8);
        draw_series(plot, &f, &series[s]);
        line(plot, f.right + 8, y - 4, f.right + 28, y - 4);
        ink(plot, 0);
        draw_text(plot, f.right + 32, y, LEFT, series[s].name);
    }
}

void plot_bars(struct plot *plot, const struct plot_chart *chart, const struct plot_bar *bar,
               uint32_t count)
{
    if (!plot || !count) return;
    struct frame f = next_frame(plot, chart, 0);
    f.y0 = INFINITY, f.y1 = -INFINITY, f.x0 = 0, f.x1 = count;
    bool below = false;
    for (uint32_t i = 0; i < count; i++) {
        stretch(bar[i].value - bar[i].spread, &f.y0, &f.y1);
        stretch(bar[i].value + bar[i].spread, &f.y0, &f.y1);
        below |= bar[i].value < 0;
    }
    if (below) stretch(0, &f.y0, &f.y1);
    widen(&f.y0, &f.y1);
    f.y1 += 0.08 * (f.y1 - f.y0);
    // differences matter more than the way from zero: the axis says where it begins
    if (below) f.y0 -= 0.08 * (f.y1 - f.y0);
    else f.y0 = f.y0 >= 0 && f.y0 < 0.5 * f.y1 ? 0 : f.y0 - 0.25 * (f.y1 - f.y0);
    axis_y(plot, &f), box(plot, &f);
    const double base = f.y0 < 0 && f.y1 > 0 ? at_y(&f, 0) : f.bottom; // where bars begin
    for (uint32_t i = 0; i < count; i++) {
        const double middle = at_x(&f, i + 0.5), half = 0.32 * (f.right - f.left) / count;
        if (!isfinite(bar[i].value)) continue;
        colour(plot, bar[i].colour % (uint32_t)COUNT_OF(colours));
        cairo_rectangle(plot->cairo, middle - half, at_y(&f, bar[i].value), 2 * half,
                        base - at_y(&f, bar[i].value));
        cairo_fill(plot->cairo);
        ink(plot, 0);
        if (bar[i].spread > 0)
            line(plot, middle, at_y(&f, bar[i].value - bar[i].spread), middle,
                 at_y(&f, bar[i].value + bar[i].spread));
        // names too long for their bar stand on two heights
        draw_text(plot, middle, f.bottom + 16 + (i % 2 ? 15 : 0), CENTRE, bar[i].name);
    }
    ink(plot, 0);
    if (base < f.bottom) line(plot, f.left, base, f.right, base);
}

static void cell_text(struct plot *plot, double x, double y, double width, double shade,
                      double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.3g", value);
    if (text_width(plot, text) > width - 4) return;
    ink(plot, shade > 0.5 ? 1 : 0);
    draw_text(plot, x + width / 2, y, CENTRE, text);
}

static const char *name_of(const char *const *names, uint32_t i, char number[16])
{
    snprintf(number, 16, "%u", i);
    return names ? names[i] : number;
}

void plot_grid(struct plot *plot, const struct plot_chart *chart, const double *value,
               uint32_t rows, uint32_t columns, const char *const *row_names,
               const char *const *column_names)
{
    if (!plot || !rows || !columns) return;
    char number[16];
    const struct frame f = next_frame(plot, chart, 0);
    double low = INFINITY, high = -INFINITY;
    for (uint32_t i = 0; i < rows * columns; i++) stretch(value[i], &low, &high);
    widen(&low, &high);
    const double width = (f.right - f.left) / columns, height = (f.bottom - f.top) / rows;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < columns; c++) {
            const double v = value[r * columns + c], shade = (v - low) / (high - low);
            const double x = f.left + c * width, y = f.top + r * height;
            if (!isfinite(v)) continue;
            cairo_set_source_rgb(plot->cairo, 1 - shade, 1 - 0.75 * shade, 1 - 0.45 * shade);
            cairo_rectangle(plot->cairo, x, y, width, height);
            cairo_fill(plot->cairo);
            if (height >= 14) cell_text(plot, x, y + height / 2 + 4, width, shade, v);
        }
    ink(plot, 0.2);
    const uint32_t every_row = (uint32_t)ceil(14 / height), every = (uint32_t)ceil(40 / width);
    for (uint32_t r = 0; r < rows; r += every_row)
        draw_text(plot, f.left - 6, f.top + (r + 0.5) * height + 4, RIGHT,
                  name_of(row_names, r, number));
    for (uint32_t c = 0; c < columns; c += every)
        draw_text(plot, f.left + (c + 0.5) * width, f.bottom + 17, CENTRE,
                  name_of(column_names, c, number));
    box(plot, &f);
}

static void plot_destroy(struct plot **plot)
{
    cairo_destroy((*plot)->cairo);
    cairo_surface_destroy((*plot)->surface);
    free(*plot);
    *plot = NULL;
}

bool plot_save(struct plot **plot, const char *path)
{
    if (!*plot) return true;
    char beside[4200];
    snprintf(beside, sizeof beside, "%.4100s.tmp", path);
    const cairo_status_t status = cairo_surface_write_to_png((*plot)->surface, beside);
    const bool ok = status == CAIRO_STATUS_SUCCESS && rename(beside, path) == 0;
    if (!ok) {
        log_error("%s: cannot write the picture: %s", path, cairo_status_to_string(status));
        remove(beside);
    }
    plot_destroy(plot);
    return ok;
}

#else

struct plot *plot_create(uint32_t columns, uint32_t rows, uint32_t width, uint32_t height)
{
    (void)columns, (void)rows, (void)width, (void)height;
    log_warn("no pictures: built without cairo (Debian: libcairo2-dev, then build again)");
    return 0;
}

void plot_lines(struct plot *plot, const struct plot_chart *chart, const struct plot_series *series,
                uint32_t count)
{
    (void)plot, (void)chart, (void)series, (void)count;
}

void plot_bars(struct plot *plot, const struct plot_chart *chart, const struct plot_bar *bar,
               uint32_t count)
{
    (void)plot, (void)chart, (void)bar, (void)count;
}

void plot_grid(struct plot *plot, const struct plot_chart *chart, const double *value,
               uint32_t rows, uint32_t columns, const char *const *row_names,
               const char *const *column_names)
{
    (void)plot, (void)chart, (void)value, (void)rows, (void)columns, (void)row_names;
    (void)column_names;
}

bool plot_save(struct plot **plot, const char *path)
{
    (void)plot, (void)path;
    return true;
}
#endif
