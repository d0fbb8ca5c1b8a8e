// SPDX-License-Identifier: MIT
// Overview: how the run goes. Curves of metrics.jsonl over steps, those that it has.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/view/chart.h"

enum { CURVES = 3 };

static const struct card {
    const char *title;
    enum unit   unit;
    bool        from_zero, smooth;
    struct { const char *name, *label; bool points; } curve[CURVES];
} cards[] = {
    {"Loss, nats a token", UNIT_NUMBER, false, true,
     {{"loss", "training", false}, {"eval_loss", "held out", true},
      {"average_eval_loss", "held out, mean weights", true}}},
    {"Bits per byte, held out", UNIT_NUMBER, false, false,
     {{"bpb", "bits per byte", true}, {"average_bpb", "mean weights", true}}},
    {"Learning rate", UNIT_NUMBER, true, false, {{"lr", "learning rate", false}}},
    {"Gradient norm", UNIT_NUMBER, true, true, {{"grad_norm", "gradient norm", false}}},
    {"Tokens a second", UNIT_RATE, true, true, {{"tokens_per_s", "tokens a second", false}}},
    {"Memory", UNIT_BYTES, true, false,
     {{"device_bytes", "device", false}, {"host_bytes", "host", false}}},
};

static const struct history_series *curve_of(const struct view *v, const struct card *card, int i)
{
    return card->curve[i].name ? history_find(v->history, card->curve[i].name, -1) : NULL;
}

// The values at the slider's step, to the right of the title.
static void draw_values(struct view *v, struct canvas *c, const struct card *card,
                        struct rect header)
{
    const int gap = canvas_px(c, 10), dot = canvas_px(c, 4);
    for (int i = CURVES - 1; i >= 0; i--) {
        const struct history_series *series = curve_of(v, card, i);
        const double value = chart_value(v, series, v->step);
        char text[64];
        if (!series || !isfinite(value)) continue;
        unit_text(text, sizeof text, value, card->unit);
        const int width = canvas_text_width(c, FONT_BOLD, text) + 1;
        if (header.w < width + dot + gap) return;
        canvas_text(c, FONT_BOLD, rect_right(&header, width), ALIGN_RIGHT,
                    v->theme->series[i], text);
        const struct rect mark = rect_right(&header, dot + gap);
        canvas_disc(c, (float)(mark.x + gap / 2 + dot / 2), (float)(mark.y + mark.h / 2),
                    (float)dot * 0.8f, v->theme->series[i]);
    }
}

// The names of the lines, where there are several; taken from the top of what is left for them.
static void draw_names(struct view *v, struct canvas *c, const struct card *card, struct rect *in)
{
    const int dot = canvas_px(c, 4), gap = canvas_px(c, 6),
              line = canvas_line_height(c, FONT_SMALL);
    int lines = 0;
    for (int i = 0; i < CURVES; i++) lines += curve_of(v, card, i) != NULL;
    if (lines < 2 || in->h < 4 * line) return;
    struct rect row = rect_top(in, line + canvas_px(c, 2));
    for (int i = 0; i < CURVES; i++) {
        if (!curve_of(v, card, i)) continue;
        const int width = canvas_text_width(c, FONT_SMALL, card->curve[i].label) + 1;
        if (row.w < 2 * dot + gap + width) return;
        const struct rect mark = rect_left(&row, 2 * dot);
        canvas_disc(c, (float)(mark.x + dot), (float)(mark.y + mark.h / 2), (float)dot * 0.8f,
                    v->theme->series[i]);
        rect_left(&row, gap / 2);
        canvas_text(c, FONT_SMALL, rect_left(&row, width), ALIGN_LEFT, v->theme->dim,
                    card->curve[i].label);
        rect_left(&row, 2 * gap);
    }
}

static void tell(struct view *v, const struct card *card, uint32_t step)
{
    char text[512];
    size_t at = (size_t)snprintf(text, sizeof text, "step %u", step);
    for (int i = 0; i < CURVES; i++) {
        const struct history_series *series = curve_of(v, card, i);
        const double value = chart_value(v, series, step);
        char number[64];
        if (!isfinite(value)) continue;
        unit_text(number, sizeof number, value, card->unit);
        at += (size_t)snprintf(text + at, sizeof text - at, "\n%s: %s", card->curve[i].label,
                               number);
    }
    view_tip(v, "%s", text);
}

static void draw_card(struct view *v, struct canvas *c, const struct card *card, struct rect area)
{
    double low = card->from_zero ? 0 : INFINITY, high = -INFINITY;
    bool some = false;
    struct rect header;
    struct rect in = view_frame(v, c, area, card->title, &header);
    for (int i = 0; i < CURVES; i++) some |= chart_range(v, curve_of(v, card, i), &low, &high);
    if (!some) {
        view_empty(v, c, in, "nothing measured yet");
        return;
    }
    draw_names(v, c, card, &in);
    const struct chart chart = chart_axes(v, c, in, low, high, card->unit,
                                          in.h >= canvas_px(c, 90));
    for (int i = 0; i < CURVES; i++) {
        const struct history_series *series = curve_of(v, card, i);
        if (card->curve[i].points) chart_points(v, c, &chart, series, v->theme->series[i]);
        else chart_curve(v, c, &chart, series, v->theme->series[i], card->smooth);
    }
    draw_values(v, c, card, header);
    chart_cursor(v, c, &chart);
    if (view_over(v, chart.plot)) tell(v, card, view_step_at(v, chart.plot, v->mouse.x));
    view_time(v, chart.plot, card, true);
}

void panel_overview(struct view *v, struct canvas *c, struct rect area, double ms)
{
    (void)ms;
    const int gap = canvas_px(c, 8), least_w = canvas_px(c, 260), least_h = canvas_px(c, 110);
    const int most = (int)COUNT_OF(cards);
    if (!v->history->rows) {
        view_empty(v, c, view_frame(v, c, area, "Overview", NULL),
                   "no line in metrics.jsonl yet");
        return;
    }
    int columns = (area.w + gap) / (least_w + gap), rows = (area.h + gap) / (least_h + gap);
    columns = columns < 1 ? 1 : columns > 3 ? 3 : columns;
    rows = rows < 1 ? 1 : rows;
    if (rows > (most + columns - 1) / columns) rows = (most + columns - 1) / columns;
    for (int i = 0; i < most && i < columns * rows; i++) {
        const int x = i % columns, y = i / columns;
        const int left = x * (area.w + gap) / columns, top = y * (area.h + gap) / rows;
        const int right = (x + 1) * (area.w + gap) / columns - gap;
        const int low = (y + 1) * (area.h + gap) / rows - gap;
        draw_card(v, c, &cards[i],
                  (struct rect){area.x + left, area.y + top, right - left, low - top});
    }
}
