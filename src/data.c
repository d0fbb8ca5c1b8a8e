// SPDX-License-Identifier: MIT
// Documents -> splits: which are held out, where each begins, what is there. See data.h.
#include "src/data_internal.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { FINGERPRINT_BYTES = 4096 };

// ---- splits

struct ranked { uint64_t rank, index; };

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

// Documents in the order in which they are offered to the held-out split.
static struct ranked *rank_documents(uint64_t count, uint64_t seed, struct arena *arena)
{
    struct ranked *ranked = arena_array(arena, count, sizeof *ranked);
    const uint64_t stream = hash_string("held-out documents");
    for (uint64_t i = 0; i < count; i++) {
        const struct rng_block random = rng_philox(seed, i, stream);
        ranked[i] = (struct ranked){(uint64_t)random.word[0] << 32 | random.word[1], i};
    }
    qsort(ranked, count, sizeof *ranked, by_rank);
    return ranked;
}

// Sets held_out[i] for whole documents, see data.h.
static void choose_held_out(const struct documents *documents, double fraction, uint64_t seed,
                            bool *held_out, struct arena *arena)
{
    const struct ranked *ranked = rank_documents(documents->count, seed, arena);
    uint64_t total = 0, smallest = ranked[0].index;
    for (uint64_t i = 0; i < documents->count; i++) {
        const uint64_t index = ranked[i].index;
        total += documents->document[index].count;
        if (documents->document[index].count < documents->document[smallest].count)
            smallest = index;
    }
    const double wanted = fraction * (double)total;
    double taken = 0;
    uint64_t trained = documents->count;
    for (uint64_t i = 0; i < documents->count && taken < wanted && trained > 1; i++) {
        const double count = (double)documents->document[ranked[i].index].count;
        if (taken + count > 1.25 * wanted) continue;
        held_out[ranked[i].index] = true;
        taken += count;
        trained--;
    }
    if (taken == 0) held_out[smallest] = true;
}

// Cuts the only document in two: the front is trained, the tail held out.
static bool cut_document(struct data *data, double fraction)
{
    const uint64_t whole = data->documents.document[0].count;
    const uint8_t *text = data->documents.document[0].start;
    uint64_t front = (uint64_t)((1 - fraction) * (double)whole);
    while (!data->byte_ids && data->documents.document[0].width == 1 && front > 0 &&
           (text[front] & 0xc0) == 0x80)
        front--; // not through a character
    if (front == 0 || front == whole) {
        log_error("data: one document of %llu tokens cannot be cut at held_out_fraction %g; wanted "
                  "more text", (unsigned long long)whole, fraction);
        return false;
    }
    documents_cut(&data->documents, front, data->tokenizer);
    data->cut = true;
    return true;
}

// The place of a document that would begin at `at`: with whole documents the next window's begin,
// where it does not fit in what is left of this one.
static uint64_t place_document(const struct data *data, uint64_t at, uint64_t length)
{
    const uint64_t left = data->seq_len - at % data->seq_len;
    return data->whole && length > left && left < data->seq_len ? at + left : at;
}

bool data_is_foreign(const struct data *data, const struct split *split, uint64_t number)
{
    if (!data->boundaries || number == 0) return false;
    const struct document *before = &data->documents.document[split->document[number - 1]];
    return !before->ends &&
           split->begin[number - 1] + document_length(before) == split->begin[number];
}

// What the split's first tokens without a context of their own do not count.
static void forget_foreign(const struct data *data, struct split *split)
{
    for (uint64_t i = 1; data->boundaries && i < split->count; i++) {
        const struct document *document = &data->documents.document[split->document[i]];
        if (!data_is_foreign(data, split, i)) continue;
        split->scored -= !document->scored || document->scored[0];
        split->bytes -= document_bytes(document, 0, 1, data->tokenizer);
    }
}

static void fill_split(struct data *data, enum data_split which, const bool *held_out,
                       uint64_t seed)
{
    const struct documents *documents = &data->documents;
    struct split *split = &data->split[which];
    uint64_t at = 0;
    split->document = arena_array(documents->arena, documents->count, sizeof(uint64_t));
    split->begin = arena_array(documents->arena, documents->count + 1, sizeof(uint64_t));
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        const uint64_t length = document_length(document);
        if (held_out[i] != (which == DATA_HELD_OUT)) continue;
        at = place_document(data, at, length);
        split->begin[split->count] = at;
        split->document[split->count++] = i;
        split->tokens += length;
        split->scored += document_scored(document);
        split->bytes += document->bytes;
        at += length;
    }
    split->begin[split->count] = at;
    forget_foreign(data, split);
    split->windows = (at + data->seq_len - 1) / data->seq_len;
    split->order_key = seed ^ hash_string(which == DATA_TRAIN ? "train order" : "held-out order");
}

// A split of which nothing is scored teaches and measures nothing.
static bool check_scored(const struct data *data)
{
    static const char *const what[] = {"to train on", "held out"};
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++) {
        const struct split *own = &data->split[split];
        if (own->tokens == 0 || own->scored > 0) continue;
        log_error("data: none of the %llu tokens %s is scored; wanted more documents with targets, "
                  "or another held_out_fraction", (unsigned long long)own->tokens, what[split]);
        return false;
    }
    return true;
}

// Documents keep together where a part of them is no lesson: their context is what is not scored.
static void choose_packing(struct data *data, enum data_packing packing)
{
    uint64_t longer = 0;
    data->whole = packing == DATA_WHOLE;
    for (uint64_t i = 0; i < data->documents.count; i++) {
        const struct document *document = &data->documents.document[i];
        data->whole |= packing == DATA_PACKING_AUTO && document->scored;
        longer += document_length(document) > data->seq_len;
    }
    if (data->whole && longer)
        log_info("%llu of %llu documents are longer than seq_len %u and go on in the next sequence",
                 (unsigned long long)longer, (unsigned long long)data->documents.count,
                 data->seq_len);
}

static bool make_splits(struct data *data, const struct data_params *params)
{
    const double fraction = params->held_out_fraction;
    const bool both = fraction > 0 && fraction < 1;
    if (!(fraction >= 0 && fraction <= 1)) {
        log_error("data: held_out_fraction is %g; wanted 0 to 1", fraction);
        return false;
    }
    const bool cut = both && data->documents.count == 1;
    if (cut && !cut_document(data, fraction)) return false;

    struct arena *arena = data->documents.arena;
    const uint64_t count = data->documents.count;
    bool *held_out = arena_array(arena, count, sizeof *held_out);
    if (cut)
        held_out[1] = true;
    else if (both)
        choose_held_out(&data->documents, fraction, params->seed, held_out, arena);
    else
        memset(held_out, fraction == 1, count);
    if (data->tokenizer && !data->byte_ids &&
        !documents_encode(&data->documents, data->tokenizer))
        return false;
    choose_packing(data, params->packing);
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++)
        fill_split(data, split, held_out, params->seed);
    return check_scored(data);
}

// ---- what is there

static void number_domains(struct data *data)
{
    const struct documents *documents = &data->documents;
    const uint32_t kinds = KIND_COUNT + documents->name_count;
    bool *there = arena_array(documents->arena, kinds, sizeof *there);
    data->domain_of_kind = arena_array(documents->arena, kinds, sizeof *data->domain_of_kind);
    data->kind_of_domain = arena_array(documents->arena, kinds, sizeof *data->kind_of_domain);
    for (uint64_t i = 0; i < documents->count; i++) there[documents->document[i].kind] = true;
    for (uint32_t kind = 0; kind < kinds; kind++) {
        if (!there[kind]) continue;
        data->domain_of_kind[kind] = data->domain_count;
        data->kind_of_domain[data->domain_count++] = kind;
    }
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ byte[i]) * 0x100000001b3u; // FNV-1a
    return hash;
}

// Sizes, both ends of each document, and what decides splits and order.
static uint64_t fingerprint(const struct data *data, const struct data_params *params)
{
    uint64_t hash = hash_bytes(0xcbf29ce484222325u, &params->seed, sizeof params->seed);
    hash = hash_bytes(hash, &params->seq_len, sizeof params->seq_len);
    hash = hash_bytes(hash, &params->held_out_fraction, sizeof params->held_out_fraction);
    for (uint64_t i = 0; i < data->documents.count; i++) {
        const struct document *document = &data->documents.document[i];
        const uint64_t bytes = document->count * document->width;
        const uint64_t end = min_u64(bytes, FINGERPRINT_BYTES);
        hash = hash_bytes(hash, &document->count, sizeof document->count);
        hash = hash_bytes(hash, document->start, end);
        hash = hash_bytes(hash, (const uint8_t *)document->start + bytes - end, end);
        if (document->scored) hash = hash_bytes(hash, document->scored, document->count);
    }
    return data->whole ? hash_bytes(hash, "whole", 5) : hash;
}

// "612345 tokens to train on", "612345 tokens (20123 scored) to train on"
static void summarize_split(const struct split *split, const char *what, struct bytes *text)
{
    const bool train = strstr(what, "train");
    bytes_printf(text, "%llu%s", (unsigned long long)split->tokens, train ? " tokens" : "");
    if (split->scored < split->tokens)
        bytes_printf(text, " (%llu scored)", (unsigned long long)split->scored);
    bytes_printf(text, "%s", what);
}

static const char *summarize(const struct data *data)
{
    const uint64_t count = data->cut ? 1 : data->documents.count;
    uint64_t *documents = os_alloc(data->domain_count * sizeof *documents);
    struct bytes text = {0};
    for (uint64_t i = 0; i < count; i++)
        documents[data->domain_of_kind[data->documents.document[i].kind]]++;
    bytes_printf(&text, "%llu document%s (", (unsigned long long)count, count == 1 ? "" : "s");
    for (uint32_t d = 0; d < data->domain_count; d++)
        bytes_printf(&text, "%s%s %llu", d ? ", " : "", data_domain_name(data, d),
                     (unsigned long long)documents[d]);
    bytes_printf(&text, "): ");
    summarize_split(&data->split[DATA_TRAIN], " to train on, ", &text);
    summarize_split(&data->split[DATA_HELD_OUT], " held out", &text);
    free(documents);
    const char *own = arena_strdup(data->documents.arena, (const char *)text.data);
    bytes_free(&text);
    return own;
}

struct data *data_open(const struct data_params *params)
{
    if (params->seq_len == 0) {
        log_error("data: seq_len is 0; wanted at least 1");
        return NULL;
    }
    struct data *data = os_alloc(sizeof *data);
    data->tokenizer = params->tokenizer;
    data->byte_ids = params->tokenizer ? tokenizer_byte_ids(params->tokenizer) : NULL;
    data->seq_len = params->seq_len;
    data->copy = params->copy;
    data->boundaries = params->boundaries;
    if (!documents_collect(&data->documents, params) || !make_splits(data, params)) {
        data_close(&data);
        return NULL;
    }
    const uint32_t eot = data->documents.eot;
    data->context = eot < params->vocab_size ? eot : 0;
    number_domains(data);
    data->fingerprint = fingerprint(data, params);
    data->summary = summarize(data);
    return data;
}

void data_close(struct data **data)
{
    if (!*data) return;
    documents_finish(&(*data)->documents);
    free(*data);
    *data = NULL;
}

uint32_t data_seq_len(const struct data *data) { return data->seq_len; }
uint64_t data_mapped_bytes(const struct data *data)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < data->documents.map_count; i++)
        bytes += data->documents.map[i].bytes;
    return bytes;
}
uint64_t data_fingerprint(const struct data *data) { return data->fingerprint; }
const char *data_summary(const struct data *data) { return data->summary; }
uint32_t data_domain_count(const struct data *data) { return data->domain_count; }

uint64_t data_documents(const struct data *data, enum data_split split)
{
    return data->split[split].count;
}

uint64_t data_windows(const struct data *data, enum data_split split)
{
    return data->split[split].windows;
}

uint64_t data_tokens(const struct data *data, enum data_split split)
{
    return data->split[split].tokens;
}

uint64_t data_scored(const struct data *data, enum data_split split)
{
    return data->split[split].scored;
}

uint64_t data_bytes(const struct data *data, enum data_split split)
{
    return data->tokenizer ? data->split[split].bytes : 0;
}

const char *data_domain_name(const struct data *data, uint32_t domain)
{
    const uint32_t kind = data->kind_of_domain[domain];
    return kind < KIND_COUNT ? data_kind_name(kind) : data->documents.name[kind - KIND_COUNT];
}
