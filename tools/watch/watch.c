// SPDX-License-Identifier: MIT
// The frame of vkmoe watch: what is looked at, keys, layout, the time slider. The panels have files
// of their own.
#include "tools/watch/watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

enum { ALL_COLUMNS = 90, ALL_ROWS = 26 }; // from which on panels stand side by side
#define PLAY_SECONDS 8.0                  // for a whole run, at most four steps a frame

void watch_init(struct watch *w, struct history *history)
{
    *w = (struct watch){.history = history, .theme = theme_dark(), .follow = true};
    w->map = history_map_create(history);
    w->arena = arena_create("frame");
}

void watch_finish(struct watch *w)
{
    history_map_destroy(&w->map);
    history_close(&w->history);
    screen_finish(&w->screen);
    arena_destroy(&w->arena);
}

bool watch_poll(struct watch *w, double ms)
{
    const bool came = history_poll(w->history, ms);
    if (w->follow || w->step == 0) w->step = w->history->last_step;
    if (w->history->layers) w->layer = min_u32(w->layer, w->history->layers - 1);
    return came;
}

// ---- what is looked at

struct watch_span watch_span(const struct watch *w)
{
    const struct history *h = w->history;
    if (w->last) return (struct watch_span){w->first, min_u32(w->last, h->last_step)};
    return (struct watch_span){max_u32(h->first_step, 1), max_u32(h->last_step, 1)};
}

void watch_go(struct watch *w, uint32_t step)
{
    const struct history *h = w->history;
    w->step = max_u32(h->first_step, min_u32(step, h->last_step));
    w->follow = w->step == h->last_step;
    const struct watch_span span = watch_span(w);
    if (!w->last || (w->step >= span.first && w->step <= span.last)) return;
    const uint32_t wide = w->last - w->first; // the span goes along
    w->first = w->step > wide / 2 ? w->step - wide / 2 : 1;
    w->last = w->first + wide;
}

static void zoom(struct watch *w, double factor)
{
    const struct watch_span span = watch_span(w);
    const double wide = fmax(8, (span.last - span.first) * factor);
    const uint32_t all = w->history->last_step;
    if (wide >= all - w->history->first_step) {
        w->first = w->last = 0;
        return;
    }
    const double left = fmax(w->history->first_step, w->step - wide / 2);
    w->first = (uint32_t)fmin(left, fmax(1, all - wide));
    w->last = min_u32(all, w->first + (uint32_t)wide);
}

static void step_by(struct watch *w, int by)
{
    const struct history *h = w->history;
    w->playing = false;
    if (w->step > h->last_step) w->step = h->last_step; // a run that was begun anew
    if (by < 0) watch_go(w, w->step > (uint32_t)-by ? w->step - (uint32_t)-by : 1);
    else watch_go(w, w->step + min_u32((uint32_t)by, h->last_step - w->step));
}

static void layer_by(struct watch *w, int by)
{
    const uint32_t count = w->history->layers;
    if (count) w->layer = (w->layer + count + (uint32_t)by) % count;
}

static void play(struct watch *w)
{
    w->playing = !w->playing;
    w->play_at = os_seconds();
    if (w->playing && w->step >= w->history->last_step) watch_go(w, w->history->first_step);
}

static void save(struct watch *w)
{
    char path[64];
    snprintf(path, sizeof path, "vkmoe-watch-%u.ans", w->step);
    FILE *file = fopen(path, "wb");
    w->screen.anew = true; // all of it
    screen_text_of(&w->screen);
    const bool ok = file && fwrite(w->screen.out.data, 1, w->screen.out.count, file) ==
                                w->screen.out.count;
    if (file) fclose(file);
    w->screen.anew = true;
    snprintf(w->note, sizeof w->note, ok ? "saved as %s" : "%s: cannot write", path);
    w->note_until = os_seconds() + 3;
}

static bool key_of_time(struct watch *w, int key)
{
    const uint32_t wide = watch_span(w).last - watch_span(w).first;
    const int far = (int)max_u32(10, wide / 20);
    switch (key) {
    case KEY_LEFT: step_by(w, -1); break;
    case KEY_RIGHT: step_by(w, 1); break;
    case KEY_SHIFT_LEFT: case KEY_PAGE_UP: step_by(w, -far); break;
    case KEY_SHIFT_RIGHT: case KEY_PAGE_DOWN: step_by(w, far); break;
    case KEY_HOME: watch_go(w, w->history->first_step); break;
    case KEY_END: watch_go(w, w->history->last_step); break;
    case '+': case '=': zoom(w, 0.7); break;
    case '-': zoom(w, 1 / 0.7); break;
    case 'x': w->first = w->last = 0; break;
    case ' ': play(w); break;
    default: return false;
    }
    return true;
}

bool watch_key(struct watch *w, int key)
{
    if (key == 'q' || key == KEY_CLOSED) return false;
    if (w->help) {
        w->help = key == KEY_RESIZED;
        return true;
    }
    if (key >= '0' && key < '0' + WATCH_PANELS) w->panel = (enum watch_panel)(key - '0');
    else if (!key_of_time(w, key))
        switch (key) {
        case KEY_TAB: w->panel = (w->panel + 1) % WATCH_PANELS; break;
        case KEY_SHIFT_TAB: w->panel = (w->panel + WATCH_PANELS - 1) % WATCH_PANELS; break;
        case KEY_UP: layer_by(w, -1); break;
        case KEY_DOWN: layer_by(w, 1); break;
        case 'a': w->all_layers = !w->all_layers; break;
        case 'c': w->choice++; break;
        case ',': w->token -= w->token > 0; break;
        case '.': w->token++; break;
        case 't': w->theme = w->theme->light ? theme_dark() : theme_light(); break;
        case 's': save(w); break;
        case 'h': case '/': case '?': w->help = true; break;
        default: break;
        }
    return true;
}

// ---- numbers

double watch_value(const struct watch *w, const char *name, int layer)
{
    const struct history_series *series = history_find(w->history, name, layer);
    uint32_t row = history_row(w->history, w->step);
    if (!series || row == HISTORY_NONE) return NAN;
    while (row > 0 && isnan(series->value[row])) row--; // an evaluation is not of every step
    return series->value[row];
}

double *watch_column(struct watch *w, const char *name, int layer, uint32_t count, bool held,
                     double *low, double *high)
{
    const struct history *h = w->history;
    const struct history_series *series = history_find(h, name, layer);
    const struct watch_span span = watch_span(w);
    const double wide = (double)(span.last - span.first) + 1;
    if (!series) return NULL;
    double *out = arena_array(w->arena, count + 1, sizeof *out), before = NAN;
    // points stand at both ends of an axis, bars fill it
    const double each = wide > 1 && !held && wide < count ? (count - 1) / (wide - 1) : count / wide;
    uint32_t row = 0;
    *low = INFINITY, *high = -INFINITY;
    while (row < h->rows && h->row_step[row] < span.first) row++;
    for (uint32_t c = 0; c < count; c++) {
        double sum = 0;
        uint32_t summed = 0;
        const double end = span.first + (c + 1) / each;
        for (; row < h->rows && h->row_step[row] < end && h->row_step[row] <= span.last; row++)
            if (!isnan(series->value[row])) sum += series->value[row], summed++;
        out[c] = summed ? sum / summed : held ? before : NAN;
        if (isnan(out[c])) continue;
        before = out[c];
        *low = fmin(*low, out[c]), *high = fmax(*high, out[c]);
    }
    return out;
}

const char *watch_number(struct watch *w, double value, bool bytes)
{
    static const char *const two[] = {"B", "KiB", "MiB", "GiB", "TiB"},
                      *const ten[] = {"", "k", "M", "G", "T"};
    const double unit = bytes ? 1024 : 1000;
    int power = 0;
    double own = fabs(value);
    if (isnan(value)) return "-";
    if (own > 0 && own < 0.001) return arena_printf(w->arena, "%.2e", value);
    while (own >= (bytes ? unit : 1e5) && power < 4) own /= unit, power++;
    while (!bytes && power && own >= unit && power < 4) own /= unit, power++;
    const int digits = own >= 100 || own == floor(own) ? 0 : own >= 10 ? 1 : own >= 1 ? 3 : 4;
    return arena_printf(w->arena, "%s%.*f%s%s", value < 0 ? "-" : "", power || bytes
                        ? (digits ? (digits > 1 ? 1 : digits) : 0) : digits, own,
                        bytes || power ? " " : "", bytes ? two[power] : ten[power]);
}

// ---- parts of the frame

struct box watch_frame(struct watch *w, struct box box, const char *title, const char *note)
{
    const struct theme *t = w->theme;
    struct screen *s = &w->screen;
    screen_fill(s, box, t->panel);
    struct box line = box_top(&box, 1);
    screen_ground(s, line.x, line.y, t->accent);
    line.x += 2, line.w -= 3;
    const int wide = screen_put(s, line, t->text, title);
    screen_bold(s, (struct box){line.x, line.y, wide, 1});
    line.x += wide + 2, line.w -= wide + 2;
    if (note && line.w > 0) screen_put(s, line, t->dim, note);
    return (struct box){box.x + 2, box.y, box.w - 4, box.h};
}

void watch_empty(struct watch *w, struct box box, const char *why)
{
    const int length = (int)strlen(why);
    struct box line = {box.x, box.y + box.h / 2, box.w, box.h > 0};
    if (length < box.w) line.x += (box.w - length) / 2, line.w -= (box.w - length) / 2;
    screen_put(&w->screen, line, w->theme->dim, why);
}

static int place_of(const struct watch *w, int cells)
{
    const struct watch_span span = watch_span(w);
    const uint32_t step = max_u32(span.first, min_u32(w->step, span.last));
    const double share = (step - span.first + 0.5) / ((double)(span.last - span.first) + 1);
    return (int)fmin(cells - 1, share * cells);
}

void watch_marker(struct watch *w, struct box line)
{
    line.x += place_of(w, line.w), line.w = 1;
    if (line.h > 0) screen_put(&w->screen, line, w->theme->accent, w->screen.utf8 ? "▼" : "v");
}

void watch_axis(struct watch *w, struct box line)
{
    const struct watch_span span = watch_span(w);
    const int left = screen_print(&w->screen, line, w->theme->faint, "step %u", span.first);
    line.x += left + 2, line.w -= left + 2;
    if (line.w > 0) screen_print_right(&w->screen, line, w->theme->faint, "%u", span.last);
}

static void draw_head(struct watch *w, struct box line)
{
    const struct theme *t = w->theme;
    struct screen *s = &w->screen;
    screen_fill(s, line, t->panel);
    line.x++, line.w -= 2;
    const char *folder = w->history->folder, *name = strrchr(folder, '/');
    struct box at = box_left(&line, screen_put(s, line, t->accent, "vkmoe watch") + 2);
    screen_bold(s, at);
    box_left(&line, screen_put(s, line, t->text, name && name[1] ? name + 1 : folder) + 3);
    const struct { const char *name, *label; } all[] = {
        {"loss", "loss"}, {"bpb", "bits/byte"}, {"tokens_per_s", "tokens/s"}};
    const char *state = w->playing ? "playing" : w->follow ? "following" : "held";
    const char *sign = !s->utf8 ? "" : w->playing ? "▶ " : w->follow ? "● " : "◼ ";
    box_right(&line, 0);
    struct box right = box_right(&line, (int)strlen(state) + 3);
    screen_print_right(s, right, w->follow ? t->series[2] : t->dim, "%s%s", sign, state);
    box_left(&line, screen_print(s, line, t->text, "step %u", w->step) + 3);
    for (size_t i = 0; i < COUNT_OF(all) && line.w > 12; i++) {
        const double value = watch_value(w, all[i].name, -1);
        if (isnan(value)) continue;
        box_left(&line, screen_print(s, line, t->dim, "%s ", all[i].label));
        box_left(&line, screen_put(s, line, t->text, watch_number(w, value, false)) + 3);
    }
    if (w->history->alarms && line.w > 10)
        screen_print(s, line, t->alarm, "%u alarm%s", w->history->alarms,
                     w->history->alarms == 1 ? "" : "s");
}

static void draw_tabs(struct watch *w, struct box line)
{
    static const char *const names[] = {"all", "overview", "experts", "tokens", "specialisation",
                                        "residency", "plan"};
    const struct theme *t = w->theme;
    line.x++, line.w -= 2;
    const bool narrow = line.w < 84; // then numbers alone, but for the one that is shown
    for (uint32_t i = 0; i < WATCH_PANELS && line.w > 4; i++) {
        const bool own = i == (uint32_t)w->panel;
        char text[32];
        if (narrow && !own) snprintf(text, sizeof text, " %u ", i);
        else snprintf(text, sizeof text, " %u %s ", i, names[i]);
        struct box tab = line;
        tab.w = (int)min_u32((uint32_t)strlen(text), (uint32_t)line.w);
        screen_fill(&w->screen, tab, own ? t->accent : t->page);
        screen_put(&w->screen, tab, own ? colour_on(t->accent) : t->dim, text);
        box_left(&line, tab.w + 1);
    }
}

static void draw_slider(struct watch *w, struct box line)
{
    const struct theme *t = w->theme;
    struct screen *s = &w->screen;
    const struct watch_span span = watch_span(w);
    line.x++, line.w -= 2;
    box_left(&line, screen_print(s, line, t->dim, "%u ", span.first));
    char last[16];
    const int wide = snprintf(last, sizeof last, " %u", span.last);
    screen_put(s, box_right(&line, wide), t->dim, last);
    const int place = place_of(w, line.w);
    for (int x = 0; x < line.w; x++) {
        const struct box cell = {line.x + x, line.y, 1, 1};
        screen_put(s, cell, x <= place ? t->accent : t->edge,
                   x == place ? s->utf8 ? "●" : "O" : s->utf8 ? "━" : "-");
    }
    for (uint32_t i = 0; i < w->history->alarms; i++) {
        const uint32_t step = w->history->alarm[i].step;
        if (step < span.first || step > span.last) continue;
        const int x = (int)((uint64_t)(step - span.first) * (uint64_t)line.w /
                            ((uint64_t)(span.last - span.first) + 1));
        if (x != place) screen_put(s, (struct box){line.x + x, line.y, 1, 1}, t->alarm, "!");
    }
}

static void draw_hint(struct watch *w, struct box line)
{
    line.x++, line.w -= 2;
    const bool noted = w->note[0] && os_seconds() < w->note_until;
    const char *keys = !w->screen.utf8
        ? "arrows: step, layer  space play  tab panel  +- zoom  ? keys  q quit"
        : "←→ step  ↑↓ layer  space play  tab panel  +- zoom  , . token  ? keys  q quit";
    screen_put(&w->screen, line, noted ? w->theme->accent : w->theme->faint,
               noted ? w->note : keys);
}

static void draw_help(struct watch *w, struct box area)
{
    static const struct { const char *key, *what; } keys[] = {
        {"0 ... 6, tab", "panels: all, overview, experts, tokens, ..."},
        {"left, right", "a step back, on; with shift (page up, down) many"},
        {"home, end", "first step; last step, and follow the run"},
        {"space", "play"},
        {"+ - x", "zoom the time axes around the step; all steps"},
        {"up, down", "layer"},
        {"a", "experts: all layers at one step"},
        {", .", "tokens: another one's experts and gates"},
        {"c", "tokens: by first, second, ... choice"},
        {"t", "dark, light"},
        {"s", "save this screen as a file (cat shows it)"},
        {"q, Ctrl-C", "quit"},
    };
    const int rows = (int)COUNT_OF(keys) + 3, wide = 72;
    struct box box = {area.x + (area.w > wide ? (area.w - wide) / 2 : 0),
                      area.y + (area.h > rows ? (area.h - rows) / 2 : 0),
                      area.w < wide ? area.w : wide, area.h < rows ? area.h : rows};
    screen_fill(&w->screen, box, w->theme->edge);
    box = (struct box){box.x + 1, box.y, box.w - 2, box.h};
    box = watch_frame(w, box, "keys", "any key goes on");
    box_top(&box, 1);
    for (size_t i = 0; i < COUNT_OF(keys) && box.h > 0; i++) {
        struct box line = box_top(&box, 1);
        screen_put(&w->screen, box_left(&line, 15), w->theme->accent, keys[i].key);
        screen_put(&w->screen, line, w->theme->text, keys[i].what);
    }
}

// ---- the frame

static void draw_all(struct watch *w, struct box body, double ms)
{
    struct box left = box_left(&body, body.w * 55 / 100);
    box_left(&body, 1);
    struct box loss = box_top(&left, left.h * 38 / 100);
    box_top(&left, 1);
    const bool streamed = w->history->places > 0, kinds = w->history->domains > 1;
    struct box upper = box_top(&body, body.h * (streamed || kinds ? 62 : 100) / 100);
    watch_loss(w, loss, ms);
    watch_experts(w, left, ms);
    watch_tokens(w, upper, ms);
    if (!streamed && !kinds) return;
    box_top(&body, 1);
    (streamed ? watch_residency : watch_specialisation)(w, body, ms);
}

void watch_draw(struct watch *w, double ms)
{
    static watch_panel_draw *const panels[] = {draw_all, watch_overview, watch_experts,
        watch_tokens, watch_specialisation, watch_residency, watch_plan};
    struct screen *s = &w->screen;
    arena_destroy(&w->arena);
    w->arena = arena_create("frame");
    w->pending = false;
    screen_clear(s, w->theme->page);
    struct box body = {0, 0, s->columns, s->rows};
    draw_head(w, box_top(&body, 1));
    if (body.h > 6) draw_tabs(w, box_top(&body, 1));
    if (body.h > 7) draw_hint(w, box_bottom(&body, 1));
    if (body.h > 4) draw_slider(w, box_bottom(&body, 1));
    body.x++, body.w -= 2;
    enum watch_panel panel = w->panel;
    if (panel == WATCH_ALL && (s->columns < ALL_COLUMNS || s->rows < ALL_ROWS))
        panel = w->history->layers ? WATCH_EXPERTS : WATCH_OVERVIEW;
    if (body.h > 0 && body.w > 0) panels[panel](w, body, ms);
    if (w->help) draw_help(w, body);
}

// ---- time passes

// True where the step is another.
static bool play_on(struct watch *w)
{
    const struct watch_span span = watch_span(w);
    const double now = os_seconds(), each = PLAY_SECONDS / fmax(1, span.last - span.first);
    const double steps = floor((now - w->play_at) / each);
    if (!w->playing || steps < 1) return false;
    w->play_at += steps * each;
    watch_go(w, w->step + (uint32_t)fmin(steps, 1e6));
    w->playing = w->step < span.last;
    return true;
}

static bool show(struct watch *w)
{
    watch_draw(w, 30);
    screen_text_of(&w->screen);
    return terminal_put((const char *)w->screen.out.data, w->screen.out.count);
}

static void resize(struct watch *w)
{
    int columns, rows;
    terminal_size(&columns, &rows);
    screen_resize(&w->screen, columns, rows);
}

bool watch_terminal(const char *folder)
{
    struct watch w;
    struct history *history = history_open(folder);
    if (!history) return false;
    watch_init(&w, history);
    screen_init(&w.screen, terminal_colours(), terminal_utf8());
    watch_poll(&w, 500);
    bool ok = terminal_take(), on = ok, dirty = true;
    resize(&w);
    while (on) {
        const bool noted = w.note[0] && os_seconds() < w.note_until;
        if (dirty || w.pending) on = show(&w);
        const int key = on ? terminal_key(w.pending ? 0 : w.playing ? 30 : 200) : KEY_CLOSED;
        if (key == KEY_RESIZED) resize(&w);
        on = on && (key == KEY_NONE || watch_key(&w, key));
        dirty = key != KEY_NONE || (noted && os_seconds() >= w.note_until);
        if (on) dirty |= watch_poll(&w, 20);
        dirty |= play_on(&w);
    }
    terminal_give_back();
    watch_finish(&w);
    return ok;
}
