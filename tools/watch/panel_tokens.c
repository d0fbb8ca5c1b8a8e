// SPDX-License-Identifier: MIT
// The text of a traced step, each token on the colour of its expert; and of one token all that is
// told of it.
#include <math.h>
#include <string.h>

#include "tools/watch/watch.h"

static uint32_t pick_of(const struct watch *w, const struct history_tokens *tokens, uint32_t layer,
                        uint32_t token, uint32_t choice)
{
    const uint32_t k = w->history->layer[layer].top_k;
    return tokens->pick[layer] ? tokens->pick[layer][token * k + choice % k] : HISTORY_NONE;
}

// A token's signs in the colours of its expert, wrapped at the edge; false: there is no more room.
static bool draw_token(struct watch *w, struct box box, int *x, int *y, const char *text,
                       uint32_t expert, bool chosen)
{
    const struct theme *t = w->theme;
    const bool breaks = strstr(text, "\n") || strstr(text, "↵") || strstr(text, "⏎");
    const colour ground = chosen ? t->text : expert == HISTORY_NONE ? t->grid
                                                                    : colour_expert(expert);
    for (const char *at = text; *at;) {
        char sign[8] = {*at++};
        for (int i = 1; i < 6 && ((uint8_t)*at & 0xc0) == 0x80; i++) sign[i] = *at++;
        if (*x >= box.w) *x = 0, ++*y;
        if (*y >= box.h) return false;
        const struct box cell = {box.x + *x, box.y + *y, 1, 1};
        screen_ground(&w->screen, cell.x, cell.y, ground);
        screen_put(&w->screen, cell, chosen ? t->page : colour_on(ground), sign);
        ++*x;
    }
    if (breaks) *x = 0, ++*y;
    return *y < box.h;
}

static void draw_text(struct watch *w, struct box box, const struct history_tokens *tokens)
{
    int x = 0, y = 0;
    for (uint32_t i = 0; i < tokens->count; i++) {
        char text[64];
        const bool begins = i > 0 && w->history->seq_len && i % w->history->seq_len == 0;
        if (begins) y += 1 + (x > 0), x = 0; // another sequence
        history_text(w->history, tokens->id[i], text, sizeof text);
        if (!draw_token(w, box, &x, &y, text, pick_of(w, tokens, w->layer, i, w->choice),
                        i == w->token))
            break;
    }
}

static void draw_gates(struct watch *w, struct box line, const struct history_tokens *tokens,
                       uint32_t layer)
{
    const struct history *h = w->history;
    const uint32_t k = h->layer[layer].top_k;
    screen_print(&w->screen, box_left(&line, 9), layer == w->layer ? w->theme->accent
                                                                   : w->theme->faint,
                 "layer %u", h->layer[layer].number);
    for (uint32_t i = 0; i < k && line.w > 12; i++) {
        const uint32_t expert = pick_of(w, tokens, layer, w->token, i);
        if (expert == HISTORY_NONE) continue;
        const colour own = colour_expert(expert);
        struct box name = box_left(&line, 6);
        screen_fill(&w->screen, (struct box){name.x, name.y, 5, 1}, own);
        screen_print_right(&w->screen, (struct box){name.x, name.y, 5, 1}, colour_on(own), "%u ",
                           expert);
        if (!tokens->gate || !tokens->gate[layer]) continue;
        const double gate = (double)tokens->gate[layer][w->token * k + i];
        box_left(&line, screen_print(&w->screen, line, w->theme->text, "%.2f", gate) + 1);
        if (line.w > 8)
            screen_bar(&w->screen, box_left(&line, k > 2 ? 4 : 10), gate, own, w->theme->grid);
        box_left(&line, 2);
    }
}

static void draw_inspector(struct watch *w, struct box box, const struct history_tokens *tokens)
{
    const struct history *h = w->history;
    char text[64];
    struct box line = box_top(&box, 1);
    history_text(h, tokens->id[w->token], text, sizeof text);
    box_left(&line, screen_print(&w->screen, line, w->theme->dim, "token %u of %u ", w->token + 1,
                                 tokens->count));
    box_left(&line, screen_put(&w->screen, line, w->theme->text, text) + 2);
    const uint32_t domain = tokens->domain ? tokens->domain[w->token] : HISTORY_NONE;
    screen_print(&w->screen, line, w->theme->dim, "id %u%s%s", tokens->id[w->token],
                 domain < h->domains ? "  of " : "", domain < h->domains ? h->domain_name[domain]
                                                                         : "");
    const uint32_t shown = min_u32(h->layers, (uint32_t)box.h);
    const uint32_t first = w->layer >= shown ? w->layer + 1 - shown : 0;
    for (uint32_t l = first; l < first + shown; l++)
        draw_gates(w, box_top(&box, 1), tokens, l);
}

void watch_tokens(struct watch *w, struct box box, double ms)
{
    (void)ms;
    const struct history *h = w->history;
    struct history_tokens tokens;
    const uint32_t traced = history_traced(h, w->step);
    const uint32_t at = traced == HISTORY_NONE ? traced : history_tokens_at(w->history, traced);
    const bool there = at != HISTORY_NONE && history_tokens(w->history, at, &tokens) &&
                       tokens.count > 0;
    const uint32_t k = h->layers ? h->layer[w->layer].top_k : 1;
    const char *note = !there ? NULL
        : arena_printf(w->arena, "step %u, layer %u, by choice %u of %u", h->step[at],
                       h->layer[w->layer].number, w->choice % k + 1, k);
    box = watch_frame(w, box, "tokens", note);
    if (!there) {
        watch_empty(w, box, h->trace_tokens ? "no traced token yet"
                                            : "no tokens were traced (trace_tokens)");
        return;
    }
    w->token = min_u32(w->token, tokens.count - 1);
    const int lines = (int)min_u32(h->layers + 1, (uint32_t)max_u32((uint32_t)box.h / 3, 2));
    struct box inspector = box_bottom(&box, box.h > 5 ? lines : 0);
    if (inspector.h) box_bottom(&box, 1);
    draw_text(w, box, &tokens);
    if (inspector.h) draw_inspector(w, inspector, &tokens);
}
