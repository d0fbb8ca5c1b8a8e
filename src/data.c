// SPDX-License-Identifier: MIT
// Documents -> splits: which are held out, where each begins, what is there. See data.h.
#include "src/data_internal.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/config_fields.h"
#include "src/corpus_room.h"
#include "src/corpus_tokens.h"

enum { FINGERPRINT_BYTES = 4096 };

// ---- splits

struct ranked { uint64_t rank, index; };

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

// Documents [from, to) in the order in which they are offered to the held-out split.
static struct ranked *rank_documents(uint64_t from, uint64_t to, uint64_t seed,
                                     struct arena *arena)
{
    struct ranked *ranked = arena_array(arena, to - from, sizeof *ranked);
    const uint64_t stream = hash_string("held-out documents");
    for (uint64_t i = from; i < to; i++) {
        const struct rng_block random = rng_philox(seed, i, stream);
        ranked[i - from] = (struct ranked){(uint64_t)random.word[0] << 32 | random.word[1], i};
    }
    qsort(ranked, to - from, sizeof *ranked, by_rank);
    return ranked;
}

// Sets held_out[i] for whole documents of [from, to), see data.h.
static void choose_held_out(const struct documents *documents, uint64_t from, uint64_t to,
                            double fraction, uint64_t seed, bool *held_out)
{
    const struct ranked *ranked = rank_documents(from, to, seed, documents->arena);
    uint64_t total = 0, smallest = ranked[0].index;
    for (uint64_t i = 0; i < to - from; i++) {
        const uint64_t index = ranked[i].index;
        if (documents->document[index].split) continue;
        total += documents->document[index].count;
        if (documents->document[index].count < documents->document[smallest].count)
            smallest = index;
    }
    const double wanted = fraction * (double)total;
    double taken = 0;
    uint64_t trained = to - from;
    for (uint64_t i = 0; i < to - from && taken < wanted && trained > 1; i++) {
        const double count = (double)documents->document[ranked[i].index].count;
        if (documents->document[ranked[i].index].split || taken + count > 1.25 * wanted) continue;
        held_out[ranked[i].index] = true;
        taken += count;
        trained--;
    }
    if (taken == 0) held_out[smallest] = true;
}

// Cuts a document in two: the front is trained, the tail, a document of its own, held out.
static bool cut_document(struct data *data, uint64_t index, double fraction, bool *held_out)
{
    const struct document *document = &data->documents.document[index];
    const uint64_t whole = document->count;
    const uint8_t *text = document->start;
    uint64_t front = (uint64_t)((1 - fraction) * (double)whole);
    while (!data->byte_ids && document->width == 1 && front > 0 && (text[front] & 0xc0) == 0x80)
        front--; // not through a character
    if (front == 0 || front == whole) {
        log_error("data: one document of %llu tokens cannot be cut at held_out_fraction %g; wanted "
                  "more text", (unsigned long long)whole, fraction);
        return false;
    }
    documents_cut(&data->documents, index, front, data->tokenizer);
    held_out[data->documents.count - 1] = true;
    data->cuts++;
    return true;
}

// Of documents [from, to), which are all, or those of a source in a mix.
static bool hold_out(struct data *data, uint64_t from, uint64_t to,
                     const struct data_params *params, bool *held_out)
{
    const double fraction = params->held_out_fraction;
    if (to - from == 1) return cut_document(data, from, fraction, held_out);
    choose_held_out(&data->documents, from, to, fraction, params->seed, held_out);
    return true;
}

static bool hold_out_each(struct data *data, const struct data_params *params, bool *held_out)
{
    const uint64_t count = data->documents.count;
    for (uint64_t from = 0, to; from < count; from = to) {
        const uint32_t source = data->documents.document[from].source;
        for (to = from + 1; to < count && data->documents.document[to].source == source;) to++;
        if (!hold_out(data, from, to, params, held_out)) return false;
    }
    return true;
}

static const uint32_t every_source = 0xffffffff;

uint64_t data_place(const struct data *data, uint64_t at, uint64_t length)
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

void data_forget_foreign(const struct data *data, struct split *split)
{
    for (uint64_t i = 1; data->boundaries && i < split->count; i++) {
        const struct document *document = &data->documents.document[split->document[i]];
        if (!data_is_foreign(data, split, i)) continue;
        split->scored -= !document->scored || document->scored[0];
        split->bytes -= document_bytes(document, 0, 1, data->tokenizer);
    }
}

static void fill_split(struct data *data, struct split *split, enum data_split which,
                       const bool *held_out, uint32_t source, uint64_t seed)
{
    const struct documents *documents = &data->documents;
    uint64_t at = 0;
    split->document = arena_array(documents->arena, documents->count, sizeof(uint64_t));
    split->begin = arena_array(documents->arena, documents->count + 1, sizeof(uint64_t));
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        const uint64_t length = document_length(document);
        if (held_out[i] != (which == DATA_HELD_OUT)) continue;
        if (source != every_source && document->source != source) continue;
        at = data_place(data, at, length);
        split->begin[split->count] = at;
        split->document[split->count++] = i;
        split->tokens += length;
        split->scored += document_scored(document);
        split->bytes += document->bytes;
        at += length;
    }
    split->begin[split->count] = at;
    data_forget_foreign(data, split);
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

static bool has_weights(const struct data_params *params)
{
    for (int i = 0; i < params->path_count; i++)
        if (corpus_path(params->path[i]) != params->path[i]) return true;
    return false;
}

// The training split in parts, one for each source, whose windows are of nothing else.
static bool fill_parts(struct data *data, const struct data_params *params, const bool *held_out)
{
    struct split *all = &data->split[DATA_TRAIN];
    uint64_t documents = 0;
    data->part = arena_array(data->documents.arena, (size_t)params->path_count, sizeof *data->part);
    for (int i = 0; i < params->path_count; i++) {
        struct split *part = &data->part[i];
        const char *path;
        double weight;
        if (!corpus_weight(params->path[i], &path, &weight)) return false;
        fill_split(data, part, DATA_TRAIN, held_out, (uint32_t)i, params->seed);
        part->first = documents;
        documents += part->count;
        if (!corpus_mix_add(&data->mix, path, weight > 0 ? weight : 1, part->windows)) return false;
    }
    data->mix.key = all->order_key;
    all->windows = data->mix.windows;
    return true;
}

static const struct config_corpus *corpus_of(const struct data_params *params)
{
    return params->corpus ? params->corpus : &config_defaults.corpus;
}

static bool make_splits(struct data *data, const struct data_params *params)
{
    const double fraction = params->held_out_fraction;
    const bool both = fraction > 0 && fraction < 1, mixed = fraction < 1 && has_weights(params);
    if (!(fraction >= 0 && fraction <= 1)) {
        log_error("data: held_out_fraction is %g; wanted 0 to 1", fraction);
        return false;
    }
    const uint64_t count = data->documents.count, most = count + (uint64_t)params->path_count;
    bool *held_out = arena_array(data->documents.arena, most, sizeof *held_out);
    if (!both) memset(held_out, fraction == 1, most);
    else if (mixed ? !hold_out_each(data, params, held_out)
                   : !hold_out(data, 0, count, params, held_out)) return false;
    for (uint64_t i = 0; i < data->documents.count; i++)
        if (data->documents.document[i].split)
            held_out[i] = data->documents.document[i].split == 1 + DATA_HELD_OUT;
    if (data->tokenizer && !data->byte_ids &&
        !corpus_encode(&data->documents, data->tokenizer, corpus_of(params)))
        return false;
    choose_packing(data, params->packing);
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++)
        fill_split(data, &data->split[split], split, held_out, every_source, params->seed);
    return check_scored(data) && (!mixed || fill_parts(data, params, held_out));
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
        corpus_room_touch(data->documents.room, 2 * end);
        hash = hash_bytes(hash, &document->count, sizeof document->count);
        hash = hash_bytes(hash, document->start, end);
        hash = hash_bytes(hash, (const uint8_t *)document->start + bytes - end, end);
        if (document->scored) hash = hash_bytes(hash, document->scored, document->count);
    }
    for (uint32_t i = 0; i < data->mix.sources; i++)
        hash = hash_bytes(hash, &data->mix.share[i].draws, sizeof data->mix.share[i].draws);
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

static const char *summarize(const struct data *data, const struct data_params *params)
{
    const uint64_t count = data->documents.count - data->cuts;
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
    if (data->mix.sources) bytes_printf(&text, "; windows an epoch:");
    for (uint32_t i = 0; i < data->mix.sources; i++)
        bytes_printf(&text, "%s %llu of %s's %llu", i ? "," : "",
                     (unsigned long long)data->mix.share[i].draws, corpus_path(params->path[i]),
                     (unsigned long long)data->mix.share[i].windows);
    free(documents);
    if (data->counts.by[CORPUS_KEPT] < data->counts.documents) bytes_printf(&text, "; ");
    corpus_print(&data->counts, params->corpus, &text);
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
    if (!documents_collect(&data->documents, params) ||
        !corpus_select(&data->documents, params->corpus, &data->counts) ||
        !make_splits(data, params)) {
        data_close(&data);
        return NULL;
    }
    const uint32_t eot = data->documents.eot;
    data->context = eot < params->vocab_size ? eot : 0;
    number_domains(data);
    data->fingerprint = fingerprint(data, params);
    data->summary = summarize(data, params);
    return data;
}

void data_close(struct data **data)
{
    if (!*data) return;
    if ((*data)->lent) arena_destroy(&(*data)->own);
    else documents_finish(&(*data)->documents);
    free(*data);
    *data = NULL;
}

uint32_t data_seq_len(const struct data *data) { return data->seq_len; }
uint64_t data_mapped_bytes(const struct data *data)
{
    return corpus_room_resident(data->documents.room);
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
