// SPDX-License-Identifier: MIT
// The run in numbers over steps: loss, and a line each for the rest.
#include <math.h>

#include "tools/watch/watch.h"

enum { LABEL = 8 }; // cells of a chart's numbers

static const struct { const char *series, *label; bool bytes; } rows[] = {
    {"bpb", "bits per byte", false},      {"lr", "learning rate", false},
    {"grad_norm", "gradient norm", false}, {"tokens_per_s", "tokens/s", false},
    {"device_bytes", "device memory", true}, {"host_bytes", "host memory", true}};

static void draw_chart(struct watch *w, struct box box)
{
    const struct theme *t = w->theme;
    struct screen *s = &w->screen;
    struct box axis = box_bottom(&box, box.h > 3);
    struct box labels = box_left(&box, LABEL);
    box_left(&axis, LABEL);
    if (box.w < 4 || box.h < 1) return;
    const uint32_t count = 2 * (uint32_t)box.w;
    double low, high, held_low, held_high;
    const double *loss = watch_column(w, "loss", -1, count, false, &low, &high);
    if (!loss || !(high >= low)) {
        watch_empty(w, box, "no step yet");
        return;
    }
    const double *held = watch_column(w, "eval_loss", -1, count, false, &held_low,
                                      &held_high);
    if (held && held_high >= held_low) low = fmin(low, held_low), high = fmax(high, held_high);
    if (high - low < 1e-6) low -= 0.5, high += 0.5;
    for (int y = 0; y < box.h; y += max_u32(1, (uint32_t)(box.h - 1) / 4)) {
        const double value = high - (high - low) * y / fmax(1, box.h - 1);
        screen_print_right(s, (struct box){labels.x, labels.y + y, LABEL - 1, 1}, t->faint, "%.3g",
                           value);
        for (int x = 0; x < box.w; x += 2)
            screen_put(s, (struct box){box.x + x, box.y + y, 1, 1}, t->grid, s->utf8 ? "┈" : ".");
    }
    const double place = watch_span(w).last > watch_span(w).first
        ? (double)(w->step - watch_span(w).first) / (watch_span(w).last - watch_span(w).first) : 1;
    const int cursor = box.x + (int)(fmin(1, fmax(0, place)) * (box.w - 1));
    for (int y = 0; y < box.h; y++) screen_ground(s, cursor, box.y + y, t->edge);
    if (held) screen_curve(s, box, held, count, low, high, t->series[1]);
    screen_curve(s, box, loss, count, low, high, t->series[0]);
    watch_axis(w, axis);
}

void watch_loss(struct watch *w, struct box box, double ms)
{
    (void)ms;
    const double loss = watch_value(w, "loss", -1), held = watch_value(w, "eval_loss", -1);
    const char *note = isnan(held)
        ? arena_printf(w->arena, "%s", watch_number(w, loss, false))
        : arena_printf(w->arena, "%s  held-out %s", watch_number(w, loss, false),
                       watch_number(w, held, false));
    draw_chart(w, watch_frame(w, box, "loss", note));
}

static void draw_row(struct watch *w, struct box line, size_t row)
{
    const struct theme *t = w->theme;
    double low, high;
    screen_put(&w->screen, box_left(&line, 15), t->dim, rows[row].label);
    const double value = watch_value(w, rows[row].series, -1);
    screen_put(&w->screen, box_left(&line, 11), t->text,
               watch_number(w, value, rows[row].bytes));
    if (line.w < 1) return;
    const double *values =
        watch_column(w, rows[row].series, -1, (uint32_t)line.w, true, &low, &high);
    if (values) screen_sparks(&w->screen, line, values, low, high, t->series[row % 3]);
}

void watch_overview(struct watch *w, struct box box, double ms)
{
    const int lines = (int)COUNT_OF(rows) + 1;
    struct box below = box_bottom(&box, box.h > lines + 6 ? lines + 1 : 0);
    watch_loss(w, box, ms);
    if (below.h < 2) return;
    box_top(&below, 1);
    below = watch_frame(w, below, "run", NULL);
    for (size_t i = 0; i < COUNT_OF(rows) && below.h > 0; i++) draw_row(w, box_top(&below, 1), i);
}
