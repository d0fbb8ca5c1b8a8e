// SPDX-License-Identifier: MIT
// Which window of the training text comes when. A place in the run is one integer, from which the
// window is computed and nowhere stored, so a resumed run goes on exactly.
//
// Without weights an epoch is a seeded bijection of all windows. With them (`3*PATH`) each source
// has windows of its own, and an epoch is weight * windows draws of each, rounded, in a seeded
// order; a source's draws go through its windows pass by pass, each pass in another order, and on
// from epoch to epoch: after any number of whole passes each window was seen equally often.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CORPUS_WEIGHT_MOST 1e6
enum { CORPUS_MOST_SOURCES = 64 };

// Takes "3*" or "0.5*" off a path. *weight is 0 where there is none. False after one line.
bool corpus_weight(const char *path, const char **rest, double *weight);
const char *corpus_path(const char *path); // without its weight

struct corpus_share {
    uint64_t first, windows; // of the source, in natural order
    uint64_t begin, draws;   // of an epoch
};

struct corpus_mix {
    uint32_t            sources; // 0: no weights
    struct corpus_share share[CORPUS_MOST_SOURCES];
    uint64_t            windows, epoch; // in all; draws of an epoch
    uint64_t            key;
};

// A source with its windows, behind those that were added. False after one line: a weight that
// gives no window.
bool corpus_mix_add(struct corpus_mix *mix, const char *path, double weight, uint64_t windows);
// The source that has window `index` in natural order.
uint32_t corpus_mix_source(const struct corpus_mix *mix, uint64_t index);
// The window, in natural order, at `position` since the run began.
uint64_t corpus_mix_index(const struct corpus_mix *mix, uint64_t position);

// A seeded bijection of [0, count), another one in each epoch.
uint64_t corpus_permute(uint64_t index, uint64_t count, uint64_t key, uint64_t epoch);
