// SPDX-License-Identifier: MIT
// Documents -> splits -> windows. A split is a list of documents with the position at which each
// begins in the split's stream of tokens; a window is a copy out of that stream. See data.h.
#include "src/data.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/data_source.h"

enum { FEISTEL_ROUNDS = 6, FINGERPRINT_BYTES = 4096 };

struct split {
    uint64_t *document;  // [count] indices, ascending
    uint64_t *begin;     // [count + 1] position of the first token; the last entry is the total
    uint64_t  count, tokens, windows, bytes;
    uint64_t  order_key; // of the permutation
};

struct data {
    struct documents        documents;
    const struct tokenizer *tokenizer;
    const uint32_t         *byte_ids; // of text that stays text: each byte is a token
    uint32_t                seq_len, context; // context: the id in front of the first token
    bool                    copy;
    struct split            split[DATA_SPLIT_COUNT];
    uint8_t                 domain_of_kind[KIND_COUNT];
    enum data_kind          kind_of_domain[KIND_COUNT];
    uint32_t                domain_count;
    bool                    cut; // the two documents are parts of the only one
    uint64_t                fingerprint;
    const char             *summary;
};

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

static void fill_split(struct data *data, enum data_split which, const bool *held_out,
                       uint64_t seed)
{
    const struct documents *documents = &data->documents;
    struct split *split = &data->split[which];
    split->document = arena_array(documents->arena, documents->count, sizeof(uint64_t));
    split->begin = arena_array(documents->arena, documents->count + 1, sizeof(uint64_t));
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        if (held_out[i] != (which == DATA_HELD_OUT)) continue;
        split->document[split->count++] = i;
        split->tokens += document->count + document->ends;
        split->bytes += document->bytes;
        split->begin[split->count] = split->tokens;
    }
    split->windows = (split->tokens + data->seq_len - 1) / data->seq_len;
    split->order_key = seed ^ hash_string(which == DATA_TRAIN ? "train order" : "held-out order");
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
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++)
        fill_split(data, split, held_out, params->seed);
    return true;
}

// ---- what is there

static void number_domains(struct data *data)
{
    bool there[KIND_COUNT] = {0};
    for (uint64_t i = 0; i < data->documents.count; i++)
        there[data->documents.document[i].kind] = true;
    for (enum data_kind kind = 0; kind < KIND_COUNT; kind++) {
        if (!there[kind]) continue;
        data->domain_of_kind[kind] = (uint8_t)data->domain_count;
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
    }
    return hash;
}

static const char *summarize(const struct data *data)
{
    const uint64_t count = data->cut ? 1 : data->documents.count;
    uint64_t documents[KIND_COUNT] = {0};
    for (uint64_t i = 0; i < count; i++) documents[data->documents.document[i].kind]++;
    struct bytes text = {0};
    bytes_printf(&text, "%llu document%s (", (unsigned long long)count, count == 1 ? "" : "s");
    for (uint32_t d = 0; d < data->domain_count; d++)
        bytes_printf(&text, "%s%s %llu", d ? ", " : "", data_domain_name(data, d),
                     (unsigned long long)documents[data->kind_of_domain[d]]);
    bytes_printf(&text, "): %llu tokens to train on, %llu held out",
                 (unsigned long long)data->split[DATA_TRAIN].tokens,
                 (unsigned long long)data->split[DATA_HELD_OUT].tokens);
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

uint64_t data_bytes(const struct data *data, enum data_split split)
{
    return data->tokenizer ? data->split[split].bytes : 0;
}

const char *data_domain_name(const struct data *data, uint32_t domain)
{
    return data_kind_name(data->kind_of_domain[domain]);
}

// ---- windows

// The place in the split's list of the document that holds the token at `position`.
static uint64_t find_document(const struct split *split, uint64_t position)
{
    uint64_t low = 0, high = split->count;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (split->begin[middle] <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// Part [from, from + count) of a document, its end-of-text included.
static void read_document(const struct data *data, const struct document *document, uint64_t from,
                          uint64_t count, uint32_t *ids)
{
    const uint64_t whole = from < document->count ? min_u64(count, document->count - from) : 0;
    for (uint64_t i = 0; document->width == 1 && i < whole; i++)
        ids[i] = data->byte_ids[((const uint8_t *)document->start)[from + i]];
    for (uint64_t i = 0; document->width == 2 && i < whole; i++)
        ids[i] = ((const uint16_t *)document->start)[from + i];
    if (document->width == 4)
        memcpy(ids, (const uint32_t *)document->start + from, whole * sizeof *ids);
    if (whole < count) ids[whole] = data->documents.eot;
}

static void read_stream(const struct data *data, const struct split *split, uint64_t position,
                        uint64_t count, uint32_t *ids)
{
    for (uint64_t d = count ? find_document(split, position) : 0; count > 0; d++) {
        const uint64_t part = min_u64(count, split->begin[d + 1] - position);
        const struct document *document = &data->documents.document[split->document[d]];
        read_document(data, document, position - split->begin[d], part, ids);
        ids += part;
        position += part;
        count -= part;
    }
}

// How many targets window `index` has.
static uint64_t window_count(const struct data *data, const struct split *split, uint64_t index)
{
    return min_u64(data->seq_len, split->tokens - index * data->seq_len);
}

void data_window_at(const struct data *data, enum data_split which, uint64_t index,
                    uint32_t *inputs, uint32_t *targets, bool first_token_too)
{
    const struct split *split = &data->split[which];
    const uint64_t begin = index * data->seq_len, count = window_count(data, split, index);
    read_stream(data, split, begin, count, targets);
    inputs[0] = data->context;
    if (begin > 0) read_stream(data, split, begin - 1, 1, inputs);
    memcpy(inputs + 1, targets, (count - 1) * sizeof *inputs);
    for (uint64_t i = count; i < data->seq_len; i++) {
        inputs[i] = data->context;
        targets[i] = DATA_MASKED;
    }
    if (data->copy) memcpy(targets, inputs, count * sizeof *inputs);
    if (begin == 0 && !first_token_too) targets[0] = DATA_MASKED;
}

// A bijection of [0, count): a Feistel network over the next even power of two, walked until the
// value is inside again (Black & Rogaway 2002). It takes less than four walks on average.
static uint64_t permute(uint64_t index, uint64_t count, uint64_t key, uint64_t epoch)
{
    uint32_t half = 1;
    while (half < 32 && (count - 1) >> (2 * half) != 0) half++;
    const uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
            const uint64_t mixed = left ^ rng_philox(key, right | round << 32, epoch).word[0];
            left = right;
            right = mixed & mask;
        }
        index = left << half | right;
    } while (index >= count);
    return index;
}

uint64_t data_window_index(const struct data *data, enum data_split which, uint64_t position)
{
    const struct split *split = &data->split[which];
    return permute(position % split->windows, split->windows, split->order_key,
                   position / split->windows);
}

void data_window(const struct data *data, enum data_split split, uint64_t position,
                 uint32_t *inputs, uint32_t *targets)
{
    data_window_at(data, split, data_window_index(data, split, position), inputs, targets, true);
}

// Goes through the documents that window `index` touches.
struct overlap { const struct document *document; uint64_t from, count; };

static bool next_overlap(const struct data *data, const struct split *split, uint64_t index,
                         uint64_t *at, uint64_t *d, struct overlap *out)
{
    const uint64_t begin = index * data->seq_len, end = begin + window_count(data, split, index);
    if (*at == 0) *d = find_document(split, begin);
    if (begin + *at >= end) return false;
    const uint64_t position = begin + *at;
    *out = (struct overlap){
        .document = &data->documents.document[split->document[*d]],
        .from = position - split->begin[*d],
        .count = min_u64(end, split->begin[*d + 1]) - position,
    };
    *at += out->count;
    *d += 1;
    return true;
}

uint64_t data_window_bytes(const struct data *data, enum data_split which, uint64_t index)
{
    uint64_t bytes = 0, at = 0, d = 0;
    struct overlap part;
    while (data->tokenizer && next_overlap(data, &data->split[which], index, &at, &d, &part))
        bytes += document_bytes(part.document, part.from, part.count, data->tokenizer);
    return bytes;
}

uint32_t data_window_domain(const struct data *data, enum data_split which, uint64_t index)
{
    uint64_t tokens[KIND_COUNT] = {0}, at = 0, d = 0;
    struct overlap part;
    while (next_overlap(data, &data->split[which], index, &at, &d, &part))
        tokens[data->domain_of_kind[part.document->kind]] += part.count;
    uint32_t most = 0;
    for (uint32_t i = 1; i < data->domain_count; i++)
        if (tokens[i] > tokens[most]) most = i;
    return most;
}

void data_window_domains(const struct data *data, enum data_split which, uint64_t index,
                         uint32_t *domains, uint32_t *documents)
{
    const struct split *split = &data->split[which];
    const uint64_t begin = index * data->seq_len, count = window_count(data, split, index);
    for (uint64_t i = 0, d = 0; i < data->seq_len; i++) {
        domains[i] = DATA_MASKED;
        if (documents) documents[i] = DATA_MASKED;
        if (i >= count || begin + i == 0) continue;
        const uint64_t position = begin + i - 1; // of the input in the stream of targets
        if (d == 0 || position >= split->begin[d + 1]) d = find_document(split, position);
        const struct document *document = &data->documents.document[split->document[d]];
        domains[i] = data->domain_of_kind[document->kind];
        if (documents) documents[i] = (uint32_t)d;
    }
}

// ---- segments

// One pass of a stable counting sort by eight bits of the id, from `from` (NULL: what is not
// masked, in order) to `to`.
static uint32_t sort_pass(const uint32_t *ids, uint32_t count, uint32_t shift, const uint32_t *from,
                          uint32_t *to)
{
    uint32_t place[256] = {0}, kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t id = ids[from ? from[i] : i];
        if (id != DATA_MASKED) place[id >> shift & 255]++;
    }
    for (uint32_t digit = 0; digit < 256; digit++) {
        const uint32_t n = place[digit];
        place[digit] = kept;
        kept += n;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = from ? from[i] : i, id = ids[at];
        if (id != DATA_MASKED) to[place[id >> shift & 255]++] = at;
    }
    return kept;
}

uint32_t data_segments(const uint32_t *ids, uint32_t count, uint32_t *order,
                       uint32_t *segment_begin, uint32_t *segment_id)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] != DATA_MASKED) largest = max_u32(largest, ids[i]);
    uint32_t passes = 1;
    while (passes < 4 && largest >> (8 * passes) != 0) passes++;

    // the two arrays take turns, so that the last pass ends in `order`
    uint32_t *from = NULL, kept = count;
    for (uint32_t pass = 0; pass < passes; pass++) {
        uint32_t *to = (passes - pass) % 2 ? order : segment_begin;
        kept = sort_pass(ids, kept, 8 * pass, from, to);
        from = to;
    }
    uint32_t segments = 0;
    for (uint32_t i = 0; i < kept; i++) {
        if (i > 0 && ids[order[i]] == segment_id[segments - 1]) continue;
        segment_begin[segments] = i;
        segment_id[segments++] = ids[order[i]];
    }
    segment_begin[segments] = kept;
    return segments;
}
