// SPDX-License-Identifier: MIT
// A model's folder -> one small file, and that file -> the tensor table: parameter-golf PR 660's
// export, for any model. Which kind of numbers a tensor gets is decided by name and size.
#pragma once

#include "export_file.h"
#include "weights.h"

struct export_rules;
// `map`: NULL or "PATTERN=KIND,...", with * for any text in a tensor's name; the first that fits
// wins, and what none fits goes by the default rules (export_rules.c). NULL after one line.
struct export_rules *export_rules_create(const char *map);
void                 export_rules_destroy(struct export_rules **rules);
enum quant_kind      export_rules_kind(const struct export_rules *rules, const char *name,
                                       uint32_t rank, uint64_t elements, uint32_t layers);
// Matrices above 65,536 elements, routers not.
bool export_is_pruned(const char *name, uint32_t rank, uint64_t elements);

struct export_params {
    const char *dir, *out;
    const char *weights; // of the folder: "average", or NULL or "model" (checkpoint_weights)
    const char *bits;  // as for export_rules_create
    double      prune; // share of the smallest weights of a matrix that become 0
    int         level; // zstd's, 1 to 22; 0: not compressed
    enum quant_packing packing;
};

struct export_sum {
    uint64_t tensors, elements, bytes;
    double   squares, error_squares; // of the weights; of what storing (and pruning) changed
};

struct export_report {
    struct export_sum kind[QUANT_COUNT];
    uint64_t parameters, pruned;                   // elements
    uint64_t header_bytes, text_bytes;             // prefix and header; config and tokenizer
    uint64_t data_bytes, file_bytes;               // before compression; in all
};

// Writes beside `out`, then renames. On failure (one line) nothing is left and an older file stays.
bool export_run(const struct export_params *params, struct export_report *report);

// The first part of an open export: config.json and tokenizer.json (NULL where there is none) as
// texts that the caller frees.
bool export_read_texts(struct export_file *file, char **config, char **tokenizer);
// What follows: every tensor of the model is there and none is left over, or one line before the
// first `put`.
bool export_read_weights(struct export_file *file, const struct model *model, weights_put_fn *put,
                         void *user);
