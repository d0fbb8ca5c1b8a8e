// SPDX-License-Identifier: MIT
// Tokens: the text of a traced step, each token on the colour of the expert that took it first, a
// bar below it of the one that took it second; beside it the tokens that an expert takes most.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/parts.h"
#include "tools/view/sample.h"

enum { LABEL = 24, MOST_TOP = 40, CONTEXT = 14, CHIPS = 64 };

struct top { uint32_t id, count, at; double lift; }; // at: in the sample, where its gate is largest
struct tokens_part {
    uint64_t version;    // of the sample that it was counted from
    uint32_t layer, expert, chosen, tops, most_id;
    struct top top[MOST_TOP];
    struct tally { uint32_t count, all, at; float gate; } *tally; // [most_id + 1]
    uint32_t *taken;     // [experts] tokens
    uint32_t experts;
};

void tokens_part_free(struct tokens_part **part)
{
    if (!*part) return;
    free((*part)->tally), free((*part)->taken), free(*part);
    *part = NULL;
}

// ---- labels

static size_t utf8_length(uint8_t lead)
{
    return lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
}

// What stands for a token: a character that several byte tokens make together is in the first one's
// cell, a dot in the others'.
static void label_of(const struct history *h, const uint32_t *id, uint32_t count, uint32_t at,
                     char out[LABEL])
{
    char byte[8] = {0};
    if (history_bytes(h, id[at], byte, 2) != 1 || (uint8_t)byte[0] < 0x80) {
        history_text(h, id[at], out, LABEL);
        return;
    }
    uint32_t lead = at;
    while (lead > 0 && at - lead < 3 && ((uint8_t)byte[0] & 0xc0) == 0x80 &&
           history_bytes(h, id[lead - 1], byte, 2) == 1)
        lead--;
    const size_t length = utf8_length((uint8_t)byte[0]);
    bool whole = length > 1 && lead + length <= count && at - lead < length;
    for (size_t i = 0; i < length && whole; i++)
        whole = history_bytes(h, id[lead + i], byte + i, 1) == 1 &&
                (i == 0 || ((uint8_t)byte[i] & 0xc0) == 0x80);
    byte[whole ? length : 0] = 0;
    if (!whole) history_text(h, id[at], out, LABEL);
    else snprintf(out, LABEL, "%s", at == lead ? byte : "\u00b7");
}

static bool ends_line(const struct history *h, uint32_t id)
{
    char byte;
    return history_bytes(h, id, &byte, 1) == 1 && byte == '\n';
}

// ---- the text

static void tell(struct view *v, const struct history_tokens *t, uint32_t at, const char *label)
{
    const struct history *h = v->history;
    const uint32_t k = h->layer[v->layer].top_k;
    char text[900];
    size_t n = (size_t)snprintf(text, sizeof text, "\u201c%s\u201d  id %u, token %u%s%s", label,
                                t->id[at], at, t->domain && t->domain[at] != HISTORY_NONE ? ", "
                                                                                          : "",
                                t->domain && t->domain[at] != HISTORY_NONE
                                    ? h->domain_name[t->domain[at]] : "");
    for (uint32_t i = 0; i < k && i < 8; i++) {
        const uint32_t expert = t->pick[v->layer][at * k + i];
        if (expert == HISTORY_NONE) continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "\nexpert %u", expert);
        if (t->gate[v->layer])
            n += (size_t)snprintf(text + n, sizeof text - n, "  gate %.3f",
                                  (double)t->gate[v->layer][at * k + i]);
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "\nby layer:");
    for (uint32_t l = 0; l < h->layers && l < 16; l++) {
        const uint32_t expert = t->pick[l] ? t->pick[l][at * h->layer[l].top_k] : HISTORY_NONE;
        if (expert == HISTORY_NONE) n += (size_t)snprintf(text + n, sizeof text - n, " \u2013");
        else n += (size_t)snprintf(text + n, sizeof text - n, " %u", expert);
    }
    view_tip(v, "%s", text);
}

static bool takes(const uint32_t *pick, uint32_t k, uint32_t expert)
{
    for (uint32_t i = 0; i < k; i++)
        if (pick[i] == expert) return true;
    return false;
}

static void draw_cell(struct view *v, struct canvas *c, struct rect cell, const uint32_t *pick,
                      uint32_t k, const char *label)
{
    const bool taken = pick[0] != HISTORY_NONE;
    const bool dim = v->expert != HISTORY_NONE && !takes(pick, k, v->expert);
    colour ground = taken ? colour_expert(pick[0]) : v->theme->edge;
    if (dim) ground = colour_between(ground, v->theme->panel, 0.82f);
    canvas_fill(c, cell, ground);
    if (k > 1 && pick[1] != HISTORY_NONE) {
        const int bar = canvas_px(c, 3);
        colour second = colour_expert(pick[1]);
        if (dim) second = colour_between(second, v->theme->panel, 0.82f);
        canvas_fill(c, (struct rect){cell.x, cell.y + cell.h - bar - 1, cell.w, 1},
                    v->theme->panel);
        canvas_fill(c, (struct rect){cell.x, cell.y + cell.h - bar, cell.w, bar}, second);
        cell.h -= bar;
    }
    canvas_text(c, FONT_MONO, cell, ALIGN_CENTER, dim ? v->theme->faint : colour_on(ground), label);
}

// Where the next token comes; y counts from above the area where the text is scrolled.
struct flow { struct rect area; int x, y, line; };

static bool is_seen(const struct flow *f, int height)
{
    return f->y >= f->area.y && f->y + height <= f->area.y + f->area.h;
}

static void new_line(struct flow *f, int extra)
{
    f->x = f->area.x;
    f->y += f->line + extra;
}

// The kind of the text that begins, on a line of its own.
static void draw_domain(struct view *v, struct canvas *c, struct flow *f,
                        const struct history_tokens *t, uint32_t at)
{
    const int line = canvas_line_height(c, FONT_SMALL);
    if (f->x > f->area.x) new_line(f, 0);
    if (t->domain[at] == HISTORY_NONE) return;
    if (is_seen(f, line))
        canvas_text(c, FONT_SMALL, (struct rect){f->area.x, f->y, f->area.w, line}, ALIGN_LEFT,
                    v->theme->faint, v->history->domain_name[t->domain[at]]);
    f->y += line + canvas_px(c, 1);
}

// Moves a text that is higher than its area by the wheel and by pages, and shows how much of it is
// seen where.
static void scroll(struct view *v, struct canvas *c, struct rect area, struct rect bar, int line,
                   int height)
{
    const int most = height > area.h ? height - area.h : 0;
    int to = v->scroll + v->pages * (area.h - line);
    if (most && view_over(v, area)) {
        to -= 3 * line * v->mouse.wheel;
        v->mouse.wheel = 0;
    }
    to = to < 0 ? 0 : to > most ? most : to;
    if (most) {
        const int own = bar.h * area.h / height;
        canvas_fill(c, bar, v->theme->edge);
        canvas_fill(c, (struct rect){bar.x, bar.y + (bar.h - own) * to / most, bar.w, own},
                    v->theme->faint);
    }
    v->again |= to != v->scroll;
    v->scroll = to;
}

static void draw_text(struct view *v, struct canvas *c, struct rect area,
                      const struct history_tokens *t)
{
    const struct history *h = v->history;
    const uint32_t k = h->layer[v->layer].top_k, *pick = t->pick[v->layer];
    const int line = canvas_line_height(c, FONT_MONO) + canvas_px(c, 6), gap = canvas_px(c, 2);
    const struct rect old = canvas_clip(c, area), bar = rect_right(&area, canvas_px(c, 4));
    rect_right(&area, canvas_px(c, 4));
    struct flow f = {area, area.x, area.y - v->scroll, line};
    for (uint32_t i = 0; i < t->count; i++) {
        char label[LABEL];
        label_of(h, t->id, t->count, i, label);
        const int least = canvas_px(c, 9);
        int width = canvas_text_width(c, FONT_MONO, label);
        width = width < least ? least : width > area.w ? area.w : width;
        if (i && h->seq_len && i % h->seq_len == 0) new_line(&f, canvas_px(c, 8));
        if (t->domain && (i == 0 || t->domain[i] != t->domain[i - 1])) draw_domain(v, c, &f, t, i);
        if (f.x + width > area.x + area.w) new_line(&f, 0);
        const struct rect cell = {f.x, f.y, width, line - gap};
        const bool seen = is_seen(&f, line);
        if (seen) draw_cell(v, c, cell, pick + (size_t)i * k, k, label);
        if (seen && view_over(v, cell)) {
            canvas_frame(c, cell, v->theme->text);
            tell(v, t, i, label);
            if (view_click(v, cell))
                v->expert = pick[(size_t)i * k] == v->expert ? HISTORY_NONE : pick[(size_t)i * k];
        }
        f.x += width + 1;
        if (ends_line(h, t->id[i])) new_line(&f, 0);
    }
    scroll(v, c, area, bar, line, f.y + line - area.y + v->scroll);
    canvas_unclip(c, old);
}

// ---- what an expert takes

static void count_tokens(struct tokens_part *p, const struct sample *s)
{
    for (uint32_t t = 0; t < s->tokens; t++)
        if (s->id[t] > p->most_id) p->most_id = s->id[t];
    free(p->tally);
    p->tally = os_alloc((p->most_id + 1ull) * sizeof *p->tally);
    memset(p->taken, 0, p->experts * sizeof *p->taken);
    for (uint32_t t = 0; t < s->tokens; t++) p->tally[s->id[t]].all++;
    for (size_t i = 0; i < (size_t)s->tokens * s->top_k; i++)
        if (s->pick[i] < p->experts) p->taken[s->pick[i]]++;
}

static double score(const struct top *t) { return t->lift > 1 ? t->count * log2(t->lift) : 0; }

static void rank(struct tokens_part *p, const struct sample *s)
{
    uint32_t own = 0;
    for (uint32_t t = 0; t < s->tokens; t++)
        for (uint32_t i = 0; i < s->top_k; i++) {
            if (s->pick[(size_t)t * s->top_k + i] != p->chosen) continue;
            struct tally *tally = &p->tally[s->id[t]];
            const float gate = s->gate[(size_t)t * s->top_k + i];
            if (!tally->count++ || gate > tally->gate) tally->at = t, tally->gate = gate;
            own++;
        }
    for (uint32_t id = 0; id <= p->most_id && own; id++) {
        const struct tally *tally = &p->tally[id];
        if (!tally->count) continue;
        const double lift = (double)tally->count / own / ((double)tally->all / s->tokens);
        const struct top top = {id, tally->count, tally->at, lift};
        uint32_t at = p->tops;
        for (; at > 0 && score(&top) > score(&p->top[at - 1]); at--)
            if (at < MOST_TOP) p->top[at] = p->top[at - 1];
        if (at < MOST_TOP) p->top[at] = top;
        p->tops = min_u32(p->tops + 1, MOST_TOP);
    }
}

// Of the expert that was clicked, else of the one with most tokens.
static const struct tokens_part *tops_of(struct view *v, const struct sample *s)
{
    struct tokens_part **part = &v->parts->tokens;
    if (*part && ((*part)->version != s->version || (*part)->layer != v->layer ||
                  (*part)->expert != v->expert || (*part)->experts != v->history->experts))
        tokens_part_free(part);
    if (*part) return *part;
    struct tokens_part *p = *part = os_alloc(sizeof *p);
    p->version = s->version, p->layer = v->layer, p->expert = v->expert;
    p->experts = v->history->experts;
    p->taken = os_alloc((p->experts + 1ull) * sizeof *p->taken);
    count_tokens(p, s);
    p->chosen = v->expert < p->experts ? v->expert : 0;
    for (uint32_t e = 0; e < p->experts && v->expert >= p->experts; e++)
        if (p->taken[e] > p->taken[p->chosen]) p->chosen = e;
    rank(p, s);
    return p;
}

// Text around a token of the sample, the token itself in colour.
static void draw_context(struct view *v, struct canvas *c, struct rect box, const struct sample *s,
                         uint32_t at, colour own)
{
    const int one = canvas_text_width(c, FONT_MONO_SMALL, "m");
    const uint32_t fit = (uint32_t)(box.w / one / 2);
    const uint32_t seq = v->history->trace_tokens, start = at / seq * seq;
    const uint32_t before = min_u32(at - start, min_u32(fit, CONTEXT));
    for (uint32_t t = at - before; t < start + seq && t < s->tokens && t < at + CONTEXT + fit;
         t++) {
        char label[LABEL];
        label_of(v->history, s->id + start, seq, t - start, label);
        const int width = canvas_text_width(c, FONT_MONO_SMALL, label);
        if (width > box.w) return;
        const struct rect cell = rect_left(&box, width);
        if (t == at) canvas_fill(c, cell, own);
        canvas_text(c, FONT_MONO_SMALL, cell, ALIGN_LEFT, t == at ? colour_on(own) : v->theme->dim,
                    label);
    }
}

static void draw_tops(struct view *v, struct canvas *c, struct rect area, const struct sample *s)
{
    const struct tokens_part *p = tops_of(v, s);
    const colour own = colour_expert(p->chosen);
    const int line = canvas_line_height(c, FONT_SMALL) + canvas_px(c, 4), gap = canvas_px(c, 8);
    struct rect title = rect_top(&area, line);
    canvas_fill(c, (struct rect){title.x, title.y + 2, canvas_px(c, 10), line - 6}, own);
    rect_left(&title, canvas_px(c, 16));
    canvas_print(c, FONT_BOLD, title, ALIGN_LEFT, v->theme->text, "Expert %u takes most",
                 p->chosen);
    canvas_print(c, FONT_SMALL, rect_top(&area, line), ALIGN_LEFT, v->theme->dim,
                 "%u of %u picks, steps %u to %u", p->taken[p->chosen], s->tokens * s->top_k,
                 s->first_step, s->last_step);
    rect_top(&area, gap / 2);
    struct rect head = rect_top(&area, line);
    const int token = canvas_px(c, 56), count = canvas_px(c, 40), lift = canvas_px(c, 48);
    canvas_text(c, FONT_SMALL, rect_left(&head, token), ALIGN_LEFT, v->theme->faint, "token");
    canvas_text(c, FONT_SMALL, rect_left(&head, count), ALIGN_RIGHT, v->theme->faint, "times");
    canvas_text(c, FONT_SMALL, rect_left(&head, lift), ALIGN_RIGHT, v->theme->faint, "lift");
    rect_left(&head, gap);
    canvas_text(c, FONT_SMALL, head, ALIGN_LEFT, v->theme->faint, "where");
    for (uint32_t i = 0; i < p->tops && area.h >= line; i++) {
        const struct top *t = &p->top[i];
        struct rect row = rect_top(&area, line);
        char label[LABEL];
        if (t->lift <= 1) break;
        history_text(v->history, t->id, label, sizeof label);
        if (strcmp(label, " ") == 0) snprintf(label, sizeof label, "space");
        if (view_over(v, row))
            view_tip(v, "\u201c%s\u201d: %u of its %u picks here,\n%.2f times as often as chance",
                     label, t->count, p->tally[t->id].all, t->lift);
        canvas_text(c, FONT_MONO_SMALL, rect_left(&row, token), ALIGN_LEFT, v->theme->text, label);
        canvas_print(c, FONT_SMALL, rect_left(&row, count), ALIGN_RIGHT, v->theme->text, "%u",
                     t->count);
        canvas_print(c, FONT_SMALL, rect_left(&row, lift), ALIGN_RIGHT, v->theme->dim,
                     "%.1f\u00d7", t->lift);
        rect_left(&row, gap);
        draw_context(v, c, row, s, t->at, own);
    }
}

// A chip for each expert: its colour and number, clicked to see its tokens alone.
static void draw_chips(struct view *v, struct canvas *c, struct rect bar)
{
    const int gap = canvas_px(c, 3);
    const uint32_t fit = (uint32_t)(bar.w / canvas_px(c, 27));
    const uint32_t count = min_u32(min_u32(v->history->experts, fit), CHIPS);
    for (uint32_t e = 0; e < count; e++) {
        const struct rect chip = rect_left(&bar, canvas_px(c, 24));
        rect_left(&bar, gap);
        const bool off = v->expert != HISTORY_NONE && v->expert != e;
        const colour own = off ? colour_between(colour_expert(e), v->theme->panel, 0.75f)
                               : colour_expert(e);
        canvas_round(c, chip, 3 * c->scale, own);
        canvas_print(c, FONT_SMALL, chip, ALIGN_CENTER, off ? v->theme->dim : colour_on(own), "%u",
                     e);
        if (view_over(v, chip)) view_tip(v, "expert %u: click to see its tokens alone", e);
        if (view_click(v, chip)) v->expert = v->expert == e ? HISTORY_NONE : e;
    }
}

void panel_tokens(struct view *v, struct canvas *c, struct rect area, double ms)
{
    (void)ms;
    struct rect header;
    struct rect in = view_frame(v, c, area, "Tokens", &header);
    const struct history *h = v->history;
    struct history_tokens tokens;
    const uint32_t at = history_tokens_at(v->history, history_traced(h, v->step));
    if (at == HISTORY_NONE || !history_tokens(v->history, at, &tokens) || !tokens.pick[v->layer]) {
        view_empty(v, c, in, "no tokens were traced:\ntrain with --set trace_tokens=256");
        return;
    }
    view_layers(v, c, &header);
    rect_left(&header, canvas_px(c, 10));
    canvas_print(c, FONT_SMALL, header, ALIGN_RIGHT, v->theme->dim,
                 "step %u   ground: first expert, bar: second", h->step[at]);
    const bool wide = in.w >= canvas_px(c, 760);
    const struct rect old = canvas_clip(c, in);
    if (in.h >= canvas_px(c, 160)) {
        draw_chips(v, c, rect_bottom(&in, canvas_px(c, 18)));
        rect_bottom(&in, canvas_px(c, 8));
    }
    if (wide) {
        const struct rect side = rect_right(&in, in.w * 36 / 100);
        rect_right(&in, canvas_px(c, 16));
        const struct sample *sample = sample_get(v);
        if (sample) draw_tops(v, c, side, sample);
        history_tokens(v->history, at, &tokens); // the sample asked for others
    }
    draw_text(v, c, in, &tokens);
    canvas_unclip(c, old);
}
