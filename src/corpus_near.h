// SPDX-License-Identifier: MIT
// Duplicates. Exact: the same text but for white space, found by xxh64 and compared byte by byte,
// so that no collision drops a text. Near: the Jaccard index of the sets of five words in a row
// (lower case, without punctuation; of ids: five ids in a row) is at least the threshold. MinHash
// with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman, ch. 3) proposes
// pairs, and what it proposes is computed exactly: nothing under the threshold is ever dropped, and
// a pair at it is missed with a chance below 1 in 1000. Compared exactly only are documents above
// 64 MiB, and rendered ones of which only a part is scored: another part of the same one is another
// lesson.
#pragma once

#include "data_source.h"

enum { CORPUS_SHINGLE = 5, CORPUS_HASHES = 128, CORPUS_NEAR_MOST = 64 << 20 };

// xxh64 of the text in which every run of white space is one space, none at either end.
uint64_t corpus_hash(const struct document *document);
bool     corpus_equal(const struct document *a, const struct document *b);

// Sorted hashes of all runs of five words, each once; of fewer words: of all of them. free() it.
uint64_t *corpus_shingles(const struct document *document, uint64_t *count);
double    corpus_jaccard(const uint64_t *a, uint64_t a_count, const uint64_t *b, uint64_t b_count);

// How signatures are cut into bands, so that a pair at the threshold shares one almost surely.
struct corpus_bands { uint32_t bands, rows; };
struct corpus_bands corpus_bands(double threshold);

// The documents that stayed so far. Near ones are looked for where threshold > 0.
struct corpus_seen;
struct corpus_seen *corpus_seen_create(const struct document *document, double threshold);
void                corpus_seen_destroy(struct corpus_seen **seen);
enum corpus_twin { CORPUS_NEW, CORPUS_EXACT_TWIN, CORPUS_NEAR_TWIN };
// Whether documents[index] is new, and so stays. `of`: the one that it is a duplicate of.
enum corpus_twin corpus_seen_add(struct corpus_seen *seen, uint64_t index, uint64_t *of);
