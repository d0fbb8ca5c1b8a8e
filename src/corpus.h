// SPDX-License-Identifier: MIT
// Between paths and splits: which documents stay. Filters look at one document each, in the order
// of the keys (config.h, struct config_corpus), and the first that it does not pass is the reason;
// then duplicates go, of which the first in the order of the paths stays (corpus_near.h).
//
// Words are what stands between white space. Documents of ids (shards, rendered ones) have no
// words, letters or lines: of the filters only those on bytes look at them.
#pragma once

#include "config.h"
#include "data_source.h"

enum corpus_reason {
    CORPUS_SHORT, CORPUS_LONG, CORPUS_WORDS, CORPUS_UNIQUE_WORDS, CORPUS_LETTERS, CORPUS_LINES,
    CORPUS_SAME, CORPUS_NEAR, CORPUS_KEPT,
};

// Why a document goes, CORPUS_KEPT: it passes all filters. Duplicates are not looked for.
enum corpus_reason corpus_filter(const struct config_corpus *rules,
                                 const struct document *document);

struct corpus_counts { uint64_t documents, by[CORPUS_KEPT + 1]; };

// Takes out what does not stay; the others keep their order. False after one line: none stays.
// `rules` NULL: all stay.
bool corpus_select(struct documents *documents, const struct config_corpus *rules,
                   struct corpus_counts *counts);
// "dropped 5 of 100 documents: 3 under min_bytes 40, 2 the same as another"; nothing where all stay
void corpus_print(const struct corpus_counts *counts, const struct config_corpus *rules,
                  struct bytes *out);
