// SPDX-License-Identifier: MIT
// Gathers tokens of traced steps: see sample.h. Steps that were read are kept, so that a slider
// that plays reads one step a frame.
#include "tools/view/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "tools/view/parts.h"

struct slot { // a step
    bool     used;
    uint32_t at, count;
    uint32_t *id, *domain, *pick;
    float    *gate;
};

struct sample_part {
    struct slot   slot[SAMPLE_STEPS];
    struct sample sample;
    uint32_t      layer, at;    // what it was gathered for
    uint64_t      steps;        // of the trace then
    uint32_t      tokens, top_k; // that rooms are made for
    uint32_t      slots;
};

static void free_slot(struct slot *s)
{
    free(s->id), free(s->domain), free(s->pick), free(s->gate);
    *s = (struct slot){0};
}

void sample_part_free(struct sample_part **part)
{
    if (!*part) return;
    for (uint32_t i = 0; i < SAMPLE_STEPS; i++) free_slot(&(*part)->slot[i]);
    struct sample *s = &(*part)->sample;
    free(s->id), free(s->domain), free(s->pick), free(s->gate);
    free(*part);
    *part = NULL;
}

static struct sample_part *make_part(const struct history *h, uint32_t layer)
{
    struct sample_part *p = os_alloc(sizeof *p);
    p->layer = layer, p->at = HISTORY_NONE;
    p->tokens = h->trace_tokens, p->top_k = h->layer[layer].top_k;
    p->slots = max_u32(min_u32(SAMPLE_STEPS, SAMPLE_TOKENS / p->tokens), 1);
    const size_t tokens = (size_t)p->slots * p->tokens, picks = tokens * p->top_k;
    struct sample *s = &p->sample;
    s->top_k = p->top_k, s->layer = layer;
    s->id = os_alloc(tokens * sizeof *s->id);
    s->domain = os_alloc(tokens * sizeof *s->domain);
    s->pick = os_alloc(picks * sizeof *s->pick);
    s->gate = os_alloc(picks * sizeof *s->gate);
    return p;
}

static void fill(struct history *h, const struct sample_part *p, struct slot *s, uint32_t at)
{
    struct history_tokens t;
    const size_t picks = (size_t)p->tokens * p->top_k;
    free_slot(s);
    s->used = true, s->at = at;
    if (!history_tokens(h, at, &t) || !t.pick[p->layer]) return;
    s->count = t.count;
    s->id = memcpy(os_alloc(p->tokens * sizeof *s->id), t.id, t.count * sizeof *s->id);
    s->domain = os_alloc(p->tokens * sizeof *s->domain);
    s->pick = memcpy(os_alloc(picks * sizeof *s->pick), t.pick[p->layer],
                     picks * sizeof *s->pick);
    s->gate = os_alloc(picks * sizeof *s->gate);
    for (uint32_t i = 0; i < t.count; i++) s->domain[i] = t.domain ? t.domain[i] : HISTORY_NONE;
    for (size_t i = 0; i < picks; i++) s->gate[i] = t.gate[p->layer] ? t.gate[p->layer][i] : NAN;
}

// The slot of a step, read where it is not there: in place of one that is not in [low, high].
static struct slot *slot_of(struct history *h, struct sample_part *p, uint32_t at, uint32_t low,
                            uint32_t high)
{
    struct slot *unused = &p->slot[0];
    for (uint32_t i = 0; i < p->slots; i++) {
        struct slot *s = &p->slot[i];
        if (s->used && s->at == at) return s;
        if (!s->used || s->at < low || s->at > high) unused = s;
    }
    fill(h, p, unused, at);
    return unused;
}

static void append(struct sample *s, const struct slot *slot)
{
    const size_t picks = (size_t)s->tokens * s->top_k, more = (size_t)slot->count * s->top_k;
    if (!slot->count) return;
    memcpy(s->id + s->tokens, slot->id, slot->count * sizeof *s->id);
    memcpy(s->domain + s->tokens, slot->domain, slot->count * sizeof *s->domain);
    memcpy(s->pick + picks, slot->pick, more * sizeof *s->pick);
    memcpy(s->gate + picks, slot->gate, more * sizeof *s->gate);
    for (uint32_t i = 0; i < slot->count; i++) s->domains |= slot->domain[i] != HISTORY_NONE;
    s->tokens += slot->count;
}

static void gather(struct history *h, struct sample_part *p, uint32_t last)
{
    struct sample *s = &p->sample;
    uint32_t at[SAMPLE_STEPS] = {last}, count = 1;
    while (count < p->slots && at[count - 1] > 0) {
        const uint32_t before = history_tokens_at(h, at[count - 1] - 1);
        if (before == HISTORY_NONE) break;
        at[count++] = before;
    }
    s->tokens = 0, s->domains = false;
    s->version++;
    for (uint32_t i = 0; i < count; i++)
        append(s, slot_of(h, p, at[i], at[count - 1], at[0]));
    s->last_step = h->step[at[0]], s->first_step = h->step[at[count - 1]];
}

const struct sample *sample_get(struct view *v)
{
    struct history *h = v->history;
    struct sample_part **part = &v->parts->sample;
    const uint32_t last = h->layers && h->trace_tokens
                              ? history_tokens_at(h, history_traced(h, v->step)) : HISTORY_NONE;
    if (last == HISTORY_NONE) return NULL;
    struct sample_part *p = *part;
    if (p && (p->layer != v->layer || p->tokens != h->trace_tokens ||
              p->top_k != h->layer[v->layer].top_k || p->steps > h->steps))
        sample_part_free(part);
    if (!*part) *part = make_part(h, v->layer);
    p = *part;
    if (p->at != last) gather(h, p, last);
    p->at = last, p->steps = h->steps;
    return p->sample.tokens ? &p->sample : NULL;
}
