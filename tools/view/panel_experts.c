// SPDX-License-Identifier: MIT
// Experts over time: a layer's load as a map of experts by steps, the loads of the slider's step
// beside it, entropy and the largest share below; or the maps of all layers.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/chart.h"
#include "tools/view/parts.h"

enum { MOST_MAPS = 64, FEW_PICKS = 4, PAINTED = 1 << 16 }; // PAINTED: cells a frame

struct heat { // a map and its colours
    struct history_map *map;
    struct history_view view;
    colour             *cells; // [rows][columns]
    uint32_t            painted; // columns
    bool                stale, light;
};

struct experts_part {
    struct heat heat[MOST_MAPS]; // by layer
    uint32_t   *picks;           // [experts] of the slider's step
    uint32_t    experts, next;   // next: the map that is read first
};

void experts_part_free(struct experts_part **part)
{
    if (!*part) return;
    for (uint32_t i = 0; i < MOST_MAPS; i++) {
        history_map_destroy(&(*part)->heat[i].map);
        free((*part)->heat[i].cells);
    }
    free((*part)->picks);
    free(*part);
    *part = NULL;
}

static struct experts_part *part_of(struct view *v)
{
    struct experts_part **part = &v->parts->experts;
    if (*part && (*part)->experts != v->history->experts) experts_part_free(part);
    if (!*part) {
        *part = os_alloc(sizeof **part);
        (*part)->experts = v->history->experts;
        (*part)->picks = os_alloc((v->history->experts + 1ull) * sizeof *(*part)->picks);
    }
    return *part;
}

// ---- the map

// Whether a fair expert has picks in every step, so that one without is dead.
static bool many_picks(const struct history *h, uint32_t layer)
{
    return (uint64_t)h->step_tokens * h->layer[layer].top_k >= (uint64_t)FEW_PICKS * h->experts;
}

// Colours of load by its logarithm, dear to compute and few.
enum { SHADES = 256 };
struct shades { colour of[SHADES], none, nothing; };

static struct shades shades_of(const struct view *v, uint32_t layer)
{
    struct shades s = {.none = many_picks(v->history, layer) ? v->theme->dead : v->theme->idle,
                       .nothing = v->theme->nothing};
    for (int i = 0; i < SHADES; i++) s.of[i] = colour_map((float)i / (SHADES - 1));
    return s;
}

static colour shade(const struct shades *s, float load)
{
    if (!(load > 0)) return isnan(load) ? s->nothing : s->none;
    const float at = colour_load_share(load) * (SHADES - 1) + 0.5f;
    return s->of[at <= 0 ? 0 : at >= SHADES - 1 ? SHADES - 1 : (int)at];
}

// Colours of some columns, all where `whole`; a pass that is overtaken by more of the map is
// followed by another.
static void paint(struct view *v, struct heat *heat, bool whole)
{
    const struct history_view *s = &heat->view;
    const struct shades shades = shades_of(v, s->layer);
    float *load = os_alloc((s->rows + 1) * sizeof *load);
    const uint32_t some = whole ? s->columns : max_u32(PAINTED / (s->rows + 1), 1);
    if (heat->stale && heat->painted >= s->columns) heat->painted = 0, heat->stale = false;
    const uint32_t end = min_u32(s->columns, heat->painted + some);
    for (uint32_t column = heat->painted; column < end; column++) {
        history_map_column(heat->map, column, load);
        for (uint32_t row = 0; row < s->rows; row++)
            heat->cells[(size_t)row * s->columns + column] = shade(&shades, load[row]);
    }
    heat->painted = end;
    v->parts->pending |= heat->stale || end < s->columns;
    free(load);
}

// The map of a layer for an area, read further for `ms` (0: to the end; negative: not now).
static struct heat *heat_of(struct view *v, uint32_t layer, struct rect area, double ms)
{
    const struct history *h = v->history;
    const struct view_span span = view_span(v);
    struct heat *heat = &part_of(v)->heat[layer % MOST_MAPS];
    const uint64_t steps = span.last - span.first + 1ull;
    const struct history_view want = {layer, span.first, span.last,
                                      (uint32_t)min_u64((uint64_t)area.w, steps),
                                      min_u32((uint32_t)area.h, h->experts)};
    if (!heat->map) heat->map = history_map_create(v->history);
    if (history_map_show(heat->map, &want) || !heat->cells) {
        free(heat->cells);
        heat->cells = os_alloc((size_t)want.columns * want.rows * sizeof *heat->cells + 1);
        for (size_t i = 0; i < (size_t)want.columns * want.rows; i++)
            heat->cells[i] = v->theme->nothing;
        heat->view = want;
        heat->painted = want.columns;
        heat->stale = true;
    }
    if (ms >= 0) heat->stale |= history_map_work(heat->map, ms);
    if (heat->light != v->theme->light) heat->stale = true, heat->light = v->theme->light;
    if (heat->stale || heat->painted < want.columns) paint(v, heat, ms == 0);
    v->parts->pending |= !history_map_done(heat->map);
    return heat;
}

static void experts_text(char *out, size_t bytes, const struct view *v,
                         const struct history_view *s, uint32_t row)
{
    const uint32_t experts = v->history->experts;
    const uint32_t first = history_map_first(s, experts, row);
    const uint32_t end = history_map_first(s, experts, row + 1);
    if (end - first > 1) snprintf(out, bytes, "experts %u to %u", first, end - 1);
    else snprintf(out, bytes, "expert %u", first);
}

static void tell(struct view *v, const struct heat *heat, struct rect plot)
{
    const struct history_view *s = &heat->view;
    const uint32_t column = (uint32_t)((uint64_t)(v->mouse.x - plot.x) * s->columns /
                                       (uint64_t)plot.w);
    const uint32_t row = (uint32_t)((uint64_t)(v->mouse.y - plot.y) * s->rows / (uint64_t)plot.h);
    const float load = history_map_load(heat->map, column, row);
    const uint64_t steps = s->last - s->first + 1ull;
    const uint32_t first = s->first + (uint32_t)((column * steps + s->columns - 1) / s->columns);
    const uint32_t end =
        s->first + (uint32_t)(((column + 1) * steps + s->columns - 1) / s->columns);
    char experts[64], span[64];
    experts_text(experts, sizeof experts, v, s, row);
    if (end - first > 1) snprintf(span, sizeof span, "steps %u to %u", first, end - 1);
    else snprintf(span, sizeof span, "step %u", first);
    if (isnan(load)) view_tip(v, "layer %u, %s\nnot traced", v->history->layer[s->layer].number,
                              span);
    else view_tip(v, "layer %u, %s\n%s: %.2f of a fair load%s", v->history->layer[s->layer].number,
                  experts, span, load, load > 0 ? "" : "\nno pick at all");
}

// Numbers of experts beside a map, those that have room.
static void draw_numbers(struct view *v, struct canvas *c, struct rect labels, struct rect plot)
{
    const int line = canvas_line_height(c, FONT_SMALL);
    const uint32_t experts = v->history->experts;
    uint32_t every = 1;
    while ((double)plot.h / experts * every < line) every *= 2;
    for (uint32_t e = 0; e < experts; e += every) {
        const int y = plot.y + (int)(((uint64_t)e * (uint64_t)plot.h + (uint64_t)plot.h / 2) /
                                     experts);
        struct rect box = {labels.x, y - line / 2, labels.w - canvas_px(c, 5), line};
        if (every > 1) box.y = y;
        if (box.y + line > plot.y + plot.h) continue;
        if (box.y < labels.y) box.y = labels.y;
        canvas_print(c, FONT_SMALL, box, ALIGN_RIGHT, v->theme->dim, "%u", e);
    }
}

static void draw_map_alarms(struct view *v, struct canvas *c, uint32_t layer, struct rect plot)
{
    const struct history *h = v->history;
    const struct view_span span = view_span(v);
    for (uint32_t i = 0; i < h->alarms; i++) {
        const struct history_alarm *a = &h->alarm[i];
        if (a->layer != h->layer[layer].number || a->step < span.first || a->step > span.last)
            continue;
        const float x = view_x(v, plot, a->step);
        const float y = (float)plot.y + ((float)a->expert + 0.5f) * (float)plot.h /
                                            (float)h->experts;
        canvas_fill(c, (struct rect){(int)x, plot.y, canvas_px(c, 1), plot.h}, v->theme->alarm);
        canvas_disc(c, x, y, 4 * c->scale, v->theme->alarm);
        if (view_over(v, plot) && fabsf(x - (float)v->mouse.x) < 5 * c->scale)
            view_tip(v, "collapse alarm at step %u:\nlayer %u onto expert %u", a->step, a->layer,
                     a->expert);
    }
}

static void draw_map(struct view *v, struct canvas *c, uint32_t layer, struct rect plot,
                     double ms)
{
    if (plot.w < 2 || plot.h < 2) return;
    const struct heat *heat = heat_of(v, layer, plot, ms);
    canvas_cells(c, plot, heat->cells, heat->view.columns, heat->view.rows);
    const struct rect old = canvas_clip(c, plot);
    const int x = (int)view_x(v, plot, v->step);
    canvas_fill(c, (struct rect){x, plot.y, 1, plot.h}, 0xb0ffffffu);
    if (view_over(v, plot)) tell(v, heat, plot);
    draw_map_alarms(v, c, layer, plot);
    canvas_unclip(c, old);
    view_time(v, plot, heat, false);
}

// ---- beside and below it

static double fair_share(const uint32_t *picks, uint32_t experts)
{
    uint64_t total = 0;
    for (uint32_t e = 0; e < experts; e++) total += picks[e];
    return total ? (double)total / experts : 0;
}

// Loads of the slider's step, a bar for each row of the map.
static void draw_bars(struct view *v, struct canvas *c, struct rect area, struct rect header,
                      struct rect below)
{
    struct experts_part *part = part_of(v);
    const struct history *h = v->history;
    const uint32_t rows = min_u32((uint32_t)area.h, h->experts);
    const struct history_view shape = {.rows = rows};
    const uint32_t at = history_traced(h, v->step);
    if (at == HISTORY_NONE || !history_counts(v->history, at, v->layer, part->picks)) return;
    const double fair = fair_share(part->picks, h->experts);
    const double most = 4;
    canvas_print(c, FONT_SMALL, header, ALIGN_LEFT, v->theme->dim, "load at step %u", h->step[at]);
    for (uint32_t row = 0; row < rows; row++) {
        const uint32_t first = history_map_first(&shape, h->experts, row);
        const uint32_t end = history_map_first(&shape, h->experts, row + 1);
        const int top = area.y + (int)((uint64_t)row * (uint64_t)area.h / rows);
        const int low = area.y + (int)((row + 1ull) * (uint64_t)area.h / rows);
        uint64_t sum = 0;
        for (uint32_t e = first; e < end; e++) sum += part->picks[e];
        const double load = fair > 0 ? (double)sum / fair / (end - first) : 0;
        const int gap = low - top > 6 ? canvas_px(c, 1) : 0;
        struct rect bar = {area.x, top + gap, (int)(fmin(load / most, 1) * area.w),
                           low - top - 2 * gap};
        if (load > 0 && bar.w < 1) bar.w = 1;
        canvas_fill(c, bar, colour_load((float)load));
        if (load <= 0 && many_picks(h, v->layer))
            canvas_fill(c, (struct rect){area.x, bar.y, canvas_px(c, 3), bar.h}, v->theme->dead);
        const struct rect line = {area.x, top, area.w, low - top};
        if (!view_over(v, line)) continue;
        char text[64];
        experts_text(text, sizeof text, v, &shape, row);
        view_tip(v, "%s, step %u\n%llu picks: %.2f of a fair load", text, h->step[at],
                 (unsigned long long)sum, load);
    }
    canvas_fill(c, (struct rect){area.x + (int)(area.w / most), area.y, 1, area.h},
                colour_with(v->theme->text, 140));
    static const char *const marks[] = {"0", "fair", "4\u00d7"};
    static const enum canvas_align aligns[] = {ALIGN_LEFT, ALIGN_CENTER, ALIGN_RIGHT};
    const struct rect boxes[] = {below, {below.x, below.y, below.w / 2, below.h}, below};
    for (int i = 0; i < 3; i++)
        canvas_text(c, FONT_SMALL, boxes[i], aligns[i], v->theme->dim, marks[i]);
}

// Entropy of the load and the largest share, on one scale from 0 to 1.
static void draw_shares(struct view *v, struct canvas *c, struct rect area, int left)
{
    const int number = (int)v->history->layer[v->layer].number;
    const struct history_series *series[] = {history_find(v->history, "entropy", number),
                                             history_find(v->history, "token_entropy", number),
                                             history_find(v->history, "max_share", number)};
    static const char *const names[] = {"entropy of the load", "of a token's router",
                                        "largest share"};
    const int line = canvas_line_height(c, FONT_SMALL);
    struct rect legend = rect_top(&area, line + canvas_px(c, 2));
    rect_left(&area, left);
    const struct chart chart = {area, view_span(v), 0, 1, UNIT_SHARE};
    for (int i = 0; i <= 2; i++)
        canvas_fill(c, (struct rect){area.x, area.y + i * (area.h - 1) / 2, area.w, 1},
                    v->theme->grid);
    if (area.h > 3 * line) {
        const struct rect labels = {area.x - left, area.y, left - canvas_px(c, 5), area.h};
        canvas_text(c, FONT_SMALL, (struct rect){labels.x, labels.y, labels.w, line}, ALIGN_RIGHT,
                    v->theme->dim, "1");
        canvas_text(c, FONT_SMALL,
                    (struct rect){labels.x, labels.y + labels.h - line, labels.w, line},
                    ALIGN_RIGHT, v->theme->dim, "0");
    }
    rect_left(&legend, left);
    char tip[256];
    const uint32_t step = view_step_at(v, area, v->mouse.x);
    size_t told = (size_t)snprintf(tip, sizeof tip, "step %u", step);
    for (int i = 0; i < 3; i++) {
        if (!series[i]) continue;
        chart_curve(v, c, &chart, series[i], v->theme->series[i], false);
        const double value = chart_value(v, series[i], v->step);
        char text[80], number_text[32];
        unit_text(number_text, sizeof number_text, value, UNIT_NUMBER);
        snprintf(text, sizeof text, "%s %s", names[i], number_text);
        const int width = canvas_text(c, FONT_SMALL, legend, ALIGN_LEFT, v->theme->series[i],
                                      text);
        rect_left(&legend, width + canvas_px(c, 14));
        told += (size_t)snprintf(tip + told, sizeof tip - told, "\n%s: %.3f", names[i],
                                 chart_value(v, series[i], step));
    }
    if (view_over(v, area)) view_tip(v, "%s", tip);
    chart_cursor(v, c, &chart);
    view_time(v, area, series, true);
}

// ---- one layer, all layers

static int label_width(struct canvas *c, uint32_t experts)
{
    char text[16];
    snprintf(text, sizeof text, "%u", experts);
    return canvas_text_width(c, FONT_SMALL, text) + canvas_px(c, 6);
}

static void draw_one(struct view *v, struct canvas *c, struct rect in, double ms)
{
    const int left = label_width(c, v->history->experts), gap = canvas_px(c, 10);
    const bool big = in.w >= canvas_px(c, 420) && in.h >= canvas_px(c, 180);
    const int line = canvas_line_height(c, FONT_SMALL);
    struct rect bars = {0};
    if (big) bars = rect_right(&in, in.w / 6), rect_right(&in, gap);
    struct rect below = {0};
    if (in.h >= canvas_px(c, 150)) below = rect_bottom(&in, in.h / 4), rect_bottom(&in, gap / 2);
    const struct rect steps = rect_bottom(&in, line + 2);
    const struct rect head = big ? rect_top(&in, line) : (struct rect){0};
    const struct rect labels = rect_left(&in, left);
    draw_numbers(v, c, labels, in);
    draw_map(v, c, v->layer, in, ms);
    chart_steps(v, c, (struct rect){in.x, steps.y, in.w, steps.h});
    if (head.h)
        canvas_text(c, FONT_SMALL, (struct rect){in.x, head.y, in.w, head.h}, ALIGN_LEFT,
                    v->theme->dim, "experts by steps");
    if (below.h) draw_shares(v, c, below, left);
    if (big)
        draw_bars(v, c, (struct rect){bars.x, in.y, bars.w, in.h},
                  (struct rect){bars.x, head.y, bars.w, head.h},
                  (struct rect){bars.x, steps.y, bars.w, steps.h});
}

static bool is_read(const struct experts_part *part, uint32_t layer)
{
    return part->heat[layer].map && history_map_done(part->heat[layer].map);
}

// Maps that are about twice as wide as high, with few places left empty.
static uint32_t columns_of(uint32_t layers, struct rect in)
{
    uint32_t best = 1;
    double least = INFINITY;
    for (uint32_t columns = 1; columns <= layers; columns++) {
        const uint32_t rows = (layers + columns - 1) / columns;
        const double shape = (double)in.w / columns / ((double)in.h / rows) / 2.2;
        const double cost = fabs(log(shape)) + 2.0 * (rows * columns - layers) / layers;
        if (cost < least) least = cost, best = columns;
    }
    return best;
}

static void draw_layers(struct view *v, struct canvas *c, struct rect in, double ms)
{
    struct experts_part *part = part_of(v);
    const uint32_t layers = min_u32(v->history->layers, MOST_MAPS);
    const int gap = canvas_px(c, 8), line = canvas_line_height(c, FONT_SMALL);
    const uint32_t columns = columns_of(layers, in), rows = (layers + columns - 1) / columns;
    // one map a frame is read further
    for (uint32_t n = 0; n < layers && is_read(part, part->next); n++)
        part->next = (part->next + 1) % layers;
    for (uint32_t i = 0; i < layers; i++) {
        const int x = (int)(i % columns), y = (int)(i / columns);
        const int w = (in.w + gap) / (int)columns, h = (in.h + gap) / (int)rows;
        struct rect cell = {in.x + x * w, in.y + y * h, w - gap, h - gap};
        const struct rect title = rect_top(&cell, line);
        canvas_print(c, FONT_SMALL, title, ALIGN_LEFT,
                     i == v->layer ? v->theme->accent : v->theme->dim, "layer %u",
                     v->history->layer[i].number);
        if (view_click(v, title)) v->layer = i, v->all_layers = false;
        draw_map(v, c, i, cell, ms <= 0 ? 0 : i == part->next ? ms : -1);
    }
    part->next = (part->next + 1) % layers;
}

void panel_experts(struct view *v, struct canvas *c, struct rect area, double ms)
{
    struct rect header;
    struct rect in = view_frame(v, c, area, "Experts over time", &header);
    if (!v->history->layers || !v->history->steps) {
        view_empty(v, c, in, v->history->layers ? "no step traced yet"
                                                : "no routing.trace: a model without experts, or "
                                                  "trace_mib is 0");
        return;
    }
    const int used = header.w < canvas_px(c, 320) ? 0 : view_load_legend(v, c, header);
    header.w -= used + (used ? canvas_px(c, 12) : 0);
    if (!v->all_layers) view_layers(v, c, &header);
    if (v->all_layers) draw_layers(v, c, in, ms);
    else draw_one(v, c, in, ms);
}
