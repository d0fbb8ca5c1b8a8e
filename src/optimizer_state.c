// SPDX-License-Identifier: MIT
// The state of the optimizer <-> one file: see optimizer_state.h.
#include "src/optimizer_state.h"

#include <string.h>

#include "runtime/log.h"
#include "src/codes.h"

static bool has(const void *user, const struct model_tensor *tensor)
{
    const struct params_values *of = user;
    const struct model *model = of->params->model;
    return !tensor->streamed && (of->which == PARAMS_M ? model_has_m(model, tensor)
                                                       : model_has_v(model, tensor));
}

static struct weights_part *make_parts(struct params *params, struct arena *arena)
{
    struct weights_part *part = arena_array(arena, 2, sizeof *part);
    struct params_values *user = arena_array(arena, 2, sizeof *user);
    for (int i = 0; i < 2; i++) {
        user[i] = (struct params_values){params, i ? PARAMS_V : PARAMS_M};
        part[i] = (struct weights_part){.prefix = i ? "v." : "m.", .put = params_put,
                                        .get = params_get, .user = &user[i], .has = has};
    }
    return part;
}

// ---- records

static bool check_factors(const struct weights_words *words, uint64_t begin, uint64_t count,
                          const uint32_t *values)
{
    const uint64_t bad = codes_record_fault(values, begin, count);
    if (bad == count) return true;
    log_error("%s: word %llu is 0x%08x, wanted a factor of codes that is finite and not "
              "negative, then zeros",
              words->name, (unsigned long long)(begin + bad), values[bad]);
    return false;
}

static uint64_t records_begin(const struct weights_words *words, uint64_t begin)
{
    return words->index * words->count + begin; // an expert's stand together
}

static bool put_records(const struct weights_words *words, uint64_t begin, uint64_t count,
                        const uint32_t *values)
{
    return check_factors(words, begin, count, values) &&
           params_write_records(words->user, words->of, records_begin(words, begin), count, values);
}

static bool get_records(const struct weights_words *words, uint64_t begin, uint64_t count,
                        uint32_t *values)
{
    return params_read_records(words->user, words->of, records_begin(words, begin), count,
                               values) &&
           check_factors(words, begin, count, values);
}

// Of experts that come and go the store has them.
static uint32_t steps_layers(const struct params *params)
{
    return model_is_streamed(params->model) ? 0 : params->moves_layers;
}

// One entry a MoE layer, values not yet filled in.
static void add_steps(const struct params *params, struct weights_state *state,
                      struct weights_words *words, struct arena *arena)
{
    const struct config *c = &params->model->config;
    for (uint32_t layer = 0; steps_layers(params) && layer < c->num_hidden_layers; layer++) {
        if (!c->moe_layer[layer]) continue;
        words[state->words_count++] = (struct weights_words){
            .name = arena_printf(arena, "steps.model.layers.%u.experts", layer),
            .values = arena_array(arena, c->num_experts, sizeof(uint32_t)),
            .count = c->num_experts};
    }
}

// One entry a matrix.
static void add_records(struct params *params, struct weights_state *state,
                        struct weights_words *words, struct arena *arena)
{
    for (uint32_t i = 0; i < params->model->tensor_count; i++) {
        const struct model_tensor *tensor = &params->model->tensor[i];
        const uint32_t parts = max_u32(tensor->experts, 1);
        const uint64_t records = model_records(params->model, tensor);
        for (uint32_t e = 0; records && !tensor->streamed && e < parts; e++) {
            char name[sizeof tensor->name + 16];
            model_tensor_name(tensor, e, name, sizeof name);
            words[state->words_count++] = (struct weights_words){
                .name = arena_printf(arena, "codes.%s", name),
                .count = CODES_WORDS * records / parts,
                .put = put_records,
                .get = get_records,
                .user = params,
                .of = tensor,
                .index = e};
        }
    }
}

// The steps first, then the records.
static struct weights_state make_state(struct params *params, struct arena *arena)
{
    uint64_t most = params->moves_layers;
    for (uint32_t i = 0; i < params->model->tensor_count; i++)
        most += max_u32(params->model->tensor[i].experts, 1);
    struct weights_words *words = arena_array(arena, most + 1, sizeof *words);
    struct weights_state state = {.part = make_parts(params, arena), .part_count = 2,
                                  .words = words};
    add_steps(params, &state, words, arena);
    add_records(params, &state, words, arena);
    return state;
}

bool optimizer_state_save(struct params *params, const char *path,
                          const struct safetensors_metadata *metadata, uint32_t metadata_count)
{
    struct arena *arena = arena_create("optimizer state");
    const struct weights_state state = make_state(params, arena);
    bool ok = true;
    for (uint32_t i = 0; ok && i < steps_layers(params); i++)
        ok = params_read_steps(params, i, state.words[i].values);
    ok = ok && weights_save_state(params->model, path, &state, metadata, metadata_count);
    arena_destroy(&arena);
    return ok;
}

bool optimizer_state_load(struct params *params, const char *path)
{
    struct arena *arena = arena_create("optimizer state");
    const struct weights_state state = make_state(params, arena);
    bool ok = weights_load_state(params->model, path, &state);
    for (uint32_t i = 0; ok && i < steps_layers(params); i++)
        ok = params_write_steps(params, i, state.words[i].values);
    arena_destroy(&arena);
    return ok;
}
