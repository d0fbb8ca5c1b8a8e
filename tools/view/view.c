// SPDX-License-Identifier: MIT
// The viewer's state: the slider, the zoom, what the mouse holds. See view.h.
#include "tools/view/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/parts.h"

static const char *const names[PANEL_COUNT + 1] = {
    "overview", "experts", "tokens", "specialisation", "residency", "plan", "all",
};

const char *panel_name(enum panel panel) { return names[panel]; }

bool panel_find(const char *name, enum panel *out)
{
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0) return *out = (enum panel)i, true;
    return false;
}

bool view_init(struct view *v, struct history *history)
{
    *v = (struct view){.history = history, .theme = theme_dark(), .follow = true,
                       .expert = HISTORY_NONE};
    v->parts = os_alloc(sizeof *v->parts);
    return true;
}

void view_finish(struct view *v)
{
    if (!v->parts) return;
    experts_part_free(&v->parts->experts);
    plan_part_free(&v->parts->plan);
    sample_part_free(&v->parts->sample);
    special_part_free(&v->parts->special);
    tokens_part_free(&v->parts->tokens);
    free(v->parts);
    v->parts = NULL;
}

// ---- time

struct view_span view_span(const struct view *v)
{
    const struct history *h = v->history;
    struct view_span all = {max_u32(h->first_step, 1), max_u32(h->last_step, 1)};
    if (!v->last) return all;
    return (struct view_span){max_u32(v->first, all.first), min_u32(v->last, all.last)};
}

float view_x(const struct view *v, struct rect area, uint32_t step)
{
    const struct view_span s = view_span(v);
    const double share = ((double)step - s.first + 0.5) / (s.last - s.first + 1.0);
    return (float)(area.x + share * area.w);
}

uint32_t view_step_at(const struct view *v, struct rect area, int x)
{
    const struct view_span s = view_span(v);
    const double share = (x - area.x + 0.5) / fmax(area.w, 1);
    const double step = s.first + floor(share * (s.last - s.first + 1.0));
    return step <= s.first ? s.first : step >= s.last ? s.last : (uint32_t)step;
}

// The zoomed span follows the slider.
static void keep_in_span(struct view *v)
{
    if (!v->last) return;
    const uint32_t width = v->last - v->first;
    if (v->step < v->first) v->first = v->step, v->last = v->step + width;
    if (v->step > v->last) v->last = v->step, v->first = v->step - min_u32(width, v->step - 1);
}

void view_go(struct view *v, uint32_t step)
{
    const struct history *h = v->history;
    v->step = max_u32(min_u32(step, h->last_step), h->first_step);
    v->follow = v->step == h->last_step;
    keep_in_span(v);
    v->again = true;
}

void view_layer(struct view *v, int by)
{
    if (!v->history->layers) return;
    const int layer = (int)v->layer + by, most = (int)v->history->layers - 1;
    v->layer = (uint32_t)(layer < 0 ? 0 : layer > most ? most : layer);
    v->again = true;
}

void view_zoom(struct view *v, uint32_t around, double factor)
{
    const struct history *h = v->history;
    const struct view_span s = view_span(v);
    const double all = h->last_step - h->first_step + 1.0, old = s.last - s.first + 1.0;
    const double width = fmax(round(old * factor), fmin(all, 8));
    if (width >= all || !h->last_step) {
        v->first = v->last = 0;
    } else {
        const double first = around - (around - s.first) * width / old;
        const double least = h->first_step, most = h->last_step - width + 1;
        v->first = (uint32_t)fmin(fmax(round(first), least), most);
        v->last = v->first + (uint32_t)width - 1;
    }
    v->again = true;
}

void view_time(struct view *v, struct rect area, const void *key, bool wheel)
{
    const bool over = rect_has(area, v->mouse.x, v->mouse.y) && v->mouse.here;
    if (v->mouse.clicked && over && !v->held) v->held = key;
    // a short click is up again before the frame
    if (v->held == key && (v->mouse.down || v->mouse.clicked)) {
        const uint32_t step = view_step_at(v, area, v->mouse.x);
        if (step != v->step) view_go(v, step);
        v->playing = false;
    }
    if (over && v->mouse.wheel && (wheel || v->mouse.control)) {
        view_zoom(v, view_step_at(v, area, v->mouse.x), pow(0.8, v->mouse.wheel));
        v->mouse.wheel = 0;
    }
}

// ---- the mouse

bool view_over(const struct view *v, struct rect area)
{
    return v->mouse.here && !v->held && !v->help && rect_has(area, v->mouse.x, v->mouse.y);
}

bool view_click(struct view *v, struct rect area)
{
    if (!v->mouse.clicked || !view_over(v, area)) return false;
    v->mouse.clicked = false;
    v->again = true;
    return true;
}

void view_tip(struct view *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(v->tip, sizeof v->tip, format, args);
    va_end(args);
}
