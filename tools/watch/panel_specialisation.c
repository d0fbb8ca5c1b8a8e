// SPDX-License-Identifier: MIT
// Which kinds of text a layer's experts take: of the traced tokens of the steps up to the slider's.
#include <math.h>

#include "tools/watch/watch.h"

enum { STEPS = 48, LABEL = 13 };

struct table { double *pick, *domain, *expert, all; uint32_t steps; }; // [domains][experts] ...

static void count_step(const struct watch *w, const struct history_tokens *tokens,
                       struct table *t)
{
    const struct history *h = w->history;
    const uint32_t k = h->layer[w->layer].top_k, *pick = tokens->pick[w->layer];
    for (uint32_t i = 0; pick && tokens->domain && i < tokens->count * k; i++) {
        const uint32_t domain = tokens->domain[i / k];
        if (domain >= h->domains || pick[i] >= h->experts) continue;
        t->pick[domain * h->experts + pick[i]]++;
        t->domain[domain]++;
        t->expert[pick[i]]++;
        t->all++;
    }
}

static struct table make_table(struct watch *w)
{
    const struct history *h = w->history;
    struct table t = {
        .pick = arena_array(w->arena, (size_t)h->domains * h->experts + 1, sizeof(double)),
        .domain = arena_array(w->arena, h->domains + 1, sizeof(double)),
        .expert = arena_array(w->arena, h->experts + 1, sizeof(double))};
    uint32_t at = history_traced(h, w->step);
    for (; at != HISTORY_NONE && t.steps < STEPS; t.steps++) {
        struct history_tokens tokens;
        at = history_tokens_at(w->history, at);
        if (at == HISTORY_NONE || !history_tokens(w->history, at, &tokens)) break;
        count_step(w, &tokens, &t);
        at--; // below 0: HISTORY_NONE
    }
    return t;
}

// Of the expert about the domain, in bits; and what there is to know.
static double information(const struct history *h, const struct table *t, double *most)
{
    double bits = 0;
    *most = 0;
    for (uint32_t d = 0; d < h->domains; d++) {
        if (t->domain[d] > 0) *most -= t->domain[d] / t->all * log2(t->domain[d] / t->all);
        for (uint32_t e = 0; e < h->experts; e++) {
            const double own = t->pick[d * h->experts + e];
            if (own > 0) bits += own / t->all * log2(own * t->all / (t->domain[d] * t->expert[e]));
        }
    }
    return bits;
}

static void draw_row(struct watch *w, struct box line, const struct table *t, uint32_t domain,
                     uint32_t columns)
{
    const struct history *h = w->history;
    screen_put(&w->screen, box_left(&line, LABEL), w->theme->dim, h->domain_name[domain]);
    const struct box share = box_right(&line, 7);
    screen_print_right(&w->screen, share, w->theme->faint, "%.0f %%",
                       t->all > 0 ? 100 * t->domain[domain] / t->all : 0);
    for (int x = 0; x < line.w; x++) {
        const uint32_t column = (uint32_t)((uint64_t)x * columns / (uint64_t)line.w);
        const uint32_t begin = (uint32_t)((uint64_t)column * h->experts / columns),
                       end = (uint32_t)((uint64_t)(column + 1) * h->experts / columns);
        double own = 0, fair = 0;
        for (uint32_t e = begin; e < end; e++) {
            own += t->pick[domain * h->experts + e];
            fair += t->expert[e] * t->domain[domain] / fmax(t->all, 1);
        }
        const struct box cell = {line.x + x, line.y, 1, line.h};
        screen_fill(&w->screen, cell, !(fair > 0) ? w->theme->nothing
                                      : own > 0   ? colour_load((float)(own / fair))
                                                  : w->theme->idle);
    }
}

void watch_specialisation(struct watch *w, struct box box, double ms)
{
    (void)ms;
    const struct history *h = w->history;
    const bool can = h->domains > 0 && h->layers > 0 && h->trace_tokens > 0;
    const struct table t = can ? make_table(w) : (struct table){0};
    double most = 0;
    const double bits = t.all > 0 ? information(h, &t, &most) : 0;
    box = watch_frame(w, box, "specialisation", !(t.all > 0) ? NULL
        : arena_printf(w->arena, "layer %u  %.2f of %.2f bits  picks over chance, %u steps",
                       h->layer[w->layer].number, bits, most, t.steps));
    if (!(t.all > 0)) {
        watch_empty(w, box, can ? "no traced token yet" : "the trace tells no kinds of text");
        return;
    }
    const uint32_t columns = min_u32((uint32_t)max_u32((uint32_t)box.w, 32) - 20, h->experts);
    const int tall = (int)max_u32(1, min_u32(3, (uint32_t)(box.h - 1) / h->domains));
    for (uint32_t d = 0; d < h->domains && box.h >= tall; d++)
        draw_row(w, box_top(&box, tall), &t, d, columns);
    if (box.h < 1 || box.w < LABEL + 10) return;
    screen_print(&w->screen, (struct box){box.x + LABEL, box.y, box.w - LABEL, 1}, w->theme->faint,
                 "expert 0");
    screen_print_right(&w->screen, (struct box){box.x, box.y, box.w - 7, 1}, w->theme->faint, "%u",
                       h->experts - 1);
}
