// SPDX-License-Identifier: MIT
// Which bytes of which file are which elements of the model: the sources of weights.c. A model may
// lie in one file or in shards, its experts one by one or batched.
#pragma once

#include "weights.h"

// The files of one checkpoint.
struct weights_files {
    const char          *name;   // in messages
    struct safetensors **file;
    uint32_t             count;
    struct arena        *arena;
};
bool weights_files_open(struct weights_files *files, const char *path);
void weights_files_close(struct weights_files *files);

// Elements [begin, begin + count) of a tensor of the model are elements [source_begin, ...) of a
// tensor of a file.
struct weights_piece {
    const struct model_tensor       *tensor;
    uint64_t                         begin, count;
    const struct safetensors        *file;
    const struct safetensors_tensor *source;
    uint64_t                         source_begin;
    uint32_t                         part;
};
struct weights_pieces { struct weights_piece *piece; uint64_t count; };

// Finds the pieces of every part, which live in files->arena, and takes the words. False after one
// line.
bool weights_match(const struct model *model, struct weights_files *files,
                   const struct weights_state *state, struct weights_pieces *out);
// Elements [begin, begin + count) of a piece as f32. False after one line where one is not finite.
bool weights_values(const struct weights_piece *piece, uint64_t begin, uint64_t count, float *out);
