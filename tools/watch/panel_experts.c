// SPDX-License-Identifier: MIT
// Load of a layer's experts over steps as a map, the step's loads as bars beside it; or all layers
// at one step.
#include <math.h>
#include <string.h>

#include "tools/watch/watch.h"

enum { LABEL = 5, BARS = 20, FAIR_PICKS = 4 };

static colour load_colour(const struct watch *w, float load, float idle)
{
    if (isnan(load)) return w->theme->nothing;
    if (!(load > 0)) return idle >= 1 ? w->theme->dead : w->theme->idle;
    return colour_load(load);
}

static void draw_legend(struct watch *w, struct box line)
{
    struct screen *s = &w->screen;
    const struct theme *t = w->theme;
    static const char *const marks[] = {"1/4", "fair", "4x"};
    box_left(&line, screen_put(s, line, t->faint, marks[0]) + 1);
    for (int x = 0; x < 16 && line.w > 0; x++) {
        const struct box cell = box_left(&line, 1);
        screen_ground(s, cell.x, cell.y, colour_map((float)x / 15));
    }
    box_left(&line, 1);
    box_left(&line, screen_put(s, line, t->faint, marks[2]) + 3);
    if (line.w < 9) return;
    const struct box cell = box_left(&line, 2);
    screen_fill(s, cell, t->dead);
    screen_put(s, line, t->faint, " no pick");
}

// Pixels (two a cell) that an expert has: many where there is room.
static uint32_t expert_pixels(const struct watch *w, int lines)
{
    const uint32_t pixels = 2 * (uint32_t)lines, experts = w->history->experts;
    if (experts >= pixels) return 1;
    const uint32_t most = pixels / experts;
    return most >= 2 ? most & ~1u : 1; // whole cells, so that bars stand beside them
}

static void draw_map(struct watch *w, struct box box, const struct history_view *view,
                     uint32_t pixels, double ms)
{
    history_map_show(w->map, view);
    history_map_work(w->map, ms);
    w->pending |= !history_map_done(w->map);
    for (int x = 0; x < box.w; x++) {
        const uint32_t column = (uint32_t)((uint64_t)x * view->columns / (uint64_t)box.w);
        for (uint32_t y = 0; y < 2 * (uint32_t)box.h; y++) {
            const uint32_t row = y / pixels;
            const bool inside = row < view->rows;
            screen_pixel(&w->screen, box.x + x, 2 * box.y + (int)y,
                         inside ? load_colour(w, history_map_load(w->map, column, row),
                                              history_map_idle(w->map, column, row))
                                : w->theme->panel);
        }
    }
}

static void draw_labels(struct watch *w, struct box box, const struct history_view *view,
                        uint32_t pixels)
{
    const uint32_t every = pixels >= 2 ? 1 : 4; // lines
    for (int y = 0; y < box.h; y++) {
        const uint32_t row = 2 * (uint32_t)y / pixels;
        if (row >= view->rows || (2 * (uint32_t)y) % pixels || (uint32_t)y % every) continue;
        screen_print_right(&w->screen, (struct box){box.x, box.y + y, box.w - 1, 1},
                           w->theme->faint, "%u",
                           history_map_first(view, w->history->experts, row));
    }
}

// Of each row of the map, at the slider's step.
static void draw_bars(struct watch *w, struct box box, const struct history_view *view,
                      uint32_t pixels)
{
    const struct history *h = w->history;
    const struct theme *t = w->theme;
    const uint32_t at = history_traced(h, w->step);
    uint32_t *picks = arena_array(w->arena, h->experts + 1, sizeof *picks);
    double all = 0;
    if (at == HISTORY_NONE || !history_counts(w->history, at, w->layer, picks)) return;
    for (uint32_t e = 0; e < h->experts; e++) all += picks[e];
    for (int y = 0; y < box.h; y++) {
        // a line has one row, or two where rows are a pixel high
        const uint32_t first = 2 * (uint32_t)y / pixels, last = (2 * (uint32_t)y + 1) / pixels;
        if (first >= view->rows || (pixels > 2 && 2 * (uint32_t)y % pixels)) continue;
        const uint32_t begin = history_map_first(view, h->experts, first),
                       end = last + 1 >= view->rows ? h->experts
                           : history_map_first(view, h->experts, last + 1);
        double sum = 0;
        for (uint32_t e = begin; e < end; e++) sum += picks[e];
        const double load = all > 0 ? sum / (end - begin) * h->experts / all : NAN;
        struct box line = {box.x, box.y + y, box.w, 1};
        const struct box number = box_right(&line, 6);
        screen_print_right(&w->screen, number, load > 0 ? t->dim : t->alarm, "%.2f", load);
        screen_bar(&w->screen, line, load / 4, load > 0 ? colour_load((float)load) : t->dead,
                   t->grid);
    }
}

static void draw_strips(struct watch *w, struct box box, int number)
{
    static const struct { const char *series, *label; double low, high; } strips[] = {
        {"entropy", "entropy", 0, 1}, {"max_share", "largest", 0, NAN}, {"dead", "idle", 0, NAN}};
    for (size_t i = 0; i < COUNT_OF(strips) && box.h > 0; i++) {
        struct box line = box_top(&box, 1);
        double low, high;
        const double value = watch_value(w, strips[i].series, number);
        screen_put(&w->screen, box_left(&line, 9), w->theme->dim, strips[i].label);
        const bool share = i == 1;
        screen_put(&w->screen, box_left(&line, 8), w->theme->text,
                   isnan(value) ? "-"
                   : share ? arena_printf(w->arena, "%.1f %%", 100 * value)
                           : arena_printf(w->arena, i ? "%.0f" : "%.3f", value));
        if (line.w < 1) return;
        const double *values =
            watch_column(w, strips[i].series, number, (uint32_t)line.w, true, &low, &high);
        if (values)
            screen_sparks(&w->screen, line, values, strips[i].low,
                          isnan(strips[i].high) ? fmax(high, 1e-9) : strips[i].high,
                          w->theme->series[i % 3]);
    }
}

static void draw_layer(struct watch *w, struct box box, double ms)
{
    const struct history *h = w->history;
    const struct watch_span span = watch_span(w);
    struct box legend = box_bottom(&box, box.h > 9 ? 2 : 0);
    struct box strips = box_bottom(&box, box.h > 14 ? 4 : 0);
    struct box axis = box_bottom(&box, box.h > 5), marker = box_top(&box, box.h > 4);
    struct box labels = box_left(&box, LABEL), bars = box_right(&box, box.w > 70 ? BARS : 0);
    if (bars.w) box_right(&box, 2);
    if (box.w < 4 || box.h < 1) return;
    const uint32_t pixels = expert_pixels(w, box.h);
    const uint32_t rows = min_u32(h->experts, 2 * (uint32_t)box.h / pixels);
    box.h = (int)ceil_div(rows * pixels, 2); // what follows stands close by
    axis.y = box.y + box.h;
    const struct history_view view = {w->layer, span.first, span.last,
                                      min_u32((uint32_t)box.w, span.last - span.first + 1), rows};
    draw_map(w, box, &view, pixels, ms);
    draw_labels(w, labels, &view, pixels);
    if (bars.w) draw_bars(w, (struct box){bars.x, box.y, bars.w, box.h}, &view, pixels);
    watch_marker(w, (struct box){box.x, marker.y, box.w, marker.h});
    if (axis.h) watch_axis(w, (struct box){box.x, axis.y, box.w, 1});
    if (strips.h) {
        strips.y = axis.y + 2, strips.h = 3;
        draw_strips(w, strips, (int)h->layer[w->layer].number);
    }
    if (!legend.h) return;
    legend.y = strips.h ? strips.y + strips.h + 1 : axis.y + 2;
    draw_legend(w, box_top(&legend, 1));
}

// ---- all layers at a step

static void draw_step(struct watch *w, struct box box)
{
    const struct history *h = w->history;
    const uint32_t at = history_traced(h, w->step);
    struct box legend = box_bottom(&box, box.h > 4);
    struct box labels = box_left(&box, 9);
    uint32_t *picks = arena_array(w->arena, h->experts + 1, sizeof *picks);
    if (at == HISTORY_NONE || box.w < 1) return;
    const uint32_t columns = min_u32((uint32_t)box.w, h->experts);
    const int tall = (int)max_u32(1, min_u32(3, (uint32_t)box.h / max_u32(h->layers, 1)));
    for (uint32_t l = 0; l < h->layers && (int)(l + 1) * tall <= box.h; l++) {
        double all = 0;
        if (!history_counts(w->history, at, l, picks)) continue;
        for (uint32_t e = 0; e < h->experts; e++) all += picks[e];
        const int y = box.y + (int)l * tall;
        screen_print(&w->screen, (struct box){labels.x, y, labels.w, 1},
                     l == w->layer ? w->theme->accent : w->theme->faint, "layer %u",
                     h->layer[l].number);
        for (int x = 0; x < box.w; x++) {
            const uint32_t column = (uint32_t)((uint64_t)x * columns / (uint64_t)box.w);
            const uint32_t begin = (uint32_t)((uint64_t)column * h->experts / columns),
                           end = (uint32_t)((uint64_t)(column + 1) * h->experts / columns);
            double sum = 0;
            for (uint32_t e = begin; e < end; e++) sum += picks[e];
            const double load = all > 0 ? sum / (end - begin) * h->experts / all : NAN;
            const colour own = load_colour(w, (float)load, all >= FAIR_PICKS * h->experts);
            screen_fill(&w->screen, (struct box){box.x + x, y, 1, tall}, own);
        }
    }
    if (legend.h) draw_legend(w, legend);
}

void watch_experts(struct watch *w, struct box box, double ms)
{
    const struct history *h = w->history;
    const char *note = h->layers == 0 ? NULL
        : w->all_layers ? arena_printf(w->arena, "all layers at step %u: load over the ideal",
                                       w->step)
        : arena_printf(w->arena, "layer %u (%u of %u)  %u experts, %u a token: load over the ideal",
                       h->layer[w->layer].number, w->layer + 1, h->layers, h->experts,
                       h->layer[w->layer].top_k);
    box = watch_frame(w, box, "experts", note);
    if (!h->layers || !h->steps)
        watch_empty(w, box, h->layers ? "no traced step yet" : "no routing.trace in this folder");
    else if (w->all_layers) draw_step(w, box);
    else draw_layer(w, box, ms);
}
