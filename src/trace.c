// SPDX-License-Identifier: MIT
// routing.trace, written and read: see trace.h.
#include "src/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"

static const char magic[8] = {'v', 'k', 'm', 'o', 'e', 't', 'r', 'c'};
enum { HEADER = 40, RECORD = 16 }; // bytes

struct record_head { uint32_t bytes, check, step; uint16_t layer; uint8_t kind, zero; };

struct trace_writer {
    char        *path;
    FILE        *file;
    struct trace_shape shape;
    uint32_t     every;
    uint64_t     bytes, limit;
    struct bytes records;  // of the step
    bool         failed;
    struct arena *arena;
};

static uint32_t check_of(const struct record_head *head, const uint8_t *payload)
{
    uint32_t hash = 0x811c9dc5u;
    const uint8_t *own = (const uint8_t *)head + 8;
    for (int i = 0; i < 8; i++) hash = (hash ^ own[i]) * 0x01000193u;
    for (uint32_t i = 0; i < head->bytes; i++) hash = (hash ^ payload[i]) * 0x01000193u;
    return hash;
}

// ---- the shape

static struct trace_shape shape_of(const struct config *c, struct arena *arena)
{
    struct trace_shape s = {.experts = c->num_experts, .seq_len = c->seq_len,
                            .trace_tokens = min_u32(c->trace_tokens, c->batch_size * c->seq_len),
                            .step_tokens =
                                c->batch_size * c->seq_len * c->gradient_accumulation_steps};
    s.layer = arena_array(arena, c->num_hidden_layers, sizeof *s.layer);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i])
            s.layer[s.layers++] = (struct trace_layer){(uint16_t)i,
                                                       (uint16_t)c->layer_router[i].top_k};
    return s;
}

static void put_header(struct bytes *out, const struct trace_shape *s)
{
    const uint32_t words[] = {TRACE_VERSION, HEADER + 4 * s->layers, s->experts, s->layers,
                              s->step_tokens, s->trace_tokens, s->seq_len, 0};
    bytes_append(out, magic, sizeof magic);
    bytes_append(out, words, sizeof words);
    bytes_append(out, s->layer, s->layers * sizeof *s->layer);
}

static uint32_t leb_bytes(uint64_t value)
{
    uint32_t bytes = 1;
    while (value >>= 7) bytes++;
    return bytes;
}

// Most bytes that the records of a step can take.
static uint64_t step_bytes(const struct trace_shape *s)
{
    uint64_t bytes = 0;
    if (s->trace_tokens) bytes += RECORD + 5ull * s->trace_tokens;
    for (uint32_t i = 0; i < s->layers; i++) {
        const uint64_t picks = (uint64_t)s->step_tokens * s->layer[i].top_k;
        // so many experts at most have a pick, each with a run of zeros beside it
        const uint64_t taken = min_u64(s->experts, picks);
        bytes += RECORD + taken * leb_bytes(picks / max_u64(taken, 1)) + taken +
                 2 * min_u64(s->experts, taken + 1) * leb_bytes(s->experts);
        const uint64_t ids = (uint64_t)s->trace_tokens * s->layer[i].top_k;
        if (ids) bytes += RECORD + ids * leb_bytes(s->experts);
    }
    return bytes;
}

// ---- opening

// Bytes of the file that are whole and of steps up to last_step; 0: another trace.
static uint64_t kept_bytes(const uint8_t *data, uint64_t bytes, const struct bytes *header,
                           uint32_t last_step)
{
    if (bytes < header->count || memcmp(data, header->data, header->count) != 0) return 0;
    uint64_t at = header->count;
    for (struct record_head head; bytes - at >= RECORD; at += RECORD + head.bytes) {
        memcpy(&head, data + at, RECORD);
        if (head.bytes > bytes - at - RECORD || head.step > last_step) break;
        if (head.check != check_of(&head, data + at + RECORD)) break;
    }
    return at;
}

static bool rewrite(struct trace_writer *w, uint32_t last_step)
{
    struct bytes header = {0};
    void *data = NULL;
    uint64_t bytes = 0;
    put_header(&header, &w->shape);
    bool ok = !last_step || !file_exists(w->path) || file_read(w->path, 0, &data, &bytes);
    w->bytes = ok && data ? kept_bytes(data, bytes, &header, last_step) : 0;
    struct file_writer *writer = ok ? file_writer_open(w->path) : NULL;
    ok = writer && (w->bytes ? file_writer_write(writer, data, w->bytes)
                             : file_writer_write(writer, header.data, header.count));
    w->bytes = max_u64(w->bytes, header.count);
    if (ok) ok = file_writer_commit(&writer);
    else if (writer) file_writer_abort(&writer);
    bytes_free(&header);
    free(data);
    return ok;
}

struct trace_writer *trace_create(const char *path, const struct config *config,
                                  uint32_t last_step)
{
    struct arena *arena = arena_create("trace");
    struct trace_writer *w = arena_alloc(arena, sizeof *w);
    w->arena = arena;
    w->path = arena_strdup(arena, path);
    w->shape = shape_of(config, arena);
    w->limit = (uint64_t)config->trace_mib << 20;
    const uint64_t steps = max_u64(w->limit / step_bytes(&w->shape), 1);
    w->every = (uint32_t)max_u64((config->steps + steps - 1) / steps, 1);
    if (!rewrite(w, last_step)) goto fail;
    w->file = fopen(path, "ab");
    if (w->file) return w;
    log_error("%s: cannot append: %s", path, strerror(errno));
fail:
    trace_close(&w);
    return NULL;
}

void trace_close(struct trace_writer **writer)
{
    struct trace_writer *w = *writer;
    if (!w) return;
    if (w->file && fclose(w->file) != 0 && !w->failed)
        log_error("%s: cannot write: %s", w->path, strerror(errno));
    bytes_free(&w->records);
    struct arena *arena = w->arena;
    arena_destroy(&arena);
    *writer = NULL;
}

// ---- writing

bool trace_wants(const struct trace_writer *w, uint32_t step)
{
    return !w->failed && (step == 1 || step % w->every == 0);
}

static void put_number(struct bytes *out, uint32_t value)
{
    uint8_t byte[5];
    size_t count = 0;
    do byte[count++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    while (value >>= 7);
    bytes_append(out, byte, count);
}

static size_t begin_record(struct trace_writer *w, uint32_t step, uint16_t layer,
                           enum trace_kind kind)
{
    const struct record_head head = {.step = step, .layer = layer, .kind = (uint8_t)kind};
    const size_t at = w->records.count;
    bytes_append(&w->records, &head, RECORD);
    return at;
}

static void end_record(struct trace_writer *w, size_t at)
{
    struct record_head head;
    memcpy(&head, w->records.data + at, RECORD);
    head.bytes = (uint32_t)(w->records.count - at - RECORD);
    head.check = check_of(&head, w->records.data + at + RECORD);
    memcpy(w->records.data + at, &head, RECORD);
}

void trace_counts(struct trace_writer *w, uint32_t step, uint32_t index, const float *counts)
{
    const uint32_t experts = w->shape.experts;
    const size_t at = begin_record(w, step, w->shape.layer[index].number, TRACE_COUNTS);
    for (uint32_t e = 0; e < experts;) {
        const uint32_t count = (uint32_t)counts[e++];
        put_number(&w->records, count);
        if (count) continue;
        const uint32_t first = e;
        while (e < experts && !(counts[e] > 0)) e++;
        put_number(&w->records, e - first);
    }
    end_record(w, at);
}

void trace_ids(struct trace_writer *w, uint32_t step, const uint32_t *ids)
{
    if (!w->shape.trace_tokens) return;
    const size_t at = begin_record(w, step, TRACE_NO_LAYER, TRACE_IDS);
    for (uint32_t i = 0; i < w->shape.trace_tokens; i++) put_number(&w->records, ids[i]);
    end_record(w, at);
}

void trace_picks(struct trace_writer *w, uint32_t step, uint32_t index, const uint32_t *picks)
{
    const uint32_t count = w->shape.trace_tokens * w->shape.layer[index].top_k;
    if (!count) return;
    const size_t at = begin_record(w, step, w->shape.layer[index].number, TRACE_PICKS);
    for (uint32_t i = 0; i < count; i++)
        put_number(&w->records, picks[i] < w->shape.experts ? picks[i] + 1 : 0);
    end_record(w, at);
}

bool trace_flush(struct trace_writer *w)
{
    const size_t count = w->records.count;
    w->records.count = 0;
    if (w->failed || !count) return !w->failed;
    if (w->bytes + count > w->limit) {
        w->failed = true;
        log_info("%s: full at %llu MiB (trace_mib); the trace ends here", w->path,
                 (unsigned long long)(w->limit >> 20));
        return false;
    }
    if (fwrite(w->records.data, 1, count, w->file) == count && fflush(w->file) == 0) {
        w->bytes += count;
        return true;
    }
    w->failed = true;
    log_error("%s: cannot write: %s; no more trace of this run", w->path, strerror(errno));
    return false;
}

// ---- reading

struct trace_reader {
    FILE              *file;
    long               at;      // of the next record
    struct trace_shape shape;
    uint8_t           *payload;
    uint32_t          *value;
    uint64_t           most;    // values of a record
    struct arena      *arena;
};

static bool read_header(struct trace_reader *r, const char *path)
{
    char text[8];
    uint32_t words[8];
    const char *wrong = NULL;
    if (fread(text, 1, 8, r->file) != 8 || memcmp(text, magic, 8) != 0 ||
        fread(words, 4, 8, r->file) != 8)
        wrong = "not a routing trace";
    else if (words[0] != TRACE_VERSION) wrong = "a version this program does not know";
    else if (words[3] > CONFIG_MAX_LAYERS || words[1] != HEADER + 4 * words[3] ||
             words[2] > 1 << 24 || words[5] > 1 << 20)
        wrong = "a damaged header";
    r->shape = (struct trace_shape){.experts = words[2], .layers = words[3],
                                    .step_tokens = words[4], .trace_tokens = words[5],
                                    .seq_len = words[6]};
    if (!wrong) {
        r->shape.layer = arena_array(r->arena, r->shape.layers, sizeof *r->shape.layer);
        if (fread(r->shape.layer, 4, r->shape.layers, r->file) != r->shape.layers)
            wrong = "a damaged header";
    }
    if (wrong) log_error("%s: found %s, wanted routing.trace of version 1", path, wrong);
    return !wrong;
}

struct trace_reader *trace_open(const char *path)
{
    struct arena *arena = arena_create("trace reader");
    struct trace_reader *r = arena_alloc(arena, sizeof *r);
    r->arena = arena;
    r->file = fopen(path, "rb");
    if (!r->file) log_error("%s: cannot open: %s", path, strerror(errno));
    if (!r->file || !read_header(r, path)) {
        trace_finish(&r);
        return NULL;
    }
    r->at = ftell(r->file);
    r->most = max_u64(r->shape.experts, r->shape.trace_tokens);
    for (uint32_t i = 0; i < r->shape.layers; i++)
        r->most = max_u64(r->most, (uint64_t)r->shape.trace_tokens * r->shape.layer[i].top_k);
    r->value = arena_array(arena, r->most + 1, sizeof *r->value);
    r->payload = arena_array(arena, 10 * r->most + 16, 1); // a zero and its run a value
    return r;
}

void trace_finish(struct trace_reader **reader)
{
    if (!*reader) return;
    if ((*reader)->file) fclose((*reader)->file);
    struct arena *arena = (*reader)->arena;
    arena_destroy(&arena);
    *reader = NULL;
}

const struct trace_shape *trace_shape(const struct trace_reader *r) { return &r->shape; }

static bool get_number(const uint8_t **at, const uint8_t *end, uint32_t *out)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; *at < end && shift < 35; shift += 7) {
        const uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        *out = (uint32_t)value;
        return value <= UINT32_MAX;
    }
    return false;
}

static bool decode(const struct trace_reader *r, uint32_t bytes, struct trace_record *out)
{
    const uint8_t *at = r->payload, *end = at + bytes;
    while (at < end) {
        uint32_t value, zeros = 0;
        if (!get_number(&at, end, &value) || out->count >= r->most) return false;
        if (out->kind == TRACE_PICKS) value--; // 0 becomes 0xffffffff
        r->value[out->count++] = value;
        if (out->kind != TRACE_COUNTS || value) continue;
        if (!get_number(&at, end, &zeros) || zeros > r->most - out->count) return false;
        memset(r->value + out->count, 0, zeros * sizeof *r->value);
        out->count += zeros;
    }
    return true;
}

bool trace_next(struct trace_reader *r, struct trace_record *out)
{
    struct record_head head;
    clearerr(r->file);
    if (fseek(r->file, r->at, SEEK_SET) != 0 || fread(&head, 1, RECORD, r->file) != RECORD)
        return false;
    if (head.bytes > 10 * r->most || fread(r->payload, 1, head.bytes, r->file) != head.bytes ||
        head.check != check_of(&head, r->payload))
        return false;
    *out = (struct trace_record){.step = head.step, .layer = head.layer, .kind = head.kind,
                                 .value = r->value};
    if (!decode(r, head.bytes, out)) return false;
    r->at += RECORD + (long)head.bytes;
    return true;
}

