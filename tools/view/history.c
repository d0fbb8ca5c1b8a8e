// SPDX-License-Identifier: MIT
// A run folder: opening, what has grown, looking things up. See history.h.
#include "tools/view/history.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/config.h"
#include "tools/view/history_own.h"

// ---- opening

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool has_run(const struct history *h)
{
    if (!is_folder(h->folder)) {
        log_error("%s: no such folder; wanted that of a run (vkmoe train --out DIR)", h->folder);
        return false;
    }
    if (file_exists(h->own->metrics.path) || file_exists(h->own->trace_path)) return true;
    log_error("%s: no metrics.jsonl and no routing.trace; wanted the folder of a run", h->folder);
    return false;
}

// The experts that the run's config wants: a trace of others is another run's.
static bool read_config(struct history *h)
{
    const char *path = arena_printf(h->own->arena, "%s/config.json", h->folder);
    struct config config;
    if (!file_exists(path)) return true;
    if (!config_read(&config, path, NULL, 0)) return false;
    h->own->experts = config.num_experts;
    for (uint32_t i = 0; i < config.num_hidden_layers; i++)
        h->own->groups[i] = config.moe_layer[i] ? config.layer_router[i].n_domains : 0;
    return true;
}

static bool open_parts(struct history *h)
{
    struct history_own *own = h->own;
    own->metrics.path = arena_printf(own->arena, "%s/metrics.jsonl", h->folder);
    own->places_path = arena_printf(own->arena, "%s/residency.trace", h->folder);
    own->trace_path = arena_printf(own->arena, "%s/routing.trace", h->folder);
    if (!has_run(h)) return false;
    const char *tokenizer = arena_printf(own->arena, "%s/tokenizer.json", h->folder);
    if (file_exists(tokenizer) && !(own->tokenizer = tokenizer_load(tokenizer))) return false;
    return read_config(h) && history_trace_begin(h);
}

struct history *history_open(const char *folder)
{
    struct history *h = os_alloc(sizeof *h);
    h->own = os_alloc(sizeof *h->own);
    h->own->arena = arena_create("history");
    h->folder = arena_strdup(h->own->arena, folder);
    if (!open_parts(h)) history_close(&h);
    return h;
}

void history_close(struct history **history)
{
    struct history *h = *history;
    if (!h) return;
    history_metrics_free(h);
    history_trace_free(h);
    tokenizer_destroy(&h->own->tokenizer);
    arena_destroy(&h->own->arena);
    free(h->own);
    free(h);
    *history = NULL;
}

// ---- what has grown

// What the stream did becomes columns beside the numbers of the same step.
static void put_stream(struct history *h)
{
    for (; h->own->placed < h->places; h->own->placed++) {
        const uint32_t step = h->place_step[h->own->placed], row = history_row(h, step);
        const struct trace_stream *s = &h->stream[h->own->placed];
        const double uses = (double)s->hits + (double)s->misses;
        if (!h->rows || h->row_step[h->rows - 1] < step) return; // that line is not here yet
        if (row == HISTORY_NONE || h->row_step[row] != step) continue;
        if (uses > 0) history_metrics_put(h, row, "stream.hit_rate", -1, (double)s->hits / uses);
        history_metrics_put(h, row, "stream.wait_ms", -1, (double)s->wait_us / 1000);
        history_metrics_put(h, row, "stream.load_ms", -1, (double)s->load_us / 1000);
        history_metrics_put(h, row, "stream.bytes", -1, (double)s->bytes);
        history_metrics_put(h, row, "stream.written", -1, (double)s->written);
    }
}

static void find_ends(struct history *h)
{
    h->first_step = h->rows ? h->row_step[0] : 0;
    h->last_step = h->rows ? h->row_step[h->rows - 1] : 0;
    if (h->places) h->last_step = max_u32(h->last_step, h->place_step[h->places - 1]);
    if (!h->steps) return;
    if (!h->first_step || h->step[0] < h->first_step) h->first_step = h->step[0];
    h->last_step = max_u32(h->last_step, h->step[h->steps - 1]);
}

bool history_poll(struct history *h, double ms)
{
    const double start = os_seconds();
    const bool traced = history_trace_poll(h), placed = history_places_poll(h);
    const bool measured = history_metrics_poll(h, ms > 0 ? start + ms / 1000 : 0);
    if (!traced && !placed && !measured) return false;
    put_stream(h);
    find_ends(h);
    h->version++;
    return true;
}

bool history_complete(const struct history *h) { return h->own->metrics_end; }

// ---- looking things up

const struct history_series *history_find(const struct history *h, const char *name, int layer)
{
    for (uint32_t i = 0; i < h->series_count; i++)
        if (h->series[i].layer == layer && strcmp(h->series[i].name, name) == 0)
            return &h->series[i];
    return NULL;
}

// The last of `count` ascending steps that is not above `step`.
static uint32_t last_at(const uint32_t *steps, uint32_t count, uint32_t step)
{
    uint32_t low = 0, high = count; // steps[low - 1] <= step < steps[high]
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (steps[middle] <= step)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? low - 1 : HISTORY_NONE;
}

uint32_t history_row(const struct history *h, uint32_t step)
{
    return last_at(h->row_step, h->rows, step);
}

uint32_t history_traced(const struct history *h, uint32_t step)
{
    return last_at(h->step, h->steps, step);
}

// ---- text

size_t history_bytes(const struct history *h, uint32_t id, char *out, size_t bytes)
{
    if (!h->own->tokenizer) return 0;
    struct bytes text = {0};
    tokenizer_decode(h->own->tokenizer, &id, 1, &text);
    const size_t count = min_u64(text.count, bytes);
    if (count) memcpy(out, text.data, count);
    bytes_free(&text);
    return count;
}

// Bytes of the character that begins at `at`; 0 where it is no UTF-8.
static size_t character(const char *at, const char *end)
{
    const uint8_t lead = (uint8_t)*at;
    const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead >= 0x80 && (lead < 0xc2 || lead > 0xf4)) return 0;
    if ((size_t)(end - at) < length) return 0;
    for (size_t i = 1; i < length; i++)
        if (((uint8_t)at[i] & 0xc0) != 0x80) return 0;
    return length;
}

static size_t add(char *out, size_t bytes, size_t at, const char *text, size_t length)
{
    if (at + length + 1 > bytes) return at;
    memcpy(out + at, text, length);
    out[at + length] = 0;
    return at + length;
}

size_t history_text(const struct history *h, uint32_t id, char *out, size_t bytes)
{
    char text[256], escape[24];
    const size_t count = history_bytes(h, id, text, sizeof text);
    size_t at = 0;
    if (bytes) out[0] = 0;
    for (const char *from = text, *end = text + count; from < end;) {
        const size_t length = character(from, end);
        if (*from == '\n') at = add(out, bytes, at, "\u21b5", 3);
        else if (*from == '\t') at = add(out, bytes, at, "\u21e5", 3);
        else if (length && (uint8_t)*from >= 0x20 && *from != 0x7f)
            at = add(out, bytes, at, from, length);
        else {
            snprintf(escape, sizeof escape, "\\x%02x", (uint8_t)*from);
            at = add(out, bytes, at, escape, strlen(escape));
        }
        from += max_u64(length, 1);
    }
    if (count) return at;
    snprintf(escape, sizeof escape, "<%u>", id);
    return add(out, bytes, 0, escape, strlen(escape));
}
