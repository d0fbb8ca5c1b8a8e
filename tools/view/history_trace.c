// SPDX-License-Identifier: MIT
// routing.trace and residency.trace behind the history: which steps were traced, and what is told
// of them when it is asked for. The files are read through src/trace.h alone.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/history_own.h"

struct history_trace {
    struct trace_reader *reader;
    uint32_t             room, stream_room, last_bytes; // of the last step
    uint32_t             asked, found;                  // by history_tokens_at
    // the tokens of a step
    uint32_t            *id, *domain, **pick;           // [layers] -> [tokens][top_k]
    float              **gate;
    const uint32_t     **shown_pick;
    const float        **shown_gate;
};

static bool is_there(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0;
}

// ---- opening

static void free_trace(struct history_trace **trace, uint32_t layers)
{
    struct history_trace *t = *trace;
    if (!t) return;
    trace_finish(&t->reader);
    for (uint32_t i = 0; i < layers; i++) {
        if (t->pick) free(t->pick[i]);
        if (t->gate) free(t->gate[i]);
    }
    free(t->id), free(t->domain), free(t->pick), free(t->gate);
    free(t->shown_pick), free(t->shown_gate), free(t);
    *trace = NULL;
}

static void end_trace(struct history *h)
{
    free_trace(&h->own->trace, h->layers);
    free(h->step), free(h->layer);
    for (uint32_t i = 0; i < h->domains; i++) free((char *)h->domain_name[i]);
    free(h->domain_name);
    h->step = NULL, h->layer = NULL, h->domain_name = NULL;
    h->steps = h->layers = h->experts = h->domains = 0;
}

static void end_places(struct history *h)
{
    free_trace(&h->own->residency, 0);
    h->own->placed = 0;
    free(h->place_step), free(h->stream);
    h->place_step = NULL, h->stream = NULL, h->places = 0;
}

void history_trace_free(struct history *h)
{
    end_trace(h);
    end_places(h);
}

static uint32_t groups_of(const struct history *h, uint32_t layer)
{
    const uint32_t groups = layer < COUNT_OF(h->own->groups) ? h->own->groups[layer] : 0;
    return groups && h->experts % groups == 0 ? groups : 1;
}

static void take_shape(struct history *h, const struct trace_shape *shape)
{
    h->experts = shape->experts, h->layers = shape->layers, h->domains = shape->domains;
    h->step_tokens = shape->step_tokens, h->trace_tokens = shape->trace_tokens;
    h->seq_len = shape->seq_len;
    h->layer = os_alloc((shape->layers + 1) * sizeof *h->layer);
    h->domain_name = os_alloc((shape->domains + 1) * sizeof *h->domain_name);
    for (uint32_t i = 0; i < shape->layers; i++)
        h->layer[i] = (struct history_layer){shape->layer[i].number, shape->layer[i].top_k,
                                             groups_of(h, shape->layer[i].number)};
    for (uint32_t i = 0; i < shape->domains; i++) h->domain_name[i] = os_strdup(shape->domain[i]);
}

static void make_rooms(const struct history *h, struct history_trace *t)
{
    const size_t tokens = h->trace_tokens + 1;
    t->id = os_alloc(tokens * sizeof *t->id);
    t->domain = os_alloc(tokens * sizeof *t->domain);
    t->pick = os_alloc((h->layers + 1) * sizeof *t->pick);
    t->gate = os_alloc((h->layers + 1) * sizeof *t->gate);
    t->shown_pick = os_alloc((h->layers + 1) * sizeof *t->shown_pick);
    t->shown_gate = os_alloc((h->layers + 1) * sizeof *t->shown_gate);
    for (uint32_t i = 0; i < h->layers; i++) {
        t->pick[i] = os_alloc(tokens * h->layer[i].top_k * sizeof *t->pick[i]);
        t->gate[i] = os_alloc(tokens * h->layer[i].top_k * sizeof *t->gate[i]);
    }
}

bool history_trace_begin(struct history *h)
{
    if (h->own->trace_refused || !is_there(h->own->trace_path)) return true; // not yet
    struct trace_reader *reader = trace_open(h->own->trace_path);
    h->own->trace_refused = !reader;
    if (!reader) return false;
    if (!trace_shape(reader)->experts) {
        log_error("%s: a trace of no experts; wanted that of a run", h->own->trace_path);
        h->own->trace_refused = true;
        trace_finish(&reader);
        return false;
    }
    struct history_trace *t = h->own->trace = os_alloc(sizeof *t);
    t->reader = reader;
    t->asked = HISTORY_NONE;
    take_shape(h, trace_shape(reader));
    make_rooms(h, t);
    if (!h->own->experts || h->own->experts == h->experts) return true;
    log_error("%s: a trace of %u experts, config.json beside it has %u; wanted this run's",
              h->own->trace_path, h->experts, h->own->experts);
    h->own->trace_refused = true;
    end_trace(h);
    return false;
}

// ---- what has grown

bool history_trace_poll(struct history *h)
{
    const struct trace_step *step;
    bool came = false;
    if (h->own->trace && trace_replaced(h->own->trace->reader)) end_trace(h), came = true;
    if (!h->own->trace && (!history_trace_begin(h) || !h->own->trace)) return came;
    struct history_trace *t = h->own->trace;
    const uint32_t count = trace_index(t->reader, &step);
    if (!count || (count == h->steps && step[count - 1].bytes == t->last_bytes)) return came;
    HISTORY_GROW(h->step, t->room, count);
    for (; h->steps < count; h->steps++) h->step[h->steps] = step[h->steps].step;
    t->last_bytes = step[count - 1].bytes;
    t->asked = HISTORY_NONE;
    return true;
}

// A residency trace of another shape, or one that does not open, is not shown; trace_open says why.
static bool begin_places(struct history *h)
{
    if (!h->own->trace || h->own->places_refused || !is_there(h->own->places_path)) return false;
    struct trace_reader *reader = trace_open(h->own->places_path);
    h->own->places_refused = !reader;
    if (!reader) return false;
    const struct trace_shape *shape = trace_shape(reader);
    if (shape->experts != h->experts || shape->layers != h->layers) {
        log_error("%s: of another model than routing.trace beside it; it is not shown",
                  h->own->places_path);
        h->own->places_refused = true;
        trace_finish(&reader);
        return false;
    }
    h->own->residency = os_alloc(sizeof *h->own->residency);
    h->own->residency->reader = reader;
    return true;
}

bool history_places_poll(struct history *h)
{
    const struct trace_step *step;
    struct trace_record record;
    bool came = false;
    if (h->own->residency && trace_replaced(h->own->residency->reader)) end_places(h), came = true;
    if (!h->own->residency && !begin_places(h)) return came;
    struct history_trace *t = h->own->residency;
    const uint32_t count = trace_index(t->reader, &step);
    HISTORY_GROW(h->place_step, t->room, count);
    HISTORY_GROW(h->stream, t->stream_room, count);
    for (; h->places < count; h->places++, came = true) {
        h->place_step[h->places] = step[h->places].step;
        h->stream[h->places] = (struct trace_stream){0};
        if (trace_find(t->reader, h->places, TRACE_NO_LAYER, TRACE_STREAM, &record))
            h->stream[h->places] = record.stream;
    }
    return came;
}

// ---- what is told of a step

static bool find(struct history_trace *t, const struct history *h, uint32_t at, uint32_t layer,
                 enum trace_kind kind, struct trace_record *out)
{
    return t && layer < h->layers &&
           trace_find(t->reader, at, (uint16_t)h->layer[layer].number, kind, out);
}

bool history_counts(struct history *h, uint32_t at, uint32_t layer, uint32_t *picks)
{
    struct trace_record record;
    const bool found = find(h->own->trace, h, at, layer, TRACE_COUNTS, &record);
    if (found) memcpy(picks, record.value, h->experts * sizeof *picks);
    else memset(picks, 0, h->experts * sizeof *picks);
    return found;
}

bool history_places(struct history *h, uint32_t at, uint32_t layer, uint8_t *place)
{
    struct trace_record record;
    if (!find(h->own->residency, h, at, layer, TRACE_RESIDENCY, &record)) return false;
    for (uint32_t e = 0; e < h->experts; e++) place[e] = (uint8_t)record.value[e];
    return true;
}

uint32_t history_tokens_at(struct history *h, uint32_t at)
{
    struct history_trace *t = h->own->trace;
    struct trace_record record;
    if (!t || !h->trace_tokens || at >= h->steps) return HISTORY_NONE;
    if (t->asked == at) return t->found;
    t->asked = at;
    for (t->found = at; t->found != HISTORY_NONE; t->found--) // below 0: HISTORY_NONE
        if (trace_find(t->reader, t->found, TRACE_NO_LAYER, TRACE_IDS, &record)) break;
    return t->found;
}

static void take_layer(struct history *h, struct history_trace *t, uint32_t at, uint32_t layer)
{
    const size_t count = (size_t)h->trace_tokens * h->layer[layer].top_k;
    struct trace_record record;
    t->shown_pick[layer] = NULL, t->shown_gate[layer] = NULL;
    if (!find(t, h, at, layer, TRACE_PICKS, &record)) return;
    t->shown_pick[layer] = memcpy(t->pick[layer], record.value, count * sizeof(uint32_t));
    if (find(t, h, at, layer, TRACE_GATES, &record))
        t->shown_gate[layer] = memcpy(t->gate[layer], record.gate, count * sizeof(float));
}

bool history_tokens(struct history *h, uint32_t at, struct history_tokens *out)
{
    struct history_trace *t = h->own->trace;
    struct trace_record record;
    *out = (struct history_tokens){0};
    if (!t || !trace_find(t->reader, at, TRACE_NO_LAYER, TRACE_IDS, &record)) return false;
    out->count = record.count;
    out->id = memcpy(t->id, record.value, record.count * sizeof *t->id);
    if (trace_find(t->reader, at, TRACE_NO_LAYER, TRACE_DOMAINS, &record)) {
        for (uint32_t i = 0; i < out->count; i++)
            t->domain[i] = record.value[i] < h->domains ? record.value[i] : HISTORY_NONE;
        out->domain = t->domain;
    }
    for (uint32_t i = 0; i < h->layers; i++) take_layer(h, t, at, i);
    out->pick = t->shown_pick, out->gate = t->shown_gate;
    return true;
}
