// SPDX-License-Identifier: MIT
// What pack and unpack share: where a model comes from (a run folder, a folder from elsewhere, a
// file), and the files of a run that are copied as they are.
#pragma once

#include "checkpoint.h"
#include "config.h"
#include "weights_reader.h"

#define EXPERTS_FOLDER "experts"         // of a run: the store's segments
#define EXPERTS_MANIFEST "experts.json"  // of a checkpoint

struct folder_source {
    struct config config;
    struct arena *arena;
    const char   *folder;     // of config.json
    const char   *checkpoint; // folder of the newest checkpoint, else `folder`
    const char   *weights;    // what weights_load takes
    uint64_t      step;       // 0: none
    bool          is_folder, has_checkpoint, has_store, has_average;
};

bool folder_source_open(struct folder_source *source, const char *path);
void folder_source_close(struct folder_source *source); // also of one that failed to open

// Whether the experts of a checkpoint (its folder) lie in the run's store.
bool experts_in_store(const char *checkpoint);
// Paths of the manifests of all checkpoints of a run folder, the newest one last.
const char **experts_manifests(const char *dir, struct arena *arena, uint32_t *count);

// tokenizer.json, kernels.json, data.json, metrics.jsonl, routing.trace, as far as they are there.
bool folder_copy_run(const struct folder_source *source, struct checkpoint *to,
                     struct arena *arena);
// state.json; false where there is none to copy.
bool folder_copy_state(const struct folder_source *source, struct checkpoint *to,
                       struct arena *arena);
// Of the first file, without the "format" that weights_save_state adds itself.
const struct safetensors_metadata *folder_metadata(const struct weights_reader *reader,
                                                   uint32_t *count);

// The optimizer's file as optimizer_state.c writes it, without a device: parts m. and v. (names and
// `has`, whose user is the model), then words: with `experts` the steps of experts, one entry a MoE
// layer, to be filled; then codes, with `experts` theirs too, which come from `from` when they are
// saved (`of`: the tensor, `index`: the expert).
void optimizer_parts(const struct model *model, struct weights_part part[2]);
struct weights_words *optimizer_words(const struct model *model, struct weights_reader *from,
                                      bool experts, struct arena *arena, uint32_t *steps_count,
                                      uint32_t *count);
