// SPDX-License-Identifier: MIT
// Where experts are that come and go, a pixel or more each; what was read and waited for.
#include <math.h>

#include "tools/watch/watch.h"

enum { LABEL = 9 };

static const char *const names[TRACE_PLACES] = {"never touched", "on disk", "in host memory",
                                                "on the device", "changed there", "loading"};

// The last step told at or before the slider's.
static uint32_t told_at(const struct history *h, uint32_t step)
{
    uint32_t low = 0, high = h->places;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (h->place_step[middle] <= step) low = middle + 1;
        else high = middle;
    }
    return low ? low - 1 : HISTORY_NONE;
}

static void draw_legend(struct watch *w, struct box box, const uint32_t *count)
{
    const int wide = box.w / 3 > 28 ? 28 : box.w / 3;
    for (int p = 0; p < TRACE_PLACES && wide > 8; p++) {
        struct box line = {box.x + p % 3 * wide, box.y + p / 3, wide - 1, p / 3 < box.h};
        if (!line.h) return;
        screen_fill(&w->screen, box_left(&line, 2), w->theme->place[p]);
        box_left(&line, 1);
        box_left(&line, screen_print(&w->screen, line, w->theme->text, "%u ", count[p]));
        screen_put(&w->screen, line, w->theme->dim, names[p]);
    }
}

static void draw_stream(struct watch *w, struct box line, uint32_t at)
{
    const struct history *h = w->history;
    const struct trace_stream *s = &h->stream[at];
    const double asked = (double)(s->hits + s->misses);
    const struct watch_span span = watch_span(w);
    box_left(&line, screen_print(&w->screen, line, w->theme->dim, "hits ") );
    box_left(&line, screen_print(&w->screen, line, w->theme->text, "%.0f %%  ",
                                 asked > 0 ? 100 * (double)s->hits / asked : 0));
    box_left(&line, screen_print(&w->screen, line, w->theme->dim, "read %s  written %s  wait ",
                                 watch_number(w, (double)s->bytes, true),
                                 watch_number(w, (double)s->written, true)));
    box_left(&line, screen_print(&w->screen, line, w->theme->text, "%.1f ms",
                                 1e-3 * (double)s->wait_us) + 2);
    if (line.w < 8) return;
    double *rate = arena_array(w->arena, (size_t)line.w + 1, sizeof *rate);
    for (int x = 0; x < line.w; x++) {
        const uint32_t step = span.first + (uint32_t)((uint64_t)x * (span.last - span.first + 1) /
                                                      (uint64_t)line.w);
        const uint32_t i = told_at(h, step);
        const double all = i == HISTORY_NONE ? 0
                                             : (double)(h->stream[i].hits + h->stream[i].misses);
        rate[x] = all > 0 ? (double)h->stream[i].hits / all : NAN;
    }
    screen_sparks(&w->screen, line, rate, 0, 1, w->theme->series[2]);
}

// A layer's experts in lines of pixels, or a cell each where there is room.
static void draw_layer(struct watch *w, struct box box, uint32_t layer, const uint8_t *place,
                       bool cells)
{
    const struct history *h = w->history;
    screen_print(&w->screen, (struct box){box.x, box.y, LABEL, 1},
                 layer == w->layer ? w->theme->accent : w->theme->faint, "layer %u",
                 h->layer[layer].number);
    box_left(&box, LABEL);
    const uint32_t most = (uint32_t)box.w / (cells ? 2 : 1);
    if (!most) return;
    const uint32_t wide = ceil_div(h->experts, ceil_div(h->experts, most)); // even lines
    for (uint32_t e = 0; e < h->experts; e++) {
        const int x = (int)(e % wide), y = (int)(e / wide);
        const colour own = w->theme->place[place[e] < TRACE_PLACES ? place[e] : 0];
        if (y >= box.h * (cells ? 1 : 2)) return;
        if (!cells) screen_pixel(&w->screen, box.x + x, 2 * box.y + y, own);
        else { // a gap of half a cell between
            screen_ground(&w->screen, box.x + 2 * x, box.y + y, own);
            if (w->screen.utf8)
                screen_put(&w->screen, (struct box){box.x + 2 * x + 1, box.y + y, 1, 1}, own, "▌");
        }
    }
}

static void draw_cells(struct watch *w, struct box box, uint32_t at, uint32_t *count)
{
    const struct history *h = w->history;
    uint8_t *place = arena_array(w->arena, h->experts + 1, 1);
    const uint32_t line = (uint32_t)max_u32((uint32_t)box.w, LABEL + 3) - LABEL;
    const uint32_t tall = ceil_div(h->experts, line / 2);
    const bool cells = tall * h->layers <= (uint32_t)box.h;
    const uint32_t lines = cells ? tall : ceil_div(ceil_div(h->experts, line), 2);
    for (uint32_t l = 0; l < h->layers; l++) {
        if (!history_places(w->history, at, l, place)) continue;
        for (uint32_t e = 0; e < h->experts; e++) count[place[e] % TRACE_PLACES]++;
        if (box.h >= (int)lines) draw_layer(w, box_top(&box, (int)lines), l, place, cells);
    }
}

void watch_residency(struct watch *w, struct box box, double ms)
{
    (void)ms;
    const struct history *h = w->history;
    const uint32_t at = told_at(h, w->step);
    uint32_t count[TRACE_PLACES] = {0};
    box = watch_frame(w, box, "residency", at == HISTORY_NONE ? NULL
        : arena_printf(w->arena, "where experts are at step %u", h->place_step[at]));
    if (at == HISTORY_NONE) {
        watch_empty(w, box, "all experts stay on the device (no residency.trace)");
        return;
    }
    struct box stream = box_bottom(&box, box.h > 5);
    struct box legend = box_bottom(&box, box.h > 7 ? 2 : 0);
    if (legend.h) box_bottom(&box, box.h > 8);
    draw_cells(w, box, at, count);
    if (legend.h) draw_legend(w, legend, count);
    if (stream.h) draw_stream(w, stream, at);
}
