// SPDX-License-Identifier: MIT
// Traces, read: see trace.h. The file is read through one window of memory, never mapped: it may be
// cut while it is looked at. Nothing in it is believed before its check is right, except the sizes
// of records, by which the index walks.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "src/trace_format.h"

enum { WINDOW = 1 << 20, STEPS_MOST = 1 << 23, EXPERTS_MOST = 1 << 24, TOKENS_MOST = 1 << 20 };

struct trace_reader {
    char              *path;
    int                file;
    struct trace_shape shape;
    uint64_t           at;        // of the next record
    uint32_t           at_step;   // steps before it are behind us
    // what of the file is in memory
    uint8_t           *window;
    uint64_t           window_at, window_bytes, window_most;
    uint32_t          *value;
    float             *gate;
    uint64_t           most;      // values of a record
    struct trace_step *step;
    uint32_t           step_count, step_capacity;
    uint64_t           indexed;   // bytes that the index knows
    struct arena      *arena;
};

// Bytes of the file at `at`, or NULL: it does not have them. `more`: read ahead so far.
static const uint8_t *look(struct trace_reader *r, uint64_t at, uint64_t bytes, uint64_t more)
{
    if (at >= r->window_at && at + bytes <= r->window_at + r->window_bytes)
        return r->window + (at - r->window_at);
    if (bytes > r->window_most) return NULL;
    const uint64_t want = min_u64(max_u64(bytes, more), r->window_most);
    r->window_at = at;
    r->window_bytes = 0;
    while (r->window_bytes < want) {
        const ssize_t got = pread(r->file, r->window + r->window_bytes, want - r->window_bytes,
                                  (off_t)(at + r->window_bytes));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        r->window_bytes += (uint64_t)got;
    }
    return r->window_bytes >= bytes ? r->window : NULL;
}

// ---- opening

static bool read_shape(struct trace_reader *r, const uint8_t *at, const uint8_t *end)
{
    struct trace_shape *s = &r->shape;
    s->layer = arena_array(r->arena, s->layers, sizeof *s->layer);
    if (at + s->layers * sizeof *s->layer > end) return false;
    memcpy(s->layer, at, s->layers * sizeof *s->layer);
    at += s->layers * sizeof *s->layer;
    s->domain = arena_array(r->arena, s->domains, sizeof *s->domain);
    for (uint32_t d = 0; d < s->domains; d++) {
        if (at == end || *at > end - at - 1) return false;
        s->domain[d] = arena_alloc(r->arena, *at + 1u);
        memcpy(s->domain[d], at + 1, *at);
        at += 1 + *at;
    }
    return at == end;
}

static const char *read_header(struct trace_reader *r)
{
    uint32_t words[8];
    const uint8_t *at = look(r, 0, TRACE_HEADER, TRACE_HEADER);
    if (!at || memcmp(at, trace_magic, sizeof trace_magic) != 0) return "not a routing trace";
    memcpy(words, at + sizeof trace_magic, sizeof words);
    if (words[0] < 1 || words[0] > TRACE_VERSION) return "a version this program does not know";
    r->shape = (struct trace_shape){.version = words[0], .experts = words[2], .layers = words[3],
                                    .step_tokens = words[4], .trace_tokens = words[5],
                                    .seq_len = words[6],
                                    .domains = words[0] > 1 ? words[7] : 0};
    const struct trace_shape *s = &r->shape;
    if (s->layers > CONFIG_MAX_LAYERS || s->experts > EXPERTS_MOST ||
        s->trace_tokens > TOKENS_MOST || s->domains > TRACE_DOMAINS_MOST ||
        words[1] < TRACE_HEADER || words[1] > r->window_most)
        return "a damaged header";
    at = look(r, 0, words[1], words[1]);
    if (!at || !read_shape(r, at + TRACE_HEADER, at + words[1])) return "a damaged header";
    r->at = r->indexed = words[1];
    return NULL;
}

// Room for the largest record there can be.
static bool make_room(struct trace_reader *r)
{
    const struct trace_shape *s = &r->shape;
    uint64_t picks = s->trace_tokens;
    for (uint32_t i = 0; i < s->layers; i++)
        picks = max_u64(picks, (uint64_t)s->trace_tokens * s->layer[i].top_k);
    r->most = max_u64(s->experts, picks);
    if (r->most > 1 << 28) return false;
    const uint64_t payload = max_u64(10ull * s->experts, 5 * picks) + 128; // a zero and its run
    free(r->window);
    r->window_bytes = 0;
    r->window_most = max_u64(WINDOW, TRACE_RECORD + payload);
    r->window = malloc(r->window_most);
    r->value = malloc((r->most + 1) * sizeof *r->value);
    r->gate = malloc((picks + 1) * sizeof *r->gate);
    return r->window && r->value && r->gate;
}

struct trace_reader *trace_open(const char *path)
{
    struct arena *arena = arena_create("trace reader");
    struct trace_reader *r = arena_alloc(arena, sizeof *r);
    r->arena = arena;
    r->path = arena_strdup(arena, path);
    r->window_most = WINDOW;
    r->window = malloc(WINDOW);
    r->file = open(path, O_RDONLY | O_CLOEXEC);
    const char *wrong = NULL;
    if (r->file < 0) log_error("%s: cannot open: %s", path, strerror(errno));
    else if ((wrong = read_header(r)) || (wrong = make_room(r) ? NULL : "a damaged header"))
        log_error("%s: found %s, wanted routing.trace of version 1 or %d", path, wrong,
                  TRACE_VERSION);
    if (r->file < 0 || wrong) trace_finish(&r);
    return r;
}

void trace_finish(struct trace_reader **reader)
{
    struct trace_reader *r = *reader;
    if (!r) return;
    if (r->file >= 0) close(r->file);
    free(r->window);
    free(r->value);
    free(r->gate);
    free(r->step);
    struct arena *arena = r->arena;
    arena_destroy(&arena);
    *reader = NULL;
}

const struct trace_shape *trace_shape(const struct trace_reader *r) { return &r->shape; }

bool trace_replaced(const struct trace_reader *r)
{
    struct stat there, own;
    return stat(r->path, &there) == 0 && fstat(r->file, &own) == 0 &&
           (there.st_ino != own.st_ino || there.st_dev != own.st_dev ||
            (uint64_t)own.st_size < r->indexed);
}

// ---- records

static bool get_number(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    *out = 0;
    for (uint32_t shift = 0; *at < end && shift < 64; shift += 7) {
        const uint8_t byte = *(*at)++;
        if (shift == 63 && byte > 1) return false;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return true;
    }
    return false;
}

// `value` so many times.
static bool put_values(struct trace_reader *r, struct trace_record *out, uint64_t value,
                       uint64_t times)
{
    if (value > UINT32_MAX || times > r->most - out->count) return false;
    for (uint64_t i = 0; i < times; i++) r->value[out->count++] = (uint32_t)value;
    return true;
}

static bool decode_stream(const uint8_t *at, const uint8_t *end, struct trace_stream *s)
{
    uint64_t *const number[] = {&s->hits, &s->misses, &s->prefetched, &s->bytes, &s->written,
                                &s->load_us, &s->wait_us};
    for (size_t i = 0; i < COUNT_OF(number); i++)
        if (!get_number(&at, end, number[i])) return false;
    return at == end;
}

static bool decode_gates(struct trace_reader *r, const uint8_t *at, const uint8_t *end,
                         struct trace_record *out)
{
    float most;
    if (end - at < (ptrdiff_t)sizeof most) return false;
    memcpy(&most, at, sizeof most);
    at += sizeof most;
    if (!isfinite(most) || most < 0) return false;
    for (; at < end; at++) r->gate[out->count++] = (float)*at / TRACE_GATE_LEVELS * most;
    out->gate = r->gate;
    return true;
}

static bool decode_numbers(struct trace_reader *r, const uint8_t *at, const uint8_t *end,
                           struct trace_record *out)
{
    uint64_t value, zeros = 0;
    while (at < end) {
        uint64_t times = 1;
        if (!get_number(&at, end, &value)) return false;
        if (out->kind == TRACE_PICKS) {
            if (value > r->shape.experts) return false;
            value = value ? value - 1 : TRACE_NO_PICK;
        }
        if (out->kind == TRACE_RESIDENCY) times = value / TRACE_PLACES + 1, value %= TRACE_PLACES;
        if (!put_values(r, out, value, times)) return false;
        if (out->kind != TRACE_COUNTS || value) continue;
        if (!get_number(&at, end, &zeros) || !put_values(r, out, 0, zeros)) return false;
    }
    return true;
}

// How many values a record of that kind has; 0: it is of no layer, or of no kind, that there is.
static uint64_t values_of(const struct trace_reader *r, const struct trace_head *head)
{
    const struct trace_shape *s = &r->shape;
    const bool whole = head->kind == TRACE_IDS || head->kind == TRACE_DOMAINS ||
                       head->kind == TRACE_STREAM;
    uint32_t layer = 0;
    while (layer < s->layers && s->layer[layer].number != head->layer) layer++;
    if (whole != (head->layer == TRACE_NO_LAYER) || (!whole && layer == s->layers)) return 0;
    switch (head->kind) {
    case TRACE_COUNTS: case TRACE_RESIDENCY: return s->experts;
    case TRACE_IDS: case TRACE_DOMAINS: return s->trace_tokens;
    case TRACE_PICKS: case TRACE_GATES: return (uint64_t)s->trace_tokens * s->layer[layer].top_k;
    case TRACE_STREAM: return 1;
    default: return 0;
    }
}

static bool decode(struct trace_reader *r, const struct trace_head *head, const uint8_t *payload,
                   struct trace_record *out)
{
    const uint64_t count = values_of(r, head);
    const uint8_t *end = payload + head->bytes;
    bool ok = false;
    *out = (struct trace_record){.step = head->step, .layer = head->layer, .value = r->value,
                                 .kind = (enum trace_kind)head->kind};
    switch (out->kind) {
    case TRACE_COUNTS: case TRACE_IDS: case TRACE_PICKS: case TRACE_RESIDENCY:
        ok = decode_numbers(r, payload, end, out);
        break;
    case TRACE_GATES:
        ok = head->bytes == count + sizeof(float) && decode_gates(r, payload, end, out);
        break;
    case TRACE_DOMAINS:
        ok = head->bytes == count;
        for (; ok && out->count < count; out->count++)
            r->value[out->count] = payload[out->count] < r->shape.domains ? payload[out->count]
                                                                          : TRACE_NO_DOMAIN;
        break;
    case TRACE_STREAM:
        out->count = 1;
        ok = decode_stream(payload, end, &out->stream);
        break;
    }
    return ok && count > 0 && out->count == count;
}

// The record at `at` whose head is copied; NULL: it is not all there, or its sizes are nonsense.
static const uint8_t *record_at(struct trace_reader *r, uint64_t at, uint64_t ahead,
                                struct trace_head *head)
{
    const uint8_t *record = look(r, at, TRACE_RECORD, ahead);
    if (!record) return NULL;
    memcpy(head, record, TRACE_RECORD);
    if (head->bytes > r->window_most - TRACE_RECORD) return NULL;
    record = look(r, at, TRACE_RECORD + (uint64_t)head->bytes, ahead);
    return record ? record + TRACE_RECORD : NULL;
}

bool trace_next(struct trace_reader *r, struct trace_record *out)
{
    struct trace_head head;
    for (const uint8_t *payload; (payload = record_at(r, r->at, WINDOW, &head));) {
        if (head.check != trace_check(&head, payload) || head.step < r->at_step) return false;
        r->at_step = head.step;
        r->at += TRACE_RECORD + head.bytes;
        if (head.kind < TRACE_COUNTS || head.kind > TRACE_STREAM) continue;
        if (decode(r, &head, payload, out)) return true;
        r->at -= TRACE_RECORD + head.bytes;
        return false;
    }
    return false;
}

// ---- the index

static bool note_step(struct trace_reader *r, const struct trace_head *head)
{
    const uint32_t bytes = TRACE_RECORD + head->bytes;
    struct trace_step *last = r->step_count ? &r->step[r->step_count - 1] : NULL;
    if (last && head->step < last->step) return false;
    if (last && head->step == last->step) {
        if (bytes > UINT32_MAX - last->bytes) return false;
        last->bytes += bytes;
        return true;
    }
    if (r->step_count == STEPS_MOST) return false;
    if (r->step_count == r->step_capacity) {
        r->step_capacity = r->step_capacity ? 2 * r->step_capacity : 1024;
        struct trace_step *grown = realloc(r->step, r->step_capacity * sizeof *grown);
        if (!grown) return false;
        r->step = grown;
    }
    r->step[r->step_count++] = (struct trace_step){r->indexed, bytes, head->step};
    return true;
}

uint32_t trace_index(struct trace_reader *r, const struct trace_step **steps)
{
    struct trace_head head;
    struct stat info;
    const uint64_t end = fstat(r->file, &info) == 0 ? (uint64_t)info.st_size : 0;
    while (r->indexed + TRACE_RECORD <= end) {
        const uint8_t *at = look(r, r->indexed, TRACE_RECORD, WINDOW);
        if (!at) break;
        memcpy(&head, at, TRACE_RECORD);
        if (head.bytes > r->window_most - TRACE_RECORD ||
            TRACE_RECORD + (uint64_t)head.bytes > end - r->indexed || !note_step(r, &head))
            break;
        r->indexed += TRACE_RECORD + head.bytes;
    }
    *steps = r->step;
    return r->step_count;
}

void trace_seek(struct trace_reader *r, uint32_t index)
{
    if (index >= r->step_count) return;
    r->at = r->step[index].at;
    r->at_step = r->step[index].step;
}

bool trace_find(struct trace_reader *r, uint32_t index, uint16_t layer, enum trace_kind kind,
                struct trace_record *out)
{
    struct trace_head head;
    if (index >= r->step_count) return false;
    const struct trace_step *step = &r->step[index];
    for (uint64_t at = step->at, end = at + step->bytes; at < end;) {
        const uint8_t *record = record_at(r, at, end - at, &head);
        if (!record) return false;
        if (head.layer == layer && head.kind == kind)
            return head.check == trace_check(&head, record) && decode(r, &head, record, out);
        at += TRACE_RECORD + head.bytes;
    }
    return false;
}
