// SPDX-License-Identifier: MIT
// One domain of the data as data of its own: the same documents in the same splits, without those
// of other domains between them. See data.h.
#include "src/data_internal.h"

#include "runtime/os.h"

static void fill(struct data *data, struct split *own, const struct split *all, uint32_t domain)
{
    uint64_t at = 0;
    *own = (struct split){.order_key = all->order_key ^ hash_string("domain") ^ domain};
    own->document = arena_array(data->own, all->count, sizeof *own->document);
    own->begin = arena_array(data->own, all->count + 1, sizeof *own->begin);
    for (uint64_t i = 0; i < all->count; i++) {
        const struct document *document = &data->documents.document[all->document[i]];
        const uint64_t length = document_length(document);
        if (data->domain_of_kind[document->kind] != domain) continue;
        at = data_place(data, at, length);
        own->begin[own->count] = at;
        own->document[own->count++] = all->document[i];
        own->tokens += length;
        own->scored += document_scored(document);
        own->bytes += document->bytes;
        at += length;
    }
    own->begin[own->count] = at;
    data_forget_foreign(data, own);
    own->windows = (at + data->seq_len - 1) / data->seq_len;
}

struct data *data_of_domain(const struct data *whole, uint32_t domain)
{
    struct data *data = os_alloc(sizeof *data);
    *data = *whole;
    data->lent = true;
    data->mix = (struct corpus_mix){0}; // a domain's windows are in one order
    data->part = NULL;
    data->own = arena_create("domain");
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++)
        fill(data, &data->split[split], &whole->split[split], domain);
    if (data->split[DATA_TRAIN].scored == 0) data->split[DATA_TRAIN].windows = 0;
    if (data->split[DATA_HELD_OUT].scored == 0) data->split[DATA_HELD_OUT].windows = 0;
    return data;
}
