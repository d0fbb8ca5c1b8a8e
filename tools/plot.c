// SPDX-License-Identifier: MIT
// Panels of a canvas, the same that the viewer draws on: axes with round ticks, then what is drawn.
// See plot.h. Colours are Okabe and Ito's, which people who see fewer colours tell apart; after
// eight series lines are dashed.
#include "tools/plot.h"

#include "runtime/log.h"

#ifdef HAVE_PICTURES
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base.h"
#include "tools/view/canvas.h"
#include "tools/view/colours.h"

struct plot {
    struct canvas *canvas;
    uint32_t       columns, width, height, next;
};

// the data's rectangle of a panel, in pixels and in values
struct frame { double left, top, right, bottom, x0, x1, y0, y1; };

static const float TEXT_SCALE = 1.1f; // sheets are looked at smaller than they are

static const colour colours[] = {0xff0073b3, 0xffe69e00, 0xff009e73, 0xffcc78a6,
                                 0xffd65e00, 0xff57b5e8, 0xff8a8f98, 0xffbfb326};

struct plot *plot_create(uint32_t columns, uint32_t rows, uint32_t width, uint32_t height)
{
    struct canvas *canvas =
        canvas_create((int)(columns * width), (int)(rows * height), TEXT_SCALE, NULL);
    if (!canvas) return NULL;
    struct plot *plot = calloc(1, sizeof *plot);
    *plot = (struct plot){.canvas = canvas, .columns = columns, .width = width, .height = height};
    canvas_fill(canvas, (struct rect){0, 0, canvas->width, canvas->height}, theme_light()->panel);
    return plot;
}

static colour colour_of(uint32_t i) { return colours[i % COUNT_OF(colours)]; }

// ---- text

// Around a height, before, around or behind a place; as wide as it is, at most `most`.
static void write_text(struct plot *plot, enum canvas_font font, double x, double y, double most,
                       enum canvas_align align, colour ink, const char *text)
{
    const int width = (int)fmin(canvas_text_width(plot->canvas, font, text), most);
    const int height = canvas_line_height(plot->canvas, font);
    const int left = align == ALIGN_LEFT ? 0 : align == ALIGN_RIGHT ? width : width / 2;
    const struct rect box = {(int)x - left, (int)y - height / 2, width, height};
    canvas_text(plot->canvas, font, box, ALIGN_LEFT, ink, text);
}

static void label(struct plot *plot, double x, double y, double most, enum canvas_align align,
                  const char *text)
{
    write_text(plot, FONT_SMALL, x, y, most, align, theme_light()->text, text);
}

// ---- axes

enum { LEFT_ROOM = 70, LEFT_GAP = 6, LEFT_MOST = LEFT_ROOM - LEFT_GAP - 2 }; // of a panel

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

static void line(struct plot *plot, double x0, double y0, double x1, double y1, float width,
                 colour ink)
{
    canvas_line(plot->canvas, (float)x0, (float)y0, (float)x1, (float)y1, width, ink);
}

// The rectangle between two corners, whole pixels.
static struct rect rect_between(double left, double top, double right, double bottom)
{
    const int x = (int)lround(left), y = (int)lround(top);
    return (struct rect){x, y, (int)lround(right) - x, (int)lround(bottom) - y};
}

static void axis_y(struct plot *plot, const struct frame *f)
{
    const double step = tick_step(f->y1 - f->y0, 6);
    for (double v = ceil(f->y0 / step) * step; v <= f->y1 + 1e-9 * step; v += step) {
        char text[32];
        snprintf(text, sizeof text, "%.4g", fabs(v) < 1e-9 * step ? 0 : v);
        const double y = floor(at_y(f, v));
        canvas_fill(plot->canvas, rect_between(f->left, y, f->right, y + 1), theme_light()->grid);
        label(plot, f->left - LEFT_GAP, y, LEFT_MOST, ALIGN_RIGHT, text);
    }
}

static void axis_x(struct plot *plot, const struct frame *f)
{
    const double step = tick_step(f->x1 - f->x0, 6);
    for (double v = ceil(f->x0 / step) * step; v <= f->x1 + 1e-9 * step; v += step) {
        char text[32];
        snprintf(text, sizeof text, "%.6g", fabs(v) < 1e-9 * step ? 0 : v);
        const double x = floor(at_x(f, v));
        canvas_fill(plot->canvas, rect_between(x, f->bottom, x + 1, f->bottom + 5),
                    theme_light()->dim);
        label(plot, x, f->bottom + 14, INFINITY, ALIGN_CENTER, text);
    }
}

static void widen(double *low, double *high)
{
    if (!(*low <= *high)) *low = 0, *high = 1;
    // what differs by rounding alone is one value: ticks between would never end
    if (*high - *low <= 1e-9 * fmax(fabs(*low), fabs(*high))) *low -= 0.5, *high += 0.5;
    if (*low == *high) *low -= 0.5, *high += 0.5;
}

// Title and labels of the next panel; room for names on its right.
static struct frame next_frame(struct plot *plot, const struct plot_chart *chart, double right_room)
{
    const struct theme *t = theme_light();
    const double x = plot->next % plot->columns * plot->width;
    const double y = plot->next / plot->columns * plot->height;
    plot->next++;
    const struct frame f = {.left = x + LEFT_ROOM,
                            .top = y + 56,
                            .right = x + plot->width - 16 - right_room,
                            .bottom = y + plot->height - 56};
    write_text(plot, FONT_TITLE, x + 16, y + 20, plot->width - 32, ALIGN_LEFT, t->text,
               chart->title);
    if (chart->y_label)
        write_text(plot, FONT_SMALL, x + 16, y + 41, plot->width - 32, ALIGN_LEFT, t->dim,
                   chart->y_label);
    if (chart->x_label)
        write_text(plot, FONT_SMALL, (f.left + f.right) / 2, f.bottom + 34, f.right - f.left,
                   ALIGN_CENTER, t->dim, chart->x_label);
    return f;
}

static void box(struct plot *plot, const struct frame *f)
{
    canvas_frame(plot->canvas, rect_between(f->left, f->top, f->right + 1, f->bottom + 1),
                 theme_light()->dim);
}

// ---- what is drawn

static void stretch(double value, double *low, double *high)
{
    if (!isfinite(value)) return;
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

// Of series number i; after as many as there are colours dashed. `way`: how long the curve is.
static void stroke(struct plot *plot, uint32_t i, const double from[2], const double to[2],
                   double *way)
{
    enum { DASH = 6, GAP = 3 };
    const double length = hypot(to[0] - from[0], to[1] - from[1]);
    const bool dashed = i >= COUNT_OF(colours);
    for (double at = 0; at < length;) {
        const double in_dash = fmod(*way + at, DASH + GAP);
        const double next = (in_dash < DASH ? DASH : DASH + GAP) - in_dash + 1e-6;
        const double end = dashed ? fmin(length, at + next) : length;
        const double a = at / length, b = end / length;
        if (!dashed || in_dash < DASH)
            line(plot, from[0] + a * (to[0] - from[0]), from[1] + a * (to[1] - from[1]),
                 from[0] + b * (to[0] - from[0]), from[1] + b * (to[1] - from[1]), 1.8f,
                 colour_of(i));
        at = end;
    }
    *way += length;
}

static bool is_point(const struct plot_series *s, uint32_t i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

static void draw_series(struct plot *plot, const struct frame *f, const struct plot_series *s,
                        uint32_t number)
{
    double from[2], way = 0;
    uint32_t points = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!is_point(s, i)) continue;
        const double to[2] = {at_x(f, s->x[i]), at_y(f, s->y[i])};
        if (points++) stroke(plot, number, from, to, &way);
        from[0] = to[0], from[1] = to[1];
    }
    if (points == 1)
        canvas_disc(plot->canvas, (float)from[0], (float)from[1], 2.5f, colour_of(number));
}

static bool has_points(const struct plot_series *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (is_point(s, i)) return true;
    return false;
}

// Behind the axes, as far down as there is room.
static void draw_names(struct plot *plot, const struct frame *f, const struct plot_series *series,
                       uint32_t count, double most)
{
    enum { LINE = 18 };
    const uint32_t room = (uint32_t)((f->bottom - f->top) / LINE);
    uint32_t named = 0, shown = 0;
    for (uint32_t s = 0; s < count; s++) named += has_points(&series[s]);
    for (uint32_t s = 0; s < count; s++) {
        if (!has_points(&series[s])) continue; // a name without a line would be looked for
        const double y = f->top + 8 + LINE * shown;
        const double from[] = {f->right + 8, y}, to[] = {f->right + 28, y};
        if (++shown == room && named > room) {
            char text[32];
            snprintf(text, sizeof text, "and %u more", named - shown + 1);
            label(plot, from[0], y, most, ALIGN_LEFT, text);
            return;
        }
        stroke(plot, s, from, to, &(double){0});
        label(plot, f->right + 32, y, most, ALIGN_LEFT, series[s].name);
    }
}

void plot_lines(struct plot *plot, const struct plot_chart *chart, const struct plot_series *series,
                uint32_t count)
{
    if (!plot) return;
    double names = 0;
    for (uint32_t i = 0; i < count; i++)
        names = fmax(names, canvas_text_width(plot->canvas, FONT_SMALL, series[i].name));
    names = fmin(names, plot->width / 3.0);
    struct frame f = next_frame(plot, chart, names + 40);
    f.x0 = f.y0 = INFINITY, f.x1 = f.y1 = -INFINITY;
    for (uint32_t s = 0; s < count; s++)
        for (uint32_t i = 0; i < series[s].count; i++) {
            if (!is_point(&series[s], i)) continue;
            stretch(series[s].x[i], &f.x0, &f.x1);
            stretch(series[s].y[i], &f.y0, &f.y1);
        }
    widen(&f.x0, &f.x1), widen(&f.y0, &f.y1);
    const double margin = 0.04 * (f.y1 - f.y0);
    f.y0 -= margin, f.y1 += margin;
    axis_y(plot, &f), axis_x(plot, &f), box(plot, &f);
    for (uint32_t s = 0; s < count; s++) draw_series(plot, &f, &series[s], s);
    draw_names(plot, &f, series, count, names);
}

static void draw_bar(struct plot *plot, const struct frame *f, const struct plot_bar *bar,
                     double middle, double half, double base)
{
    const double end = at_y(f, bar->value);
    canvas_fill(plot->canvas,
                rect_between(middle - half, fmin(end, base), middle + half, fmax(end, base)),
                colour_of(bar->colour));
    if (bar->spread > 0)
        line(plot, middle, at_y(f, bar->value - bar->spread), middle,
             at_y(f, bar->value + bar->spread), 1, theme_light()->text);
}

void plot_bars(struct plot *plot, const struct plot_chart *chart, const struct plot_bar *bar,
               uint32_t count)
{
    if (!plot || !count) return;
    struct frame f = next_frame(plot, chart, 0);
    f.y0 = INFINITY, f.y1 = -INFINITY, f.x0 = 0, f.x1 = count;
    bool below = false;
    for (uint32_t i = 0; i < count; i++) {
        const double spread = bar[i].spread > 0 ? bar[i].spread : 0; // NAN: of one alone
        stretch(bar[i].value - spread, &f.y0, &f.y1);
        stretch(bar[i].value + spread, &f.y0, &f.y1);
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
    const double each = (f.right - f.left) / count;
    for (uint32_t i = 0; i < count; i++) {
        const double middle = at_x(&f, i + 0.5);
        if (!isfinite(bar[i].value)) continue;
        draw_bar(plot, &f, &bar[i], middle, 0.32 * each, base);
        // names too long for their bar stand on two heights
        const double room = fmin(2 * each - 4, 2 * fmin(f.right + 14 - middle,
                                                        middle - f.left + LEFT_MOST));
        write_text(plot, FONT_SMALL, middle, f.bottom + 14 + (i % 2 ? 15 : 0), room, ALIGN_CENTER,
                   theme_light()->text, bar[i].name);
    }
    if (base < f.bottom)
        canvas_fill(plot->canvas, rect_between(f.left, base, f.right, base + 1),
                    theme_light()->dim);
}

static const char *name_of(const char *const *names, uint32_t i, char number[16])
{
    snprintf(number, 16, "%u", i);
    return names ? names[i] : number;
}

// The cells' values, where there is room for all of them.
static void cell_texts(struct plot *plot, const struct frame *f, const double *value,
                       const colour *cell, uint32_t rows, uint32_t columns)
{
    const double width = (f->right - f->left) / columns, height = (f->bottom - f->top) / rows;
    if (height < 14) return;
    for (uint32_t i = 0; i < rows * columns; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.3g", value[i]);
        if (!isfinite(value[i]) || canvas_text_width(plot->canvas, FONT_SMALL, text) > width - 4)
            continue;
        write_text(plot, FONT_SMALL, f->left + (i % columns + 0.5) * width,
                   f->top + (i / columns + 0.5) * height, width, ALIGN_CENTER, colour_on(cell[i]),
                   text);
    }
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
    colour *cell = calloc((size_t)rows * columns, sizeof *cell);
    for (uint32_t i = 0; i < rows * columns; i++)
        cell[i] = isfinite(value[i]) ? colour_between(theme_light()->panel, 0xff00408c,
                                                      (float)((value[i] - low) / (high - low)))
                                     : theme_light()->panel;
    canvas_cells(plot->canvas, rect_between(f.left, f.top, f.right, f.bottom), cell, columns, rows);
    cell_texts(plot, &f, value, cell, rows, columns);
    free(cell);
    const double width = (f.right - f.left) / columns, height = (f.bottom - f.top) / rows;
    const uint32_t every_row = (uint32_t)ceil(14 / height), every = (uint32_t)ceil(40 / width);
    for (uint32_t r = 0; r < rows; r += every_row)
        label(plot, f.left - LEFT_GAP, f.top + (r + 0.5) * height, LEFT_MOST, ALIGN_RIGHT,
              name_of(row_names, r, number));
    for (uint32_t c = 0; c < columns; c += every)
        write_text(plot, FONT_SMALL, f.left + (c + 0.5) * width, f.bottom + 14, every * width - 2,
                   ALIGN_CENTER, theme_light()->text, name_of(column_names, c, number));
    box(plot, &f);
}

bool plot_save(struct plot **plot, const char *path)
{
    if (!*plot) return true;
    const bool ok = canvas_save_png((*plot)->canvas, path);
    canvas_destroy(&(*plot)->canvas);
    free(*plot);
    *plot = NULL;
    return ok;
}

#else

struct plot *plot_create(uint32_t columns, uint32_t rows, uint32_t width, uint32_t height)
{
    (void)columns, (void)rows, (void)width, (void)height;
    log_warn("no pictures: built without FreeType or libpng (Debian: libfreetype-dev libpng-dev, "
             "then build again)");
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
