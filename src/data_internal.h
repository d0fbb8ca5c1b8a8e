// SPDX-License-Identifier: MIT
// What data.c (documents -> splits) and data_window.c (splits -> windows) share. A split is its
// documents with the place at which each begins; a place that no document takes is padding.
#pragma once

#include "src/corpus.h"
#include "src/corpus_mix.h"
#include "src/data.h"
#include "src/data_source.h"

struct split {
    uint64_t *document; // [count] indices, ascending
    uint64_t *begin;    // [count + 1] place of the first token; the last entry is the end
    uint64_t  count, windows;
    uint64_t  tokens, scored, bytes; // without padding; of the scored ones; bytes of these
    uint64_t  first;     // of its documents in the split that it is a part of
    uint64_t  order_key; // of the permutation
};

struct data {
    struct documents        documents;
    const struct tokenizer *tokenizer;
    const uint32_t         *byte_ids; // of text that stays text: each byte is a token
    uint32_t                seq_len, context; // context: the id in front of the first token
    bool                    copy, whole, boundaries; // whole: of packing
    struct split            split[DATA_SPLIT_COUNT];
    struct split           *part; // [mix.sources] of the training split, where there are weights
    struct corpus_mix       mix;
    struct corpus_counts    counts; // of what filters and deduplication took out
    uint32_t               *domain_of_kind; // [KIND_COUNT + named], documents.name
    uint32_t               *kind_of_domain; // [domain_count]
    uint32_t                domain_count;
    uint64_t                cuts; // so many documents, the last, are the ends of others
    bool                    lent; // the documents are those of another (data_of_domain)
    struct arena           *own;  // of a lent one's splits
    uint64_t                fingerprint;
    const char             *summary;
};

// Tokens of a document, its end-of-text included.
static inline uint64_t document_length(const struct document *document)
{
    return document->count + document->ends;
}

// The place of a document that would begin at `at`: with whole documents the next window's begin,
// where it does not fit in what is left of this one.
uint64_t data_place(const struct data *data, uint64_t at, uint64_t length);
// What the split's first tokens without a context of their own do not count.
void data_forget_foreign(const struct data *data, struct split *split);
// Whether boundaries are asked for and the document's first token has no context but another
// document's last, which nothing ends: then it is no target.
bool data_is_foreign(const struct data *data, const struct split *split, uint64_t number);
