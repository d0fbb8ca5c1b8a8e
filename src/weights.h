// SPDX-License-Identifier: MIT
// safetensors <-> tensor table, tensor by tensor through callbacks, so that a model never lies
// whole in host memory. Optimizer moments go through the same code under a prefix ("m.", "v.").
#pragma once

#include "model.h"
#include "safetensors.h"

enum { WEIGHTS_CHUNK = 4 << 20 }; // most elements handed over at once

// Takes elements [begin, begin + count) of the tensor ([experts][rows][cols], flat). False stops.
typedef bool weights_put_fn(void *user, const struct model_tensor *tensor, uint64_t begin,
                            uint64_t count, const float *values);
// Gives them.
typedef bool weights_get_fn(void *user, const struct model_tensor *tensor, uint64_t begin,
                            uint64_t count, float *values);

// One value per element of the model: its weights (prefix ""), or a moment of the optimizer.
struct weights_part {
    const char     *prefix; // before each tensor's name in the file
    weights_put_fn *put;    // for loading
    weights_get_fn *get;    // for saving
    void           *user;
    // NULL: all tensors have it
    bool          (*has)(const void *user, const struct model_tensor *tensor);
};

// Numbers that are no element's: a tensor U32 [count] of its own, in `values`, or, where that is
// NULL, handed over in pieces of at most WEIGHTS_CHUNK; put NULL: its shape is compared alone.
struct weights_words {
    const char *name;
    uint32_t   *values;
    uint64_t    count;
    bool (*put)(const struct weights_words *words, uint64_t begin, uint64_t count,
                const uint32_t *values);
    bool (*get)(const struct weights_words *words, uint64_t begin, uint64_t count,
                uint32_t *values);
    void       *user;
    const void *of; // put's and get's own: what it is of
    uint32_t    index;
};

// What one file holds.
struct weights_state {
    const struct weights_part  *part;
    uint32_t                    part_count;
    const struct weights_words *words;
    uint32_t                    words_count;
};

// `path`: a .safetensors file, a model.safetensors.index.json, or a folder that holds
// model.safetensors or the index. Names and shapes of all tensors are compared before the first
// `put`; a missing, extra or misshapen tensor, a type other than F32, BF16 and F16, and a value
// that is not finite are refused in one line. Streamed tensors are compared, and not read. Experts
// may be one tensor each or batched as [experts][2 I][H] with the gate first; a tied head may be in
// the file or not.
bool weights_load(const struct model *model, const char *path, weights_put_fn *put, void *user);
// The file of a checkpoint whose experts lie in a store: streamed tensors must not be in it.
bool weights_load_dense(const struct model *model, const char *path, weights_put_fn *put,
                        void *user);
bool weights_load_parts(const struct model *model, const char *path,
                        const struct weights_part *part, uint32_t part_count);
bool weights_load_state(const struct model *model, const char *path,
                        const struct weights_state *state);

// Writes f32, and weights that have no masters in their storage type, beside PATH and renames it:
// one tensor an expert, named as in Hugging Face's files. A value that is not finite is refused. On
// failure nothing is left and an older file stays.
bool weights_save(const struct model *model, const char *path, weights_get_fn *get, void *user,
                  const struct safetensors_metadata *metadata, uint32_t metadata_count);
bool weights_save_parts(const struct model *model, const char *path,
                        const struct weights_part *part, uint32_t part_count,
                        const struct safetensors_metadata *metadata, uint32_t metadata_count);
bool weights_save_state(const struct model *model, const char *path,
                        const struct weights_state *state,
                        const struct safetensors_metadata *metadata, uint32_t metadata_count);
