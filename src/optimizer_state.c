// SPDX-License-Identifier: MIT
// The state of the optimizer <-> one file: see optimizer_state.h.
#include "src/optimizer_state.h"

static bool put_m(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  const float *values)
{
    return params_write(user, PARAMS_M, t, begin, count, values);
}

static bool put_v(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  const float *values)
{
    return params_write(user, PARAMS_V, t, begin, count, values);
}

static bool get_m(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    return params_read(user, PARAMS_M, t, begin, count, values);
}

static bool get_v(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                  float *values)
{
    return params_read(user, PARAMS_V, t, begin, count, values);
}

static bool has_v(const void *user, const struct model_tensor *tensor)
{
    const struct params *params = user;
    return model_has_v(params->model, tensor);
}

static struct weights_part *make_parts(struct params *params, struct arena *arena)
{
    struct weights_part *part = arena_array(arena, 2, sizeof *part);
    part[0] = (struct weights_part){.prefix = "m.", .put = put_m, .get = get_m, .user = params};
    part[1] = (struct weights_part){
        .prefix = "v.", .put = put_v, .get = get_v, .user = params, .has = has_v};
    return part;
}

// One entry a MoE layer, values not yet filled in.
static struct weights_words *make_words(const struct params *params, struct arena *arena)
{
    const struct config *c = &params->model->config;
    struct weights_words *words = arena_array(arena, params->moves_layers + 1, sizeof *words);
    uint32_t count = 0;
    for (uint32_t layer = 0; params->moves_layers && layer < c->num_hidden_layers; layer++) {
        if (!c->moe_layer[layer]) continue;
        words[count++] = (struct weights_words){
            .name = arena_printf(arena, "steps.model.layers.%u.experts", layer),
            .values = arena_array(arena, c->num_experts, sizeof(uint32_t)),
            .count = c->num_experts};
    }
    return words;
}

bool optimizer_state_save(struct params *params, const char *path,
                          const struct safetensors_metadata *metadata, uint32_t metadata_count)
{
    struct arena *arena = arena_create("optimizer state");
    const struct weights_words *words = make_words(params, arena);
    const struct weights_state state = {make_parts(params, arena), 2, words, params->moves_layers};
    bool ok = true;
    for (uint32_t i = 0; ok && i < params->moves_layers; i++)
        ok = params_read_steps(params, i, words[i].values);
    ok = ok && weights_save_state(params->model, path, &state, metadata, metadata_count);
    arena_destroy(&arena);
    return ok;
}

bool optimizer_state_load(struct params *params, const char *path)
{
    struct arena *arena = arena_create("optimizer state");
    const struct weights_words *words = make_words(params, arena);
    const struct weights_state state = {make_parts(params, arena), 2, words, params->moves_layers};
    bool ok = weights_load_state(params->model, path, &state);
    for (uint32_t i = 0; ok && i < params->moves_layers; i++)
        ok = params_write_steps(params, i, words[i].values);
    arena_destroy(&arena);
    return ok;
}
