// SPDX-License-Identifier: MIT
// Residency: where each expert is at the slider's step, a cell each, by layer and by domain of a
// hierarchical router; below, how often the stream hit and what of its loading was waited for.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/os.h"
#include "tools/view/chart.h"
#include "tools/view/parts.h"

static const struct { const char *name, *tip; } places[TRACE_PLACES] = {
    [TRACE_NEVER] = {"never touched", "it is what its seed makes of it: no bytes anywhere"},
    [TRACE_DISK] = {"on disk", "in the store alone"},
    [TRACE_HOST] = {"in host memory", "comes without a read"},
    [TRACE_DEVICE] = {"on the device", "ready, and as it is in the store"},
    [TRACE_DIRTY] = {"dirty", "on the device, newer than the store"},
    [TRACE_LOADING] = {"being loaded", "asked for, on its way"},
};

// Blocks of cells: a layer's groups of experts.
struct board {
    uint32_t blocks, cells;    // cells of a block
    int      columns, side;    // blocks beside each other; of a cell
    int      across;           // cells beside each other in a block
    int      label, gap;
};

static int rows_of(const struct board *b) { return ((int)b->cells + b->across - 1) / b->across; }

static bool fits(struct board *b, struct rect area, int side)
{
    b->side = side;
    for (b->columns = 1; b->columns <= (int)b->blocks; b->columns++) {
        const int width = (area.w + b->gap) / b->columns - b->gap;
        const int rows = ((int)b->blocks + b->columns - 1) / b->columns;
        b->across = width / side;
        if (b->across < 1) return false;
        if (b->across > (int)b->cells) b->across = (int)b->cells;
        if (rows * (rows_of(b) * side + b->label + b->gap) <= area.h) return true;
    }
    return false;
}

// The largest cells that all fit.
static struct board board_of(const struct history *h, struct canvas *c, struct rect area)
{
    const uint32_t groups = h->layer[0].groups;
    struct board b = {.blocks = h->layers * groups, .cells = h->experts / groups,
                      .label = canvas_line_height(c, FONT_SMALL) + canvas_px(c, 2),
                      .gap = canvas_px(c, 10)};
    int side = canvas_px(c, 34);
    while (side > 1 && !fits(&b, area, side)) side--;
    if (side > 1) return b;
    b.label = 0, b.gap = 1; // many: no room for names
    if (!fits(&b, area, 1)) b.columns = 1, b.across = area.w, b.side = 1;
    return b;
}

static struct rect block_of(const struct board *b, struct rect area, uint32_t block)
{
    const int column = (int)block % b->columns, row = (int)block / b->columns;
    const int height = rows_of(b) * b->side;
    return (struct rect){area.x + column * (area.w + b->gap) / b->columns,
                         area.y + row * (height + b->label + b->gap), b->across * b->side,
                         height + b->label};
}

static void draw_block(struct view *v, struct canvas *c, const struct board *b, struct rect at,
                       const uint8_t *place, uint32_t layer, uint32_t group)
{
    const struct history *h = v->history;
    const int gap = b->side >= 4 ? 1 : 0;
    const struct rect name = rect_top(&at, b->label);
    if (h->layer[layer].groups > 1)
        canvas_print(c, FONT_SMALL, name, ALIGN_LEFT, v->theme->dim, "layer %u, domain %u",
                     h->layer[layer].number, group);
    else if (b->label)
        canvas_print(c, FONT_SMALL, name, ALIGN_LEFT, v->theme->dim, "layer %u",
                     h->layer[layer].number);
    for (uint32_t i = 0; i < b->cells; i++) {
        const struct rect cell = {at.x + (int)i % b->across * b->side,
                                  at.y + (int)i / b->across * b->side, b->side - gap,
                                  b->side - gap};
        canvas_fill(c, cell, v->theme->place[place[i]]);
    }
    if (!view_over(v, at)) return;
    const int x = (v->mouse.x - at.x) / b->side, y = (v->mouse.y - at.y) / b->side;
    const uint32_t i = (uint32_t)(y * b->across + x);
    if (x >= b->across || i >= b->cells) return;
    canvas_frame(c, (struct rect){at.x + x * b->side - 1, at.y + y * b->side - 1, b->side + 1,
                                  b->side + 1}, v->theme->text);
    view_tip(v, "layer %u, expert %u: %s\n%s", h->layer[layer].number, group * b->cells + i,
             places[place[i]].name, places[place[i]].tip);
}

// The colours, each with how many experts are there.
static void draw_legend(struct view *v, struct canvas *c, struct rect bar,
                        const uint32_t counts[TRACE_PLACES])
{
    const int square = canvas_px(c, 10), gap = canvas_px(c, 5);
    for (uint32_t i = 0; i < TRACE_PLACES; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %u", places[i].name, counts[i]);
        const int width = canvas_text_width(c, FONT_SMALL, text);
        if (bar.w < square + gap + width) return;
        const struct rect own = rect_left(&bar, square);
        const struct rect mark = {own.x, own.y + (own.h - square) / 2, square, square};
        canvas_fill(c, mark, v->theme->place[i]);
        if (i == TRACE_NEVER) canvas_frame(c, mark, v->theme->faint);
        rect_left(&bar, gap);
        const struct rect name = rect_left(&bar, width);
        canvas_text(c, FONT_SMALL, name, ALIGN_LEFT, v->theme->dim, text);
        if (view_over(v, name)) view_tip(v, "%s", places[i].tip);
        rect_left(&bar, 3 * gap);
    }
}

static void draw_strip(struct view *v, struct canvas *c, struct rect area, const char *name,
                       const char *label, enum unit unit, colour own, const void *key)
{
    const struct history_series *series = history_find(v->history, name, -1);
    double low = 0, high = unit == UNIT_SHARE ? 1 : -INFINITY;
    char text[64];
    const int line = canvas_line_height(c, FONT_SMALL);
    const struct rect title = rect_top(&area, line + canvas_px(c, 2));
    unit_text(text, sizeof text, chart_value(v, series, v->step), unit);
    const struct rect left = {title.x, title.y, title.w - canvas_px(c, 70), title.h};
    canvas_text(c, FONT_SMALL, left, ALIGN_LEFT, v->theme->dim, label);
    canvas_text(c, FONT_SMALL, title, ALIGN_RIGHT, own, text);
    if (!chart_range(v, series, &low, &high)) return;
    const struct chart chart = chart_axes(v, c, area, low, high, unit, false);
    chart_curve(v, c, &chart, series, own, true);
    chart_cursor(v, c, &chart);
    if (view_over(v, chart.plot)) {
        const uint32_t step = view_step_at(v, chart.plot, v->mouse.x);
        unit_text(text, sizeof text, chart_value(v, series, step), unit);
        view_tip(v, "step %u\n%s: %s", step, label, text);
    }
    view_time(v, chart.plot, key, true);
}

static void draw_strips(struct view *v, struct canvas *c, struct rect area)
{
    static const struct { const char *name, *label; enum unit unit; } strips[] = {
        {"stream.hit_rate", "hit rate", UNIT_SHARE},
        {"stream.wait_ms", "wait that compute did not hide, ms", UNIT_NUMBER},
        {"stream.bytes", "read a step", UNIT_BYTES},
    };
    const int gap = canvas_px(c, 16), count = area.w >= canvas_px(c, 700) ? 3 : 2;
    for (int i = 0; i < count; i++) {
        const int left = i * (area.w + gap) / count, right = (i + 1) * (area.w + gap) / count - gap;
        draw_strip(v, c, (struct rect){area.x + left, area.y, right - left, area.h},
                   strips[i].name, strips[i].label, strips[i].unit, v->theme->series[i],
                   &strips[i]);
    }
}

void panel_residency(struct view *v, struct canvas *c, struct rect area, double ms)
{
    (void)ms;
    struct rect header;
    struct history *h = v->history;
    struct rect in = view_frame(v, c, area, "Residency", &header);
    uint32_t at = 0, counts[TRACE_PLACES] = {0};
    while (at + 1 < h->places && h->place_step[at + 1] <= v->step) at++;
    if (!h->places || !h->layers) {
        view_empty(v, c, in, "all experts stay where they are:\nthis run does not stream them");
        return;
    }
    if (in.h >= canvas_px(c, 220)) {
        draw_strips(v, c, rect_bottom(&in, in.h / 5));
        rect_bottom(&in, canvas_px(c, 10));
    }
    const struct rect legend = rect_bottom(&in, canvas_line_height(c, FONT_SMALL));
    rect_bottom(&in, canvas_px(c, 8));
    canvas_print(c, FONT_SMALL, header, ALIGN_RIGHT, v->theme->dim,
                 "%u experts in %u layer%s, behind step %u", h->experts, h->layers,
                 h->layers == 1 ? "" : "s", h->place_step[at]);
    uint8_t *place = os_alloc(h->experts + 1ull);
    const struct board board = board_of(h, c, in);
    const struct rect old = canvas_clip(c, in);
    for (uint32_t l = 0; l < h->layers; l++) {
        const uint32_t groups = h->layer[0].groups;
        if (!history_places(h, at, l, place)) continue;
        for (uint32_t e = 0; e < h->experts; e++) counts[place[e]]++;
        for (uint32_t g = 0; g < groups; g++)
            draw_block(v, c, &board, block_of(&board, in, l * groups + g),
                       place + (size_t)g * board.cells, l, g);
    }
    canvas_unclip(c, old);
    draw_legend(v, c, legend, counts);
    free(place);
}
