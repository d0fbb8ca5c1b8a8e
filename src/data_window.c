// SPDX-License-Identifier: MIT
// Splits -> windows of token ids: a window is a copy out of its split's documents, with what lies
// between them masked. And segments for the embedding's gradient. See data.h.
#include "src/data_internal.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/corpus_room.h"

enum { TOUCHED = 128 << 10 }; // what the system brings around a place in a file, twice

// ---- the documents of a window

// The place in the split's list of the document that holds the token at `position`, or that stands
// before the padding there.
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

// Goes through the documents that have tokens in places [begin, end).
struct overlap {
    uint64_t               begin, end, next; // next: document of the split to look at
    const struct document *document;
    uint64_t               number, first;    // of it in the split; its place
    uint64_t               at, from, count;  // in the range; in the document; how many tokens
};

static struct overlap overlap_of(const struct split *split, uint64_t begin, uint64_t end)
{
    return (struct overlap){.begin = begin, .end = end,
                            .next = begin < end ? find_document(split, begin) : split->count};
}

static bool overlap_next(const struct data *data, const struct split *split, struct overlap *o)
{
    while (o->next < split->count && split->begin[o->next] < o->end) {
        o->number = o->next++;
        o->document = &data->documents.document[split->document[o->number]];
        o->first = split->begin[o->number];
        const uint64_t from = max_u64(o->first, o->begin),
                       end = min_u64(o->end, o->first + document_length(o->document));
        if (from >= end) continue; // padding stands behind it
        o->at = from - o->begin;
        o->from = from - o->first;
        o->count = end - from;
        return true;
    }
    return false;
}

// Places of a window, up to the split's end.
static uint64_t window_end(const struct data *data, const struct split *split, uint64_t index)
{
    return min_u64((index + 1) * data->seq_len, split->begin[split->count]);
}

static struct overlap overlap_window(const struct data *data, const struct split *split,
                                     uint64_t index)
{
    return overlap_of(split, index * data->seq_len, window_end(data, split, index));
}

// What holds window `index`, which becomes the number in it: the split, or a source's part of it.
static const struct split *find_split(const struct data *data, enum data_split which,
                                      uint64_t *index)
{
    if (which != DATA_TRAIN || !data->mix.sources) return &data->split[which];
    const uint32_t source = corpus_mix_source(&data->mix, *index);
    *index -= data->mix.share[source].first;
    return &data->part[source];
}

// ---- ids

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

// What places [begin, begin + count) hold, DATA_MASKED where that is padding.
static void read_places(const struct data *data, const struct split *split, uint64_t begin,
                        uint64_t count, uint32_t *ids)
{
    struct overlap part = overlap_of(split, begin, begin + count);
    for (uint64_t i = 0; i < count; i++) ids[i] = DATA_MASKED;
    while (overlap_next(data, split, &part))
        read_document(data, part.document, part.from, part.count, ids + part.at);
}

static bool is_scored(const struct document *document, uint64_t i)
{
    return !document->scored || (i < document->count && document->scored[i]);
}

static void mask_targets(const struct data *data, const struct split *split, uint64_t index,
                         uint32_t *targets)
{
    struct overlap part = overlap_window(data, split, index);
    while (overlap_next(data, split, &part)) {
        for (uint64_t i = 0; i < part.count; i++)
            if (!is_scored(part.document, part.from + i)) targets[part.at + i] = DATA_MASKED;
        if (part.from == 0 && data_is_foreign(data, split, part.number))
            targets[part.at] = DATA_MASKED;
    }
}

void data_window_at(const struct data *data, enum data_split which, uint64_t index,
                    uint32_t *inputs, uint32_t *targets, bool first_token_too)
{
    const struct split *split = find_split(data, which, &index);
    const uint64_t begin = index * data->seq_len;
    read_places(data, split, begin, data->seq_len, targets);
    inputs[0] = DATA_MASKED;
    if (begin > 0) read_places(data, split, begin - 1, 1, inputs);
    memcpy(inputs + 1, targets, (data->seq_len - 1) * sizeof *inputs);
    for (uint32_t i = 0; i < data->seq_len; i++) {
        if (inputs[i] == DATA_MASKED) inputs[i] = data->context;
        if (data->copy && targets[i] != DATA_MASKED) targets[i] = inputs[i];
    }
    mask_targets(data, split, index, targets);
    corpus_room_touch(data->documents.room, TOUCHED + 4ull * data->seq_len);
    if (begin == 0 && !first_token_too) targets[0] = DATA_MASKED;
}

// ---- order

uint64_t data_window_index(const struct data *data, enum data_split which, uint64_t position)
{
    const struct split *split = &data->split[which];
    if (which == DATA_TRAIN && data->mix.sources) return corpus_mix_index(&data->mix, position);
    return corpus_permute(position % split->windows, split->windows, split->order_key,
                          position / split->windows);
}

uint64_t data_epoch(const struct data *data, enum data_split which)
{
    const bool mixed = which == DATA_TRAIN && data->mix.sources;
    return mixed ? data->mix.epoch : data->split[which].windows;
}

void data_window(const struct data *data, enum data_split split, uint64_t position,
                 uint32_t *inputs, uint32_t *targets)
{
    data_window_at(data, split, data_window_index(data, split, position), inputs, targets, true);
}

// ---- what a window is of

void data_window_begins(const struct data *data, enum data_split which, uint64_t index,
                        uint32_t windows, uint32_t *begins)
{
    const struct split *split = find_split(data, which, &index);
    const uint64_t begin = index * data->seq_len, count = (uint64_t)windows * data->seq_len;
    struct overlap part = overlap_of(split, begin, begin + count);
    for (uint64_t i = 0; i < count; i++) begins[i] = (uint32_t)i; // padding sees itself
    while (overlap_next(data, split, &part))
        for (uint64_t i = part.at; i < part.at + part.count; i++)
            begins[i] = (uint32_t)(part.first > begin ? part.first - begin : 0);
}

uint64_t data_window_bytes(const struct data *data, enum data_split which, uint64_t index)
{
    const struct split *split = find_split(data, which, &index);
    struct overlap part = overlap_window(data, split, index);
    uint64_t bytes = 0;
    while (data->tokenizer && overlap_next(data, split, &part)) {
        const bool foreign = part.from == 0 && data_is_foreign(data, split, part.number);
        bytes += document_bytes(part.document, part.from + foreign, part.count - foreign,
                                data->tokenizer);
    }
    return bytes;
}

uint32_t data_window_domain(const struct data *data, enum data_split which, uint64_t index)
{
    const struct split *split = find_split(data, which, &index);
    struct overlap part = overlap_window(data, split, index);
    uint64_t *tokens = os_alloc(data->domain_count * sizeof *tokens);
    while (overlap_next(data, split, &part))
        tokens[data->domain_of_kind[part.document->kind]] += part.count;
    uint32_t most = 0;
    for (uint32_t i = 1; i < data->domain_count; i++)
        if (tokens[i] > tokens[most]) most = i;
    free(tokens);
    return most;
}

void data_window_domains(const struct data *data, enum data_split which, uint64_t index,
                         uint32_t *domains, uint32_t *documents)
{
    const struct split *split = find_split(data, which, &index);
    const uint64_t begin = index * data->seq_len, end = window_end(data, split, index),
                   before = begin > 0; // inputs are the targets one place on
    struct overlap part = overlap_of(split, begin - before, end - 1);
    for (uint32_t i = 0; i < data->seq_len; i++) {
        domains[i] = DATA_MASKED;
        if (documents) documents[i] = DATA_MASKED;
    }
    while (overlap_next(data, split, &part))
        for (uint64_t i = part.at + 1 - before, stop = i + part.count; i < stop; i++) {
            domains[i] = data->domain_of_kind[part.document->kind];
            if (documents) documents[i] = (uint32_t)(split->first + part.number);
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
