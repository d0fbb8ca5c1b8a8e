// SPDX-License-Identifier: MIT
// routing.trace behind the history: which steps were traced, their picks and tokens. The file is
// read through src/trace.h alone.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/trace.h"
#include "tools/view/history_own.h"

// A record as it was read.
struct kept { uint32_t step, layer, kind, count, *value; };

struct history_trace {
    struct trace_reader *reader;
    struct kept         *kept;
    uint32_t             count, room, step_room;
    uint32_t            *first;  // [steps] record of a step
    uint32_t             first_room;
    ino_t                inode;
    dev_t                device;
    const uint32_t     **pick;   // [layers]
};

// ---- opening

static void trace_end(struct history *h)
{
    struct history_trace *t = h->own->trace;
    if (!t) return;
    trace_finish(&t->reader);
    for (uint32_t i = 0; i < t->count; i++) free(t->kept[i].value);
    free(t->kept), free(t->first), free(t->pick), free(t);
    free(h->step), free(h->layer);
    h->step = NULL, h->layer = NULL, h->own->trace = NULL;
    h->steps = h->layers = h->experts = 0;
}

void history_trace_free(struct history *h) { trace_end(h); }

static void take_shape(struct history *h, const struct trace_shape *shape)
{
    h->experts = shape->experts, h->layers = shape->layers;
    h->step_tokens = shape->step_tokens, h->trace_tokens = shape->trace_tokens;
    h->seq_len = shape->seq_len;
    h->layer = os_alloc((shape->layers + 1) * sizeof *h->layer);
    for (uint32_t i = 0; i < shape->layers; i++)
        h->layer[i] = (struct history_layer){shape->layer[i].number, shape->layer[i].top_k};
}

bool history_trace_begin(struct history *h)
{
    struct stat info;
    if (stat(h->own->trace_path, &info) != 0 || info.st_size == 0) return true; // not yet
    struct trace_reader *reader = trace_open(h->own->trace_path);
    if (!reader) return false;
    struct history_trace *t = h->own->trace = os_alloc(sizeof *t);
    t->reader = reader;
    t->inode = info.st_ino, t->device = info.st_dev;
    take_shape(h, trace_shape(reader));
    t->pick = os_alloc((h->layers + 1) * sizeof *t->pick);
    if (!h->own->experts || h->own->experts == h->experts) return true;
    log_error("%s: a trace of %u experts, config.json beside it has %u; wanted this run's",
              h->own->trace_path, h->experts, h->own->experts);
    return false;
}

// ---- reading

static uint32_t index_of(const struct history *h, uint32_t number)
{
    for (uint32_t i = 0; i < h->layers; i++)
        if (h->layer[i].number == number) return i;
    return h->layers;
}

static void keep(struct history *h, const struct trace_record *record)
{
    struct history_trace *t = h->own->trace;
    HISTORY_GROW(t->kept, t->room, t->count + 1);
    struct kept *k = &t->kept[t->count++];
    *k = (struct kept){record->step, index_of(h, record->layer), record->kind, record->count, NULL};
    k->value = os_alloc((record->count + 1ull) * sizeof *k->value);
    memcpy(k->value, record->value, record->count * sizeof *k->value);
    if (h->steps && h->step[h->steps - 1] >= record->step) return;
    HISTORY_GROW(h->step, t->step_room, h->steps + 1);
    HISTORY_GROW(t->first, t->first_room, h->steps + 1);
    t->first[h->steps] = t->count - 1;
    h->step[h->steps++] = record->step;
}

bool history_trace_poll(struct history *h, double deadline)
{
    struct trace_record record;
    struct stat info;
    bool came = false;
    h->own->trace_end = true;
    const bool there = stat(h->own->trace_path, &info) == 0;
    struct history_trace *t = h->own->trace;
    if (t && there && (info.st_ino != t->inode || info.st_dev != t->device)) {
        trace_end(h);
        came = true;
    }
    if (!h->own->trace && (!there || !history_trace_begin(h) || !h->own->trace)) return came;
    while (trace_next(h->own->trace->reader, &record)) {
        keep(h, &record);
        came = true;
        if (deadline > 0 && os_seconds() > deadline) {
            h->own->trace_end = false;
            break;
        }
    }
    return came;
}

static const struct kept *find(const struct history *h, uint32_t at, uint32_t layer,
                               enum trace_kind kind)
{
    const struct history_trace *t = h->own->trace;
    if (!t || at >= h->steps) return NULL;
    for (uint32_t i = t->first[at]; i < t->count && t->kept[i].step == h->step[at]; i++)
        if (t->kept[i].kind == (uint32_t)kind && t->kept[i].layer == layer) return &t->kept[i];
    return NULL;
}

bool history_counts(struct history *h, uint32_t at, uint32_t layer, uint32_t *picks)
{
    const struct kept *k = find(h, at, layer, TRACE_COUNTS);
    const bool found = k && k->count == h->experts;
    if (found) memcpy(picks, k->value, h->experts * sizeof *picks);
    else memset(picks, 0, h->experts * sizeof *picks);
    return found;
}

bool history_tokens(struct history *h, uint32_t at, struct history_tokens *out)
{
    const struct kept *ids = find(h, at, h->layers, TRACE_IDS);
    *out = (struct history_tokens){0};
    if (!ids) return false;
    out->count = ids->count, out->id = ids->value;
    out->pick = h->own->trace->pick;
    for (uint32_t i = 0; i < h->layers; i++) {
        const struct kept *k = find(h, at, i, TRACE_PICKS);
        const bool whole = k && k->count == ids->count * h->layer[i].top_k;
        h->own->trace->pick[i] = whole ? k->value : NULL;
    }
    return true;
}
