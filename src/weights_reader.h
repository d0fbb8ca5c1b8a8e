// SPDX-License-Identifier: MIT
// The values of a checkpoint's files in any order, by the model's tensors; what was read does not
// stay in memory.
#pragma once

#include "weights_match.h"

struct weights_reader {
    struct weights_files   files;
    struct weights_pieces  pieces;   // sorted by part, tensor, element
    uint64_t               touched;  // bytes since the files' pages were last given back
};

// Finds all that `state` asks for, as weights_load_state, whose `put` is not called.
bool weights_reader_open(struct weights_reader *reader, const struct model *model,
                         const char *path, const struct weights_state *state);
void weights_reader_close(struct weights_reader *reader);
// Elements [begin, begin + count) of a tensor. False after one line.
bool weights_reader_get(struct weights_reader *reader, uint32_t part,
                        const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                        float *out);
// The same of words (weights_words), by their tensor's name. False after one line.
bool weights_reader_words(struct weights_reader *reader, const char *name, uint64_t begin,
                          uint64_t count, uint32_t *out);
