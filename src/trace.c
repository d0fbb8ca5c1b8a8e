// SPDX-License-Identifier: MIT
// routing.trace and residency.trace, written: see trace.h.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/trace_format.h"

struct trace_writer {
    char        *path;
    FILE        *file;
    struct trace_shape shape;
    uint32_t     every, tokens_every; // steps; the second is a multiple of the first
    uint64_t     bytes, limit;
    struct bytes records;  // of the step
    bool         failed;
    struct arena *arena;
};

// ---- the shape

static struct trace_shape shape_of(const struct trace_params *params, struct arena *arena)
{
    const struct config *c = params->config;
    struct trace_shape s = {.experts = c->num_experts, .seq_len = c->seq_len,
                            .trace_tokens = min_u32(c->trace_tokens, c->batch_size * c->seq_len),
                            .step_tokens =
                                c->batch_size * c->seq_len * c->gradient_accumulation_steps,
                            .domains = min_u32(params->domains, TRACE_DOMAINS_MOST)};
    s.layer = arena_array(arena, c->num_hidden_layers, sizeof *s.layer);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i])
            s.layer[s.layers++] = (struct trace_layer){(uint16_t)i,
                                                       (uint16_t)c->layer_router[i].top_k};
    s.domain = arena_array(arena, s.domains, sizeof *s.domain);
    for (uint32_t d = 0; d < s.domains; d++)
        s.domain[d] = arena_printf(arena, "%.255s", params->domain[d]);
    return s;
}

static void put_header(struct bytes *out, const struct trace_shape *s)
{
    uint32_t words[] = {TRACE_VERSION, TRACE_HEADER + 4 * s->layers, s->experts, s->layers,
                        s->step_tokens, s->trace_tokens, s->seq_len, s->domains};
    for (uint32_t d = 0; d < s->domains; d++) words[1] += 1 + (uint32_t)strlen(s->domain[d]);
    bytes_append(out, trace_magic, sizeof trace_magic);
    bytes_append(out, words, sizeof words);
    bytes_append(out, s->layer, s->layers * sizeof *s->layer);
    for (uint32_t d = 0; d < s->domains; d++) {
        const uint8_t length = (uint8_t)strlen(s->domain[d]);
        bytes_append(out, &length, 1);
        bytes_append(out, s->domain[d], length);
    }
}

static uint32_t leb_bytes(uint64_t value)
{
    uint32_t bytes = 1;
    while (value >>= 7) bytes++;
    return bytes;
}

// Most bytes that the records of a step can take: of its experts,
static uint64_t experts_bytes(const struct trace_shape *s)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->layers; i++) {
        const uint64_t picks = (uint64_t)s->step_tokens * s->layer[i].top_k;
        // so many experts at most have a pick, each with a run of zeros beside it
        const uint64_t taken = min_u64(s->experts, picks);
        bytes += TRACE_RECORD + taken * leb_bytes(picks / max_u64(taken, 1)) + taken +
                 2 * min_u64(s->experts, taken + 1) * leb_bytes(s->experts);
    }
    return bytes;
}

// of its tokens,
static uint64_t tokens_bytes(const struct trace_shape *s)
{
    uint64_t bytes = 2 * TRACE_RECORD + 6ull * s->trace_tokens;
    for (uint32_t i = 0; i < s->layers; i++) {
        const uint64_t picks = (uint64_t)s->trace_tokens * s->layer[i].top_k;
        bytes += 2 * TRACE_RECORD + sizeof(float) + picks * (leb_bytes(s->experts) + 1);
    }
    return s->trace_tokens ? bytes : 0;
}

// and of where the experts are: runs are shorter than 22, or few.
static uint64_t residency_bytes(const struct trace_shape *s)
{
    return (uint64_t)s->layers * (TRACE_RECORD + s->experts) + TRACE_RECORD + 7 * 10;
}

static uint32_t interval(uint64_t steps, uint64_t bytes, uint64_t limit)
{
    const uint64_t fit = max_u64(limit / max_u64(bytes, 1), 1);
    return (uint32_t)max_u64((steps + fit - 1) / fit, 1);
}

static void choose_intervals(struct trace_writer *w, uint64_t steps, bool residency)
{
    const uint64_t own = residency ? residency_bytes(&w->shape) : experts_bytes(&w->shape),
                   tokens = residency ? 0 : tokens_bytes(&w->shape);
    if (tokens <= own || steps <= w->limit / (own + tokens)) {
        w->every = w->tokens_every = interval(steps, own + tokens, w->limit);
        return;
    }
    w->every = interval(steps, own, w->limit / 2);
    w->tokens_every = w->every * interval(ceil_div((uint32_t)steps, w->every), tokens,
                                          w->limit / 2);
}

// ---- opening

// Bytes of the file that are whole and of steps up to last_step; 0: another trace.
static uint64_t kept_bytes(const uint8_t *data, uint64_t bytes, const struct bytes *header,
                           uint32_t last_step)
{
    if (bytes < header->count || memcmp(data, header->data, header->count) != 0) return 0;
    uint64_t at = header->count;
    for (struct trace_head head; bytes - at >= TRACE_RECORD; at += TRACE_RECORD + head.bytes) {
        memcpy(&head, data + at, TRACE_RECORD);
        if (head.bytes > bytes - at - TRACE_RECORD || head.step > last_step) break;
        if (head.check != trace_check(&head, data + at + TRACE_RECORD)) break;
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

struct trace_writer *trace_create(const struct trace_params *params)
{
    const struct config *config = params->config;
    struct arena *arena = arena_create("trace");
    struct trace_writer *w = arena_alloc(arena, sizeof *w);
    w->arena = arena;
    w->path = arena_strdup(arena, params->path);
    w->shape = shape_of(params, arena);
    w->limit = (uint64_t)config->trace_mib << 20;
    choose_intervals(w, config->steps, params->residency);
    if (!rewrite(w, params->last_step)) goto fail;
    w->file = fopen(w->path, "ab");
    if (!w->file) {
        log_error("%s: cannot append: %s", w->path, strerror(errno));
        goto fail;
    }
    setvbuf(w->file, NULL, _IONBF, 0); // a step is one write
    return w;
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

bool trace_wants_tokens(const struct trace_writer *w, uint32_t step)
{
    return !w->failed && w->shape.trace_tokens > 0 && (step == 1 || step % w->tokens_every == 0);
}

uint32_t trace_tokens(const struct trace_writer *w) { return w->shape.trace_tokens; }

static void put_number(struct bytes *out, uint64_t value)
{
    uint8_t byte[10];
    size_t count = 0;
    do byte[count++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    while (value >>= 7);
    bytes_append(out, byte, count);
}

static size_t begin_record(struct trace_writer *w, uint32_t step, uint16_t layer,
                           enum trace_kind kind)
{
    const struct trace_head head = {.step = step, .layer = layer, .kind = (uint8_t)kind};
    const size_t at = w->records.count;
    bytes_append(&w->records, &head, TRACE_RECORD);
    return at;
}

static void end_record(struct trace_writer *w, size_t at)
{
    struct trace_head head;
    memcpy(&head, w->records.data + at, TRACE_RECORD);
    head.bytes = (uint32_t)(w->records.count - at - TRACE_RECORD);
    head.check = trace_check(&head, w->records.data + at + TRACE_RECORD);
    memcpy(w->records.data + at, &head, TRACE_RECORD);
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
    if (!trace_wants_tokens(w, step)) return;
    const size_t at = begin_record(w, step, TRACE_NO_LAYER, TRACE_IDS);
    for (uint32_t i = 0; i < w->shape.trace_tokens; i++) put_number(&w->records, ids[i]);
    end_record(w, at);
}

void trace_domains(struct trace_writer *w, uint32_t step, const uint32_t *domains)
{
    if (!trace_wants_tokens(w, step) || !w->shape.domains) return;
    const size_t at = begin_record(w, step, TRACE_NO_LAYER, TRACE_DOMAINS);
    for (uint32_t i = 0; i < w->shape.trace_tokens; i++) {
        const uint8_t domain =
            (uint8_t)(domains[i] < w->shape.domains ? domains[i] : TRACE_NO_DOMAIN);
        bytes_append(&w->records, &domain, 1);
    }
    end_record(w, at);
}

void trace_picks(struct trace_writer *w, uint32_t step, uint32_t index, const uint32_t *picks)
{
    const uint32_t count = w->shape.trace_tokens * w->shape.layer[index].top_k;
    if (!count || !trace_wants_tokens(w, step)) return;
    const size_t at = begin_record(w, step, w->shape.layer[index].number, TRACE_PICKS);
    for (uint32_t i = 0; i < count; i++)
        put_number(&w->records, picks[i] < w->shape.experts ? picks[i] + 1 : 0);
    end_record(w, at);
}

// A gate below zero, or one that is no number, is told as zero.
void trace_gates(struct trace_writer *w, uint32_t step, uint32_t index, const float *gates)
{
    const uint32_t count = w->shape.trace_tokens * w->shape.layer[index].top_k;
    float most = 0;
    if (!count || !trace_wants_tokens(w, step)) return;
    const size_t at = begin_record(w, step, w->shape.layer[index].number, TRACE_GATES);
    for (uint32_t i = 0; i < count; i++)
        if (isfinite(gates[i]) && gates[i] > most) most = gates[i];
    bytes_append(&w->records, &most, sizeof most);
    const float scale = most > 0 ? TRACE_GATE_LEVELS / most : 0;
    for (uint32_t i = 0; i < count; i++) {
        const float level = isfinite(gates[i]) && gates[i] > 0 ? gates[i] * scale + 0.5f : 0;
        const uint8_t byte = (uint8_t)fminf(level, TRACE_GATE_LEVELS);
        bytes_append(&w->records, &byte, 1);
    }
    end_record(w, at);
}

void trace_residency(struct trace_writer *w, uint32_t step, uint32_t index, const uint8_t *place)
{
    const size_t at = begin_record(w, step, w->shape.layer[index].number, TRACE_RESIDENCY);
    for (uint32_t e = 0, run; e < w->shape.experts; e += run) {
        for (run = 1; e + run < w->shape.experts && place[e + run] == place[e];) run++;
        put_number(&w->records, (uint64_t)TRACE_PLACES * (run - 1) + place[e]);
    }
    end_record(w, at);
}

void trace_stream(struct trace_writer *w, uint32_t step, const struct trace_stream *s)
{
    const uint64_t number[] = {s->hits, s->misses, s->prefetched, s->bytes, s->written, s->load_us,
                               s->wait_us};
    const size_t at = begin_record(w, step, TRACE_NO_LAYER, TRACE_STREAM);
    for (size_t i = 0; i < COUNT_OF(number); i++) put_number(&w->records, number[i]);
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
