// SPDX-License-Identifier: MIT
// A frame: the header with its tabs, the panel, the time slider, and above them what the mouse or a
// key asked for. Sizes down to 320 x 240 leave out what is dispensable.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/chart.h"
#include "tools/view/parts.h"
#include "tools/view/view.h"

static panel_draw *const draws[PANEL_COUNT] = {
    panel_overview, panel_experts, panel_tokens, panel_specialisation, panel_residency, panel_plan,
};
static const char *const titles[PANEL_COUNT + 1] = {
    "Overview", "Experts", "Tokens", "Specialisation", "Residency", "Plan", "All",
};

bool view_pending(const struct view *v) { return v->parts->pending || v->again; }

// ---- what panels share

struct rect view_frame(struct view *v, struct canvas *c, struct rect area, const char *title,
                       struct rect *header)
{
    const int pad = canvas_px(c, 10), line = canvas_line_height(c, FONT_BOLD);
    canvas_round(c, area, 6 * c->scale, v->theme->panel);
    struct rect in = rect_inset(area, pad);
    struct rect top = rect_top(&in, line);
    rect_top(&in, pad / 2);
    const int width = canvas_text(c, FONT_BOLD, top, ALIGN_LEFT, v->theme->text, title);
    rect_left(&top, width + pad);
    if (header) *header = top;
    return in;
}

void view_empty(struct view *v, struct canvas *c, struct rect area, const char *why)
{
    const int line = canvas_line_height(c, FONT_TEXT);
    const char *at = why;
    int lines = 1;
    for (const char *p = why; *p; p++) lines += *p == '\n';
    struct rect box = {area.x, area.y + (area.h - lines * line) / 2, area.w, line};
    if (box.y < area.y) box.y = area.y;
    for (int i = 0; i < lines && box.y + line <= area.y + area.h; i++, box.y += line) {
        const size_t length = strcspn(at, "\n");
        canvas_print(c, FONT_TEXT, box, ALIGN_CENTER, v->theme->dim, "%.*s", (int)length, at);
        at += length + (at[length] == '\n');
    }
}

int view_load_legend(struct view *v, struct canvas *c, struct rect box)
{
    static const char *const marks[] = {"\u2264\u00bc", "fair", "\u22654\u00d7"};
    const int line = canvas_line_height(c, FONT_SMALL), gap = canvas_px(c, 6);
    const int width = canvas_px(c, 88), low = canvas_text_width(c, FONT_SMALL, marks[0]);
    const int high = canvas_text_width(c, FONT_SMALL, marks[2]), none = canvas_px(c, 10);
    const int dead = canvas_text_width(c, FONT_SMALL, "none");
    const int all = dead + none + low + width + high + 5 * gap;
    if (box.w < all) return 0;
    struct rect at = rect_right(&box, all);
    at.y += (at.h - line) / 2, at.h = line;
    struct rect cell = rect_left(&at, none);
    canvas_fill(c, (struct rect){cell.x, cell.y + line / 5, none, line * 3 / 5}, v->theme->dead);
    rect_left(&at, gap / 2);
    canvas_text(c, FONT_SMALL, rect_left(&at, dead + gap), ALIGN_LEFT, v->theme->dim, "none");
    rect_left(&at, gap);
    canvas_text(c, FONT_SMALL, rect_left(&at, low), ALIGN_LEFT, v->theme->dim, marks[0]);
    rect_left(&at, gap / 2);
    const struct rect bar = rect_left(&at, width);
    for (int x = 0; x < bar.w; x++)
        canvas_fill(c, (struct rect){bar.x + x, bar.y + line / 5, 1, line * 3 / 5},
                    colour_map((float)x / (float)(bar.w - 1)));
    canvas_text(c, FONT_SMALL, bar, ALIGN_CENTER, 0xffffffff, marks[1]);
    rect_left(&at, gap / 2);
    canvas_text(c, FONT_SMALL, at, ALIGN_LEFT, v->theme->dim, marks[2]);
    return all;
}

void view_layers(struct view *v, struct canvas *c, struct rect *box)
{
    const struct history *h = v->history;
    const int gap = canvas_px(c, 4), least = canvas_px(c, 22);
    canvas_text(c, FONT_SMALL, rect_left(box, canvas_text_width(c, FONT_SMALL, "layer") + 1),
                ALIGN_LEFT, v->theme->dim, "layer");
    rect_left(box, gap);
    const uint32_t fit = (uint32_t)(box->w / 3 / (least + gap));
    const bool all = fit >= h->layers;
    for (uint32_t i = all ? 0 : v->layer; i < h->layers && i <= (all ? h->layers : v->layer); i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", h->layer[i].number);
        struct rect chip = rect_left(box, least);
        rect_left(box, gap);
        if (i == v->layer) canvas_round(c, chip, 4 * c->scale, v->theme->accent);
        else if (view_over(v, chip)) canvas_round(c, chip, 4 * c->scale, v->theme->edge);
        canvas_text(c, FONT_SMALL, chip, ALIGN_CENTER,
                    i == v->layer ? colour_on(v->theme->accent) : v->theme->dim, text);
        if (view_click(v, chip)) v->layer = i;
    }
    if (!all)
        canvas_print(c, FONT_SMALL, rect_left(box, canvas_px(c, 40)), ALIGN_LEFT, v->theme->dim,
                     "of %u", h->layers);
}

// ---- header

static void draw_tab(struct view *v, struct canvas *c, struct rect *bar, uint32_t panel,
                     bool wide)
{
    char number[8];
    snprintf(number, sizeof number, "%u", (panel + 1) % (PANEL_COUNT + 1));
    const char *text = wide ? titles[panel] : number;
    const int pad = canvas_px(c, wide ? 10 : 7);
    const struct rect tab = rect_left(bar, canvas_text_width(c, FONT_TEXT, text) + 2 * pad);
    const bool own = v->panel == (enum panel)panel;
    if (own)
        canvas_fill(c, (struct rect){tab.x + pad / 2, tab.y + tab.h - canvas_px(c, 3),
                                     tab.w - pad, canvas_px(c, 2)}, v->theme->accent);
    const bool over = view_over(v, tab);
    canvas_text(c, FONT_TEXT, rect_inset(tab, 1), ALIGN_CENTER,
                own || over ? v->theme->text : v->theme->dim, text);
    if (over) view_tip(v, "%s (key %s)", titles[panel], number);
    if (view_click(v, tab)) v->panel = (enum panel)panel;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void draw_button(struct view *v, struct canvas *c, struct rect *bar, const char *text,
                        const char *tip, bool *pressed)
{
    const struct rect own = rect_right(bar, canvas_px(c, 26));
    const bool over = view_over(v, own);
    canvas_text(c, FONT_TEXT, own, ALIGN_CENTER, over ? v->theme->text : v->theme->dim, text);
    if (over) view_tip(v, "%s", tip);
    *pressed = view_click(v, own);
}

static void draw_header(struct view *v, struct canvas *c, struct rect bar)
{
    const struct history *h = v->history;
    const bool wide = bar.w >= canvas_px(c, 880);
    bool pressed;
    rect_left(&bar, canvas_px(c, 8));
    for (uint32_t i = 0; i <= PANEL_COUNT; i++) draw_tab(v, c, &bar, i, wide);
    draw_button(v, c, &bar, "?", "keys (?)", &pressed);
    if (pressed) v->help = true;
    draw_button(v, c, &bar, v->theme->light ? "\u25d1" : "\u25d0", "light or dark (t)", &pressed);
    if (pressed) v->theme = v->theme->light ? theme_dark() : theme_light();
    rect_left(&bar, canvas_px(c, 12));
    char loss[64] = "";
    const struct history_series *series = history_find(h, "loss", -1);
    const double value = chart_value(v, series, v->step);
    if (isfinite(value)) snprintf(loss, sizeof loss, "   loss %.4f", value);
    if (wide)
        canvas_print(c, FONT_TEXT, bar, ALIGN_RIGHT, v->theme->dim, "%s   step %u of %u%s",
                     base_name(v->name ? v->name : h->folder), v->step, h->last_step, loss);
    else canvas_print(c, FONT_TEXT, bar, ALIGN_RIGHT, v->theme->dim, "step %u", v->step);
}

// ---- the slider

static void draw_alarms(struct view *v, struct canvas *c, struct rect track)
{
    const struct history *h = v->history;
    const float size = 6 * c->scale;
    for (uint32_t i = 0; i < h->alarms; i++) {
        const float x = view_x(v, track, h->alarm[i].step);
        if (x < (float)track.x || x > (float)(track.x + track.w)) continue;
        canvas_triangle(c, x, (float)track.y, size, v->theme->alarm);
        if (fabsf(x - (float)v->mouse.x) < size && view_over(v, track))
            view_tip(v, "step %u: the routing of layer %u has collapsed\nonto expert %u",
                     h->alarm[i].step, h->alarm[i].layer, h->alarm[i].expert);
    }
}

static void draw_play(struct view *v, struct canvas *c, struct rect button)
{
    const float x = (float)button.x + (float)button.w / 2, y = (float)button.y +
                                                                 (float)button.h / 2;
    const float s = 5 * c->scale;
    const colour own = view_over(v, button) ? v->theme->accent : v->theme->text;
    if (v->playing) {
        canvas_fill(c, (struct rect){(int)(x - s), (int)(y - s), (int)(s * 0.7f), (int)(2 * s)},
                    own);
        canvas_fill(c, (struct rect){(int)(x + s * 0.3f), (int)(y - s), (int)(s * 0.7f),
                                     (int)(2 * s)}, own);
    } else {
        for (int i = 0; i < (int)(2 * s); i++) {
            const float half = s * (1 - (float)i / (2 * s));
            canvas_fill(c, (struct rect){(int)(x - s * 0.8f) + i, (int)(y - half), 1,
                                         (int)(2 * half) + 1}, own);
        }
    }
    if (view_over(v, button)) view_tip(v, v->playing ? "stop (space)" : "play (space)");
    if (view_click(v, button)) v->playing = !v->playing;
}

static void draw_slider(struct view *v, struct canvas *c, struct rect bar)
{
    const int pad = canvas_px(c, 10);
    canvas_round(c, bar, 6 * c->scale, v->theme->panel);
    rect_left(&bar, pad / 2), rect_right(&bar, pad);
    draw_play(v, c, rect_left(&bar, canvas_px(c, 26)));
    rect_left(&bar, pad / 2);
    struct rect labels = {0};
    if (bar.h >= canvas_px(c, 34)) labels = rect_bottom(&bar, canvas_line_height(c, FONT_SMALL));
    const struct rect track = {bar.x, bar.y + canvas_px(c, 4), bar.w, bar.h - canvas_px(c, 6)};
    const struct history_series *loss = history_find(v->history, "loss", -1);
    double low = INFINITY, high = -INFINITY;
    canvas_fill(c, (struct rect){track.x, track.y + track.h - 1, track.w, 1}, v->theme->edge);
    if (chart_range(v, loss, &low, &high)) {
        const struct chart chart = {track, view_span(v), low, fmax(high, low + 1e-9), UNIT_NUMBER};
        chart_curve(v, c, &chart, loss, v->theme->faint, false);
    }
    draw_alarms(v, c, track);
    const float x = view_x(v, track, v->step);
    canvas_fill(c, (struct rect){(int)x - canvas_px(c, 1), bar.y, canvas_px(c, 2), bar.h},
                v->theme->accent);
    canvas_disc(c, x, (float)(track.y + track.h), 4.5f * c->scale, v->theme->accent);
    if (view_over(v, track) && !v->tip[0])
        view_tip(v, "step %u", view_step_at(v, track, v->mouse.x));
    view_time(v, track, "slider", true);
    chart_steps(v, c, labels);
}

// ---- above all

static void draw_lines(struct view *v, struct canvas *c, struct rect box, const char *text,
                       enum canvas_font font)
{
    const int line = canvas_line_height(c, font);
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, "\n");
        canvas_print(c, font, rect_top(&box, line), ALIGN_LEFT, v->theme->text, "%.*s",
                     (int)length, at);
        at += length + (at[length] == '\n');
    }
}

static void measure(struct canvas *c, const char *text, enum canvas_font font, int *w, int *h)
{
    *w = 0, *h = 0;
    for (const char *at = text; *at;) {
        char line[256];
        const size_t length = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)length, at);
        const int own = canvas_text_width(c, font, line);
        *w = own > *w ? own : *w;
        *h += canvas_line_height(c, font);
        at += length + (at[length] == '\n');
    }
}

static void draw_card(struct view *v, struct canvas *c, struct rect box, const char *text,
                      enum canvas_font font)
{
    const struct rect cut = rect_cut(box, (struct rect){0, 0, c->width, c->height});
    const struct rect old = canvas_clip(c, cut);
    canvas_round(c, cut, 5 * c->scale, v->theme->edge);
    canvas_round(c, rect_inset(cut, 1), 4 * c->scale, v->theme->panel);
    draw_lines(v, c, rect_inset(cut, canvas_px(c, 8)), text, font);
    canvas_unclip(c, old);
}

static void draw_tip(struct view *v, struct canvas *c)
{
    const int pad = canvas_px(c, 8), away = canvas_px(c, 14);
    int w, h;
    measure(c, v->tip, FONT_TEXT, &w, &h);
    struct rect box = {v->mouse.x + away, v->mouse.y + away, w + 2 * pad + 1, h + 2 * pad};
    if (box.x + box.w > c->width) box.x = v->mouse.x - away - box.w;
    if (box.y + box.h > c->height) box.y = v->mouse.y - away - box.h;
    if (box.x < 0) box.x = 0;
    if (box.y < 0) box.y = 0;
    draw_card(v, c, box, v->tip, FONT_TEXT);
}

static void draw_help(struct view *v, struct canvas *c)
{
    static const char text[] =
        "1 \u2013 6, 0      panels, all of them (Tab: the next)\n"
        "\u2190 \u2192          a step (Shift: ten, Ctrl: a hundredth)\n"
        "Home End     first, last; at the last: follow the run\n"
        "space        play\n"
        "\u2191 \u2193, wheel   layer\n"
        "Page Up, Page Down, wheel on tokens: scroll\n"
        "+ \u2212, Ctrl wheel, wheel on curves: zoom; x: whole run\n"
        "a            all layers, or one\n"
        "t            light or dark\n"
        "[ ]          smaller, larger\n"
        "s            save a PNG\n"
        "?            these keys (any key closes)\n"
        "q            quit";
    const int pad = canvas_px(c, 8);
    int w, h;
    const bool small = c->width < canvas_px(c, 520);
    const enum canvas_font font = small ? FONT_MONO_SMALL : FONT_MONO;
    measure(c, text, font, &w, &h);
    w += 2 * pad + 1, h += 2 * pad;
    canvas_fill(c, (struct rect){0, 0, c->width, c->height}, 0x80000000u);
    draw_card(v, c, (struct rect){(c->width - w) / 2, (c->height - h) / 2, w, h}, text, font);
    if (!v->mouse.clicked) return;
    v->help = v->mouse.clicked = false;
    v->again = true;
}

// ---- a frame

static void draw_panel(struct view *v, struct canvas *c, uint32_t panel, struct rect area,
                       double ms)
{
    const struct rect old = canvas_clip(c, area);
    draws[panel](v, c, area, ms);
    canvas_unclip(c, old);
}

// All panels in a grid that is wider than high.
static void draw_all(struct view *v, struct canvas *c, struct rect area, double ms)
{
    const int gap = canvas_px(c, 8);
    const int columns = area.w * 9 > area.h * 10 ? 3 : 2, rows = PANEL_COUNT / columns;
    for (uint32_t i = 0; i < PANEL_COUNT; i++) {
        const int x = (int)i % columns, y = (int)i / columns;
        const struct rect cell = {area.x + x * (area.w + gap) / columns,
                                  area.y + y * (area.h + gap) / rows,
                                  (area.w + gap) / columns - gap, (area.h + gap) / rows - gap};
        draw_panel(v, c, i, cell, ms / PANEL_COUNT);
    }
}

static void settle(struct view *v)
{
    const struct history *h = v->history;
    if (v->follow || v->step > h->last_step || v->step < h->first_step) v->step = h->last_step;
    if (v->follow && v->last && v->last < h->last_step) {
        v->first += h->last_step - v->last;
        v->last = h->last_step;
    }
    if (v->layer >= h->layers) v->layer = h->layers ? h->layers - 1 : 0;
    if (!v->mouse.down) v->held = NULL;
    v->again = v->parts->pending = false;
    v->tip[0] = 0;
}

void view_draw(struct view *v, struct canvas *c, double ms)
{
    const int gap = canvas_px(c, c->width < canvas_px(c, 500) ? 4 : 8);
    struct rect all = {0, 0, c->width, c->height};
    settle(v);
    canvas_fill(c, all, v->theme->page);
    const bool low = c->height < canvas_px(c, 400);
    const struct rect header = rect_top(&all, canvas_px(c, low ? 22 : 32));
    draw_header(v, c, header);
    all = (struct rect){gap, all.y, c->width - 2 * gap, all.h - gap};
    const struct rect slider = rect_bottom(&all, canvas_px(c, low ? 22 : 46));
    rect_bottom(&all, gap);
    if (v->panel == PANEL_ALL) draw_all(v, c, all, ms);
    else draw_panel(v, c, v->panel, all, ms);
    draw_slider(v, c, slider);
    if (v->mouse.wheel && v->panel != PANEL_OVERVIEW) view_layer(v, -v->mouse.wheel);
    if (v->tip[0] && v->mouse.here && !v->help) draw_tip(v, c);
    if (v->note[0] && os_seconds() < v->note_until) {
        const struct rect box = {c->width / 2 - canvas_px(c, 200), c->height - canvas_px(c, 100),
                                 canvas_px(c, 400), canvas_px(c, 30)};
        draw_card(v, c, box, v->note, FONT_TEXT);
    }
    if (v->help) draw_help(v, c);
    v->mouse.clicked = false, v->mouse.wheel = v->pages = 0;
}
