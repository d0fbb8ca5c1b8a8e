// SPDX-License-Identifier: MIT
// Specialisation: how much more often than chance an expert takes the tokens of a domain (file
// kind, toy task, label), with the mutual information of the two; and which experts are taken by
// the same tokens. Counted over the tokens of the last traced steps.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/os.h"
#include "src/routing_stats.h"
#include "tools/view/chart.h"
#include "tools/view/parts.h"
#include "tools/view/sample.h"

enum { SHOWN = 64, SHUFFLES = 3 };

struct special_part {
    uint64_t version; // of the sample
    uint32_t layer, experts, domains, shown, show[SHOWN + 1];
    double  *counts, *by_domain, *domain; // [experts], [experts][domains], [domains] picks
    double  *together, most_together;     // [shown][shown]
    double   picks;
    bool     told;                        // information is there, with its control
    struct routing_information information;
};

void special_part_free(struct special_part **part)
{
    if (!*part) return;
    free((*part)->counts), free((*part)->by_domain), free((*part)->domain);
    free((*part)->together), free(*part);
    *part = NULL;
}

static struct routing_sample sample_of(const struct view *v, const struct sample *s)
{
    return (struct routing_sample){.tokens = s->tokens, .top_k = s->top_k,
                                   .experts = v->history->experts,
                                   .domains = v->history->domains, .picks = s->pick,
                                   .domain = s->domain, .ids = s->id};
}

// Those with most picks, in order of their numbers.
static void choose(struct special_part *p)
{
    uint32_t top[SHOWN + 1], count = 0;
    for (uint32_t e = 0; e < p->experts; e++) {
        uint32_t at = count;
        for (; at > 0 && p->counts[e] > p->counts[top[at - 1]]; at--) top[at] = top[at - 1];
        top[at] = e;
        count = min_u32(count + 1, SHOWN);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = p->shown++;
        for (; at > 0 && p->show[at - 1] > top[i]; at--) p->show[at] = p->show[at - 1];
        p->show[at] = top[i];
    }
}

static void count_all(struct special_part *p, const struct routing_sample *sample)
{
    p->counts = os_alloc((p->experts + 1ull) * sizeof *p->counts);
    p->by_domain = os_alloc(((size_t)p->experts * p->domains + 1) * sizeof *p->by_domain);
    p->domain = os_alloc((p->domains + 1ull) * sizeof *p->domain);
    // every pick counts for who is taken; those of tokens with a domain for the rest
    for (size_t i = 0; i < (size_t)sample->tokens * sample->top_k; i++) {
        const uint32_t e = sample->picks[i], d = sample->domain[i / sample->top_k];
        if (e >= p->experts) continue;
        p->counts[e]++;
        if (d >= p->domains) continue;
        p->by_domain[(size_t)e * p->domains + d]++;
        p->domain[d]++;
        p->picks++;
    }
    choose(p);
    p->together = os_alloc((size_t)p->shown * p->shown * sizeof *p->together + 1);
    routing_together(sample, p->show, p->shown, p->together);
    for (size_t i = 0; i < (size_t)p->shown * p->shown; i++)
        p->most_together = fmax(p->most_together, p->together[i]);
}

static const struct special_part *part_of(struct view *v, const struct sample *s)
{
    struct special_part **part = &v->parts->special;
    const struct routing_sample sample = sample_of(v, s);
    if (*part && ((*part)->version != s->version || (*part)->layer != v->layer ||
                  (*part)->experts != v->history->experts))
        special_part_free(part);
    if (!*part) {
        *part = os_alloc(sizeof **part);
        (*part)->version = s->version, (*part)->layer = v->layer;
        (*part)->experts = v->history->experts, (*part)->domains = v->history->domains;
        count_all(*part, &sample);
    }
    // a few milliseconds, which a slider that moves does not have
    if (!(*part)->told && s->domains && !v->playing && !v->held) {
        (*part)->information = routing_information(&sample, SHUFFLES, 1);
        (*part)->told = true;
    }
    return *part;
}

// Of the expert's picks the share in the domain, over the same of all picks.
static double lift_of(const struct special_part *p, uint32_t expert, uint32_t domain)
{
    double own = 0;
    for (uint32_t d = 0; d < p->domains; d++) own += p->by_domain[(size_t)expert * p->domains + d];
    const double chance = p->domain[domain] / p->picks;
    return own > 0 && chance > 0
               ? p->by_domain[(size_t)expert * p->domains + domain] / own / chance : NAN;
}

// ---- pictures

struct grid { struct rect area; uint32_t columns, rows; };

static struct rect cell_of(const struct grid *g, uint32_t column, uint32_t row)
{
    const int x0 = (int)((uint64_t)column * (uint64_t)g->area.w / g->columns);
    const int x1 = (int)((column + 1ull) * (uint64_t)g->area.w / g->columns);
    const int y0 = (int)((uint64_t)row * (uint64_t)g->area.h / g->rows);
    const int y1 = (int)((row + 1ull) * (uint64_t)g->area.h / g->rows);
    const int gap = x1 - x0 > 6 && y1 - y0 > 6 ? 1 : 0;
    return (struct rect){g->area.x + x0, g->area.y + y0, x1 - x0 - gap, y1 - y0 - gap};
}

static void draw_rows(struct view *v, struct canvas *c, const struct special_part *p,
                      const struct grid *g, struct rect labels)
{
    const int line = canvas_line_height(c, FONT_SMALL);
    uint32_t every = 1;
    while (g->area.h * (int)every / (int)g->rows < line) every *= 2;
    for (uint32_t i = 0; i < p->shown; i += every) {
        const struct rect cell = cell_of(g, 0, i);
        struct rect box = {labels.x, cell.y + (cell.h - line) / 2, labels.w - canvas_px(c, 5),
                           line};
        if (box.y < g->area.y) box.y = g->area.y;
        if (box.y + line > g->area.y + g->area.h) continue;
        canvas_print(c, FONT_SMALL, box, ALIGN_RIGHT, v->theme->dim, "%u", p->show[i]);
    }
}

static void draw_domains(struct view *v, struct canvas *c, struct rect area,
                         const struct special_part *p, int left)
{
    const int line = canvas_line_height(c, FONT_SMALL);
    struct rect names = rect_top(&area, line + canvas_px(c, 3));
    const struct rect labels = rect_left(&area, left);
    const struct grid g = {area, p->domains, p->shown};
    rect_left(&names, left);
    for (uint32_t d = 0; d < p->domains; d++) {
        const struct rect cell = cell_of(&g, d, 0);
        canvas_text(c, FONT_SMALL, (struct rect){cell.x, names.y, cell.w, line}, ALIGN_CENTER,
                    v->theme->dim, v->history->domain_name[d]);
        for (uint32_t i = 0; i < p->shown; i++) {
            const struct rect own = cell_of(&g, d, i);
            const double lift = lift_of(p, p->show[i], d);
            const colour ground = isnan(lift) ? v->theme->edge : colour_load((float)lift);
            canvas_fill(c, own, ground);
            if (own.h >= line && own.w >= canvas_px(c, 34) && !isnan(lift))
                canvas_print(c, FONT_SMALL, own, ALIGN_CENTER, colour_on(ground),
                             lift < 9.95 ? "%.1f\u00d7" : "%.0f\u00d7", lift);
            if (!view_over(v, own)) continue;
            canvas_frame(c, own, v->theme->text);
            view_tip(v, "expert %u, %s\n%.0f picks of %.0f: %.2f times chance", p->show[i],
                     v->history->domain_name[d],
                     p->by_domain[(size_t)p->show[i] * p->domains + d], p->domain[d], lift);
        }
    }
    draw_rows(v, c, p, &g, labels);
}

static void draw_together(struct view *v, struct canvas *c, struct rect area,
                          const struct special_part *p, int left)
{
    const int line = canvas_line_height(c, FONT_SMALL);
    struct rect names = rect_top(&area, line + canvas_px(c, 3));
    const struct rect labels = rect_left(&area, left);
    const int side = area.w < area.h ? area.w : area.h;
    area.w = side, area.h = side;
    rect_left(&names, left);
    const struct grid g = {area, p->shown, p->shown};
    const bool numbered = side / (int)p->shown >= canvas_px(c, 20);
    for (uint32_t i = 0; i < p->shown; i++)
        for (uint32_t j = 0; j < p->shown; j++) {
            const struct rect own = cell_of(&g, j, i);
            const double share = p->together[(size_t)i * p->shown + j];
            const colour ground = i == j ? v->theme->edge
                                         : colour_map((float)(share / p->most_together));
            canvas_fill(c, own, ground);
            if (i == 0 && numbered)
                canvas_print(c, FONT_SMALL, (struct rect){own.x, names.y, own.w, line},
                             ALIGN_CENTER, v->theme->dim, "%u", p->show[j]);
            if (i != j && own.h >= line && own.w >= canvas_px(c, 34))
                canvas_print(c, FONT_SMALL, own, ALIGN_CENTER, colour_on(ground), "%.0f %%",
                             100 * share);
            if (!view_over(v, own)) continue;
            canvas_frame(c, own, v->theme->text);
            if (i != j)
                view_tip(v, "of the tokens that expert %u takes\n%.1f %% are taken by %u too",
                         p->show[i], 100 * share, p->show[j]);
        }
    draw_rows(v, c, p, &g, labels);
}

static void title(struct view *v, struct canvas *c, struct rect *area, const char *text)
{
    canvas_text(c, FONT_TEXT, rect_top(area, canvas_line_height(c, FONT_TEXT)), ALIGN_LEFT,
                v->theme->text, text);
    rect_top(area, canvas_px(c, 4));
}

static void draw_information(struct view *v, struct canvas *c, struct rect area,
                             const struct special_part *p)
{
    const struct routing_information *i = &p->information;
    if (!p->told) return;
    canvas_print(c, FONT_SMALL, area, ALIGN_LEFT, v->theme->dim,
                 "mutual information %.3f of %.2f bits (%.3f shuffled); given the token %.3f "
                 "(%.3f)", i->domain.value, i->domain_bits, i->domain.mean, i->given_token.value,
                 i->given_token.mean);
    if (view_over(v, area))
        view_tip(v, "I(expert; domain), and I(expert; domain | token):\nwhat the expert tells of "
                    "the domain, in bits.\nIn brackets: the same with domains shuffled");
}

void panel_specialisation(struct view *v, struct canvas *c, struct rect area, double ms)
{
    (void)ms;
    struct rect header;
    struct rect in = view_frame(v, c, area, "Specialisation", &header);
    const struct sample *s = sample_get(v);
    if (!s) {
        view_empty(v, c, in, "no tokens were traced:\ntrain with --set trace_tokens=256");
        return;
    }
    const struct special_part *p = part_of(v, s);
    const int used = header.w < canvas_px(c, 320) ? 0 : view_load_legend(v, c, header);
    const int gap = canvas_px(c, 20);
    header.w -= used;
    view_layers(v, c, &header);
    rect_left(&header, canvas_px(c, 12));
    canvas_print(c, FONT_SMALL, header, ALIGN_LEFT, v->theme->dim, "%u tokens of steps %u to %u",
                 s->tokens, s->first_step, s->last_step);
    const bool both = in.w >= canvas_px(c, 560);
    const int left = canvas_px(c, p->experts > 999 ? 40 : 24);
    struct rect right = in;
    if (both) {
        right = rect_right(&in, in.w * 42 / 100);
        rect_right(&in, gap);
    }
    if (s->domains) {
        title(v, c, &in, "Expert by domain: times chance");
        if (in.h >= canvas_px(c, 160)) {
            draw_information(v, c, rect_bottom(&in, canvas_line_height(c, FONT_SMALL)), p);
            rect_bottom(&in, canvas_px(c, 5));
        }
        draw_domains(v, c, in, p, left);
    } else if (both) {
        view_empty(v, c, in, "the trace does not tell domains:\ndata of one kind, or an older run");
    }
    if (!both && s->domains) return;
    if (s->top_k < 2) {
        view_empty(v, c, right, "one expert a token:\nnone are taken together");
        return;
    }
    title(v, c, &right, "Taken together: of the row's tokens");
    draw_together(v, c, right, p, left);
}
