// SPDX-License-Identifier: MIT
// Run folders whose experts lie in a store, made from a config or from an ordinary checkpoint, and
// back. Such a folder is a run folder (checkpoint.h) in which
//
//     DIR/experts/                              the segments of the store (runtime/store.h)
//     DIR/checkpoint-NNNNNNNN/experts.json      the store as it was at that step, ...
//     DIR/checkpoint-NNNNNNNN/experts.index
//     DIR/checkpoint-NNNNNNNN/model.safetensors        ... and all weights but the experts';
//                                               none: they have their initial values
//     DIR/checkpoint-NNNNNNNN/optimizer.safetensors    their moments; none: zeros
//     DIR/checkpoint-NNNNNNNN/state.json        "data": null where it was never trained
//
// All of it streams: an expert and a chunk of 16 MiB are in memory, never the model.
#pragma once

#include "experts_record.h"

struct experts_report {
    uint64_t parameters, experts; // of the model; experts of all layers
    uint64_t records;             // of these, with a record
    uint64_t step;
    uint64_t record_bytes;
    uint64_t bytes;               // of the store's files, before (compact) ...
    uint64_t bytes_after;         // ... and after
    uint64_t dead;                // compact: places that stay, of older checkpoints
};

// A new folder at step 0, nothing of an expert on the disk.
bool experts_init_run(const struct config *config, const char *out, struct experts_report *report);
// `in`: a run folder, a folder from Hugging Face, or a file (its config.json lies beside it) ->
// a run folder `out`, which must not hold a run.
bool experts_pack(const char *in, const char *out, struct experts_report *report);
// A run folder -> the weights as one file, where `out` ends with .safetensors, else a run folder
// with all that a run without a store has.
bool experts_unpack(const char *dir, const char *out, struct experts_report *report);
// Moves the records of the newest checkpoint together and gives back what is free.
bool experts_compact(const char *dir, struct experts_report *report);

// The newest checkpoint's manifest and step; false without a line where there is none.
bool experts_find_manifest(const char *dir, char *path, size_t bytes, uint64_t *step);
