// SPDX-License-Identifier: MIT
// The weights of a model on a device: f32 masters (but where master_weights is false), the compute
// copy in the storage type, and for training gradients, the optimizer's moments and the weights'
// mean; one buffer per segment of the model's flat space each.
#pragma once

#include "model.h"
#include "plan.h"

enum params_class {
    PARAMS_COMPUTE,
    PARAMS_MASTER,
    PARAMS_GRAD,
    PARAMS_M,
    PARAMS_V,
    PARAMS_RECORDS, // moments in codes (codes.h): words, CODES_WORDS a record
    PARAMS_AVERAGE, // mean of the masters over the steps (ema_decay, swa_every)
    PARAMS_CLASSES
};

struct params {
    struct gpu         *gpu;
    const struct model *model;
    enum dtype          store;   // of the compute copy; f32: masters are the copy
    bool                training;
    struct gpu_buffer **buffer[PARAMS_CLASSES]; // [segment]; NULL where the class is not kept
    enum gpu_memory     state_memory; // where the optimizer's state and the weights' mean lie
    // Where experts that no token came to stay as they are: u32 [MoE layers][moves_stride]
    struct gpu_buffer  *expert_steps; // how many steps each took; kept
    struct gpu_buffer  *moves;        // in this step: touched, then the step that it takes, or 0
    uint32_t            moves_stride, moves_layers; // layers 0: there are no such experts
    struct experts     *experts;      // of a streamed model, given and destroyed with this
    struct gpu_buffer  *widths;       // u32 [experts] where they differ, else NULL
    struct arena       *arena;
};

// Contents are undefined but for the moments, which are zero. training false: only the compute copy
// exists.
struct params *params_create(struct gpu *gpu, const struct model *model, bool training);
// For training with so much memory of the device, which experts that come and go share: where the
// rest would take most of it, the optimizer's state lies in memory of the host, which the device
// reads and writes once a step; `out`: in any case. NULL after one line where that is too much.
struct params *params_create_within(struct gpu *gpu, const struct model *model, uint64_t budget,
                                    bool out);
void           params_destroy(struct params **params);
bool           params_init(struct params *params); // initial values from the config's seed
// Where a tensor begins in its segment's buffer of a class, in elements (words of records).
uint64_t       params_offset(enum params_class which, const struct model_tensor *tensor);
enum dtype     params_dtype(const struct params *params, enum params_class which);
// f32 values in and out, converted as needed; writing the master also writes the compute copy,
// which stands for it where there is none.
bool params_write(struct params *params, enum params_class which, const struct model_tensor *tensor,
                  uint64_t begin, uint64_t count, const float *values);
bool params_read(struct params *params, enum params_class which, const struct model_tensor *tensor,
                 uint64_t begin, uint64_t count, float *values);
// One class as a file's values: `user` of weights_load and weights_save (weights.h).
struct params_values { struct params *params; enum params_class which; };
bool params_put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values);
bool params_get(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                float *values);
// The weights become their mean (PARAMS_AVERAGE).
bool params_take_average(struct params *params);
// The records of a tensor, those of an expert together: words [begin, begin + count).
bool params_write_records(struct params *params, const struct model_tensor *tensor, uint64_t begin,
                          uint64_t count, const uint32_t *words);
bool params_read_records(struct params *params, const struct model_tensor *tensor, uint64_t begin,
                         uint64_t count, uint32_t *words);
// The steps that each expert of a MoE layer took: [experts].
bool params_write_steps(struct params *params, uint32_t moe_layer, const uint32_t *steps);
bool params_read_steps(struct params *params, uint32_t moe_layer, uint32_t *steps);
// The tensor's range of a class, for the steps of a plan.
// The range of tensors that lie side by side in one buffer; {0} where they do not.
struct plan_range params_range_of(const struct params *params, struct plan *plan,
                                  enum params_class which,
                                  const struct model_tensor *const *tensor, uint32_t count);
struct plan_range params_range(const struct params *params, struct plan *plan,
                               enum params_class which, const struct model_tensor *tensor);
