// SPDX-License-Identifier: MIT
// What the tests of small models in training share: a device with a model, their own or one of two
// layers that takes 14 tokens a step, and the values of a tensor.
#pragma once

#include "tests/unit.h"

#include "src/trainer.h"

enum { TOKENS = 14, HIDDEN = 12 };

struct world {
    struct gpu     *gpu;
    struct kernels *kernels;
    struct model   *model;
    struct trainer *trainer;
};

// NULL where the model is refused.
UNIT_HELPER struct model *make_model_of(const char *json)
{
    struct config config;
    assert_true(config_parse(&config, "test.json", json, NULL, 0));
    return model_create(&config, 1 << 30);
}

// `keys` as in a config, behind those of the small model.
UNIT_HELPER struct model *make_model(const char *keys)
{
    char json[900];
    snprintf(json, sizeof json,
             "{\"model_type\": \"vkmoe\", \"vocab_size\": 31, \"hidden_size\": 12, "
             "\"intermediate_size\": 10, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
             "\"max_position_embeddings\": 16, \"initializer_range\": 0.3, \"seq_len\": 7, "
             "\"batch_size\": 2, \"steps\": 9, \"seed\": 5, %s}", keys);
    return make_model_of(json);
}

// On a device that stays open; takes the model.
UNIT_HELPER struct world enter_world(struct gpu *gpu, struct kernels *kernels, struct model *model)
{
    struct world w = {gpu, kernels, model, trainer_create(gpu, kernels, model)};
    assert_non_null(w.trainer);
    assert_true(params_init(trainer_params(w.trainer)));
    return w;
}

UNIT_HELPER void leave_world(struct world *w)
{
    trainer_destroy(&w->trainer);
    model_destroy(&w->model);
}

UNIT_HELPER struct world open_world(const char *device, const char *keys)
{
    struct gpu *gpu = gpu_create(&(struct gpu_params){.device = device});
    return enter_world(gpu, kernels_create(gpu), make_model(keys));
}

UNIT_HELPER void close_world(struct world *w)
{
    leave_world(w);
    kernels_destroy(&w->kernels);
    gpu_destroy(&w->gpu);
}

// One step on tokens that follow from its number; a rate of 0: the weights stay.
UNIT_HELPER struct trainer_result step_of(struct world *w, uint32_t step, double rate)
{
    uint32_t ids[TOKENS], targets[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++) {
        ids[i] = (uint32_t)rng_below(11, 2 * (step - 1), i, 31);
        targets[i] = (uint32_t)rng_below(11, 2 * (step - 1) + 1, i, 31);
    }
    struct trainer_result result;
    const struct batch batch = {ids, targets};
    assert_true(trainer_submit(w->trainer, step, rate, &batch));
    assert_true(trainer_collect(w->trainer, &result));
    return result;
}

// To be freed.
UNIT_HELPER float *values_of(struct world *w, enum params_class which, const struct model_tensor *t)
{
    float *values = calloc(t->count, sizeof *values);
    assert_true(params_read(trainer_params(w->trainer), which, t, 0, t->count, values));
    return values;
}

UNIT_HELPER void write_values(struct world *w, const struct model_tensor *t, const float *values)
{
    assert_true(params_write(trainer_params(w->trainer), PARAMS_MASTER, t, 0, t->count, values));
}
