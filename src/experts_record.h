// SPDX-License-Identifier: MIT
// The record of one expert in the store (runtime/store.h): part 0 its matrices in the model's
// storage type, part 1 the optimizer's state. The key is (which of the MoE layers) * num_experts +
// expert. The same for all MoE layers of a model.
//
//     part 0 "weights"   STORE [elements]: gate, up, down, then the biases of up and of down, as
//                        far as the model has them; each [rows][cols] from its own offset on, a
//                        multiple of 256 bytes; zeros in between
//     part 1 "state"     f32 [elements] masters, where STORE is not f32 and there are any; f32
//                        [elements] first moments, where any is kept in f32; f32 [elements] second
//                        moments, where any of them is AdamW's: each matrix at the same offset in
//                        elements as its weights. Then the moments of matrices that are in codes
//                        of 8 bits (adamw_8bit): records of codes.h, matrix behind matrix. Then
//                        u64: how many steps the expert took
//
// An expert without a record has its initial values, which follow from the config and the seed,
// and a record without state has zeros there and masters equal to its weights: an expert that no
// token ever came to needs no bytes anywhere.
#pragma once

#include "dtype.h"
#include "model.h"
#include "runtime/store.h"

enum { RECORD_MATRICES = 5, RECORD_WEIGHTS = 0, RECORD_STATE = 1 }; // parts
enum { RECORD_ALIGN = 128 }; // elements: 256 bytes even in 16 bits

// Whether the optimizer's state is there.
enum record_state { RECORD_STATE_NONE, RECORD_STATE_WHOLE };

enum record_array {
    RECORD_COMPUTE, RECORD_MASTER, RECORD_M, RECORD_V, RECORD_CODES, RECORD_ARRAYS
};

struct record_matrix {
    enum model_role role;
    uint32_t        rows, cols;
    uint64_t        begin;  // elements in front of it, in each array
    uint64_t        count;  // rows * cols
    uint64_t        code_begin, codes; // records of codes in front of its own, its own; 0: none
    bool            has_m, has_v;      // moments in f32
};

struct experts_record {
    const struct model  *model;
    enum dtype           store;
    enum record_state    state;
    struct record_matrix matrix[RECORD_MATRICES];
    uint32_t             matrix_count;
    uint64_t             elements; // of an array, with what lies between matrices
    uint64_t             codes;    // records of codes
    // Bytes in the record where an array begins; 0 (but for RECORD_COMPUTE): there is none
    uint64_t             array[RECORD_ARRAYS];
    uint64_t             steps;    // of the u64; 0: none
    uint64_t             weights_bytes, state_bytes, bytes; // of the parts; of all, each rounded up
    uint64_t             keys;     // MoE layers * num_experts
};

// False after one line where the model has no experts. The model stays the caller's.
bool experts_record_init(struct experts_record *record, const struct model *model,
                         enum record_state state);
// Identity, parts, keys and names in messages; folder, kept and file are the caller's. The text of
// the identity is free()'d by him.
char *experts_record_params(const struct experts_record *record, struct store_params *out);
uint64_t experts_record_key(const struct experts_record *record, uint32_t moe_layer,
                            uint32_t expert);
// The stack of a MoE layer that matrix `index` is of.
const struct model_tensor *experts_record_stack(const struct experts_record *record,
                                                uint32_t moe_layer, uint32_t index);

// Where a matrix of an array lies in the record, in bytes, and how many; *bytes 0: it has none.
uint64_t experts_record_place(const struct experts_record *record, enum record_array array,
                              uint32_t matrix, uint64_t *bytes);

// A whole record as it is before the first step.
void experts_record_initial(const struct experts_record *record, uint64_t key, void *out);
// The parts that a stored record does not hold (store_read's `held`), from those that it does.
void experts_record_complete(const struct experts_record *record, uint64_t key, uint32_t held,
                             void *out);
// Elements [begin, begin + count) of a matrix of an array (but RECORD_CODES) as f32. Masters that
// the record does not have are its weights; writing one writes both. Moments that it does not have
// are 0, and dropped.
void experts_record_get(const struct experts_record *record, const void *from,
                        enum record_array array, uint32_t matrix, uint64_t begin, uint64_t count,
                        float *values);
void experts_record_put(const struct experts_record *record, void *to, enum record_array array,
                        uint32_t matrix, uint64_t begin, uint64_t count, const float *values);
uint64_t experts_record_steps(const struct experts_record *record, const void *from);
void     experts_record_set_steps(const struct experts_record *record, void *to, uint64_t steps);
// Which parts must be stored for the record to be what it is: none where it is as before the first
// step, no state where that follows from the weights. `scratch` has room for a record.
uint32_t experts_record_parts(const struct experts_record *record, uint64_t key, const void *from,
                              void *scratch);
