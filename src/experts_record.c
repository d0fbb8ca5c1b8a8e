// SPDX-License-Identifier: MIT
// The record of one expert: see experts_record.h.
#include "src/experts_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/codes.h"

enum { CODES_BYTES = 4 * CODES_WORDS };

static const struct { enum model_role role; const char *name; } roles[RECORD_MATRICES] = {
    {ROLE_EXPERT_GATE, "gate"},       {ROLE_EXPERT_UP, "up"},
    {ROLE_EXPERT_DOWN, "down"},       {ROLE_EXPERT_UP_BIAS, "up_bias"},
    {ROLE_EXPERT_DOWN_BIAS, "down_bias"},
};

// The layer of the model that is MoE layer `moe_layer`.
static int32_t layer_of(const struct model *model, uint32_t moe_layer)
{
    const struct config *c = &model->config;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i] && moe_layer-- == 0) return (int32_t)i;
    return -1;
}

// ---- layout

// What the optimizer keeps of a matrix, of any layer: param_groups may tell layers apart.
static void add_moments(const struct model *model, struct record_matrix *matrix)
{
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *t = &model->tensor[i];
        if (!t->experts || t->role != matrix->role) continue;
        matrix->has_m |= model_has_m(model, t);
        matrix->has_v |= model_has_v(model, t);
        matrix->codes = max_u64(matrix->codes, model_records(model, t) / t->experts);
    }
}

static void add_matrices(struct experts_record *record)
{
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        const struct model_tensor *t =
            model_find(record->model, roles[i].role, layer_of(record->model, 0));
        if (!t) continue;
        struct record_matrix *matrix = &record->matrix[record->matrix_count++];
        *matrix = (struct record_matrix){.role = roles[i].role,
                                         .rows = t->rows,
                                         .cols = t->cols,
                                         .begin = record->elements,
                                         .count = (uint64_t)t->rows * t->cols,
                                         .code_begin = record->codes};
        add_moments(record->model, matrix);
        record->elements += align_up(matrix->count, RECORD_ALIGN);
        record->codes += matrix->codes;
    }
}

static void place_arrays(struct experts_record *record)
{
    const uint64_t begin = align_up(record->weights_bytes, STORE_ALIGN),
                   bytes = record->elements * sizeof(float);
    bool any_m = false, any_v = false;
    for (uint32_t i = 0; i < record->matrix_count; i++) {
        any_m |= record->matrix[i].has_m;
        any_v |= record->matrix[i].has_v;
    }
    uint64_t at = begin;
    if (record->store != DTYPE_F32 && record->model->config.master_weights)
        record->array[RECORD_MASTER] = at, at += bytes;
    if (any_m) record->array[RECORD_M] = at, at += bytes;
    if (any_v) record->array[RECORD_V] = at, at += bytes;
    if (record->codes) record->array[RECORD_CODES] = at, at += CODES_BYTES * record->codes;
    record->steps = at;
    record->state_bytes = at + sizeof(uint64_t) - begin;
    record->bytes = begin + align_up(record->state_bytes, STORE_ALIGN);
}

bool experts_record_init(struct experts_record *record, const struct model *model,
                         enum record_state state)
{
    const struct config *c = &model->config;
    *record = (struct experts_record){.model = model, .store = c->torch_dtype, .state = state};
    add_matrices(record);
    if (!record->matrix_count) {
        log_error("the model has no experts that could lie in a store");
        return false;
    }
    if (c->width_count) {
        log_error("experts of different widths (moe_intermediate_size is a list) cannot lie in a "
                  "store, whose records are alike; wanted one width");
        return false;
    }
    record->keys = (uint64_t)config_moe_layers(c) * c->num_experts;
    record->weights_bytes = record->elements * dtype_bytes(record->store);
    record->bytes = align_up(record->weights_bytes, STORE_ALIGN);
    if (state == RECORD_STATE_WHOLE) place_arrays(record);
    return true;
}

uint64_t experts_record_place(const struct experts_record *record, enum record_array array,
                              uint32_t matrix, uint64_t *bytes)
{
    const struct record_matrix *m = &record->matrix[matrix];
    const uint64_t size = array == RECORD_COMPUTE ? dtype_bytes(record->store) : sizeof(float);
    const bool none = (array != RECORD_COMPUTE && !record->array[array]) ||
                      (array == RECORD_M && !m->has_m) || (array == RECORD_V && !m->has_v);
    *bytes = none ? 0 : array == RECORD_CODES ? CODES_BYTES * m->codes : m->count * size;
    return record->array[array] +
           (array == RECORD_CODES ? CODES_BYTES * m->code_begin : m->begin * size);
}

uint64_t experts_record_key(const struct experts_record *record, uint32_t moe_layer,
                            uint32_t expert)
{
    const struct config *c = &record->model->config;
    // a repeated layer has the experts of the layer that it repeats
    const uint32_t owner =
        config_layer_owner(c, (uint32_t)layer_of(record->model, moe_layer));
    return (uint64_t)model_moe_index(record->model, owner) * c->num_experts + expert;
}

const struct model_tensor *experts_record_stack(const struct experts_record *record,
                                                uint32_t moe_layer, uint32_t index)
{
    return model_find(record->model, record->matrix[index].role,
                      layer_of(record->model, moe_layer));
}

// ---- what a store says of itself

static void print_identity(const struct experts_record *record, struct bytes *out)
{
    const struct model *model = record->model;
    const struct config *c = &model->config;
    bytes_printf(out, "experts of %s\nmoe_layers", config_family_name(c->family));
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i]) bytes_printf(out, " %u", i);
    bytes_printf(out, "\nnum_experts %u\ntorch_dtype %s%s\n", c->num_experts,
                 dtype_name(record->store), c->master_weights ? "" : " without masters");
    for (uint32_t i = 0; i < record->matrix_count; i++) {
        const struct record_matrix *m = &record->matrix[i];
        const char *name = "";
        for (size_t r = 0; r < COUNT_OF(roles); r++)
            if (roles[r].role == m->role) name = roles[r].name;
        bytes_printf(out, "%s [%u][%u]%s\n", name, m->rows, m->cols,
                     m->codes ? " moments in codes" : "");
    }
    // experts without a record are made from these
    static const char *const kinds[] = {[MODEL_NORMAL] = "normal",
                                        [MODEL_TRUNCATED] = "truncated",
                                        [MODEL_ORTHOGONAL] = "orthogonal"};
    bytes_printf(out, "seed %llu\n", (unsigned long long)c->seed);
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct model_tensor *t = &model->tensor[i];
        if (!t->experts) continue;
        bytes_printf(out, "%s %s %.9g %.9g\n", t->name, kinds[t->init], t->init_value,
                     t->init_std);
    }
}

static void describe(void *user, uint64_t key, char *out, size_t bytes)
{
    const struct model *model = user;
    const uint32_t experts = model->config.num_experts;
    snprintf(out, bytes, "layer %d, expert %llu", layer_of(model, (uint32_t)(key / experts)),
             (unsigned long long)(key % experts));
}

char *experts_record_params(const struct experts_record *record, struct store_params *out)
{
    struct bytes identity = {0};
    print_identity(record, &identity);
    *out = (struct store_params){.name = "experts",
                                 .identity = (const char *)identity.data,
                                 .keys = record->keys,
                                 .part = {{"weights", record->weights_bytes},
                                          {"state", record->state_bytes}},
                                 .part_count = record->state_bytes ? 2 : 1,
                                 .describe = describe,
                                 .user = (void *)(uintptr_t)record->model};
    return (char *)identity.data;
}

// ---- values

void experts_record_get(const struct experts_record *record, const void *from,
                        enum record_array array, uint32_t matrix, uint64_t begin, uint64_t count,
                        float *values)
{
    const uint64_t first = record->matrix[matrix].begin + begin;
    if (array == RECORD_MASTER && !record->array[RECORD_MASTER]) array = RECORD_COMPUTE;
    const uint8_t *base = (const uint8_t *)from + record->array[array];
    const enum dtype dtype = array == RECORD_COMPUTE ? record->store : DTYPE_F32;
    if (array != RECORD_COMPUTE && !record->array[array]) memset(values, 0, count * sizeof *values);
    else if (dtype == DTYPE_F32)
        memcpy(values, base + first * sizeof *values, count * sizeof *values);
    else
        for (uint64_t i = 0; i < count; i++)
            values[i] = (float)dtype_load(base, first + i, dtype);
}

static void put_compute(const struct experts_record *record, uint8_t *base, uint64_t first,
                        uint64_t count, const float *values)
{
    if (record->store == DTYPE_F32)
        memcpy(base + first * sizeof *values, values, count * sizeof *values);
    else
        for (uint64_t i = 0; i < count; i++)
            dtype_store(base, first + i, record->store, values[i]);
}

void experts_record_put(const struct experts_record *record, void *to, enum record_array array,
                        uint32_t matrix, uint64_t begin, uint64_t count, const float *values)
{
    const uint64_t first = record->matrix[matrix].begin + begin;
    if (array == RECORD_COMPUTE || array == RECORD_MASTER)
        put_compute(record, to, first, count, values);
    if (array != RECORD_COMPUTE && record->array[array])
        memcpy((uint8_t *)to + record->array[array] + first * sizeof *values, values,
               count * sizeof *values);
}

uint64_t experts_record_steps(const struct experts_record *record, const void *from)
{
    uint64_t steps = 0;
    if (record->steps) memcpy(&steps, (const uint8_t *)from + record->steps, sizeof steps);
    return steps;
}

void experts_record_set_steps(const struct experts_record *record, void *to, uint64_t steps)
{
    if (record->steps) memcpy((uint8_t *)to + record->steps, &steps, sizeof steps);
}

void experts_record_initial(const struct experts_record *record, uint64_t key, void *out)
{
    const uint32_t experts = record->model->config.num_experts;
    memset(out, 0, record->bytes);
    for (uint32_t i = 0; i < record->matrix_count; i++) {
        const uint64_t count = record->matrix[i].count;
        float *values = malloc(count * sizeof *values);
        model_init_values(record->model,
                          experts_record_stack(record, (uint32_t)(key / experts), i),
                          key % experts * count, count, values);
        experts_record_put(record, out, RECORD_MASTER, i, 0, count, values);
        free(values);
    }
}

void experts_record_complete(const struct experts_record *record, uint64_t key, uint32_t held,
                             void *out)
{
    if (!(held >> RECORD_WEIGHTS & 1)) {
        experts_record_initial(record, key, out);
        return;
    }
    if (held >> RECORD_STATE & 1 || record->state == RECORD_STATE_NONE) return;
    memset((uint8_t *)out + record->bytes - align_up(record->state_bytes, STORE_ALIGN), 0,
           align_up(record->state_bytes, STORE_ALIGN));
    for (uint32_t i = 0; i < record->matrix_count && record->array[RECORD_MASTER]; i++) {
        const uint64_t count = record->matrix[i].count;
        float *values = malloc(count * sizeof *values);
        experts_record_get(record, out, RECORD_COMPUTE, i, 0, count, values);
        experts_record_put(record, out, RECORD_MASTER, i, 0, count, values);
        free(values);
    }
}

// The first values alone tell it of nearly all that were ever trained.
static bool may_be_initial(const struct experts_record *record, uint64_t key, const void *from)
{
    enum { SOME = 16 };
    const uint32_t experts = record->model->config.num_experts;
    const struct model_tensor *stack =
        experts_record_stack(record, (uint32_t)(key / experts), 0);
    const uint64_t size = record->matrix[0].count, count = min_u64(SOME, size);
    float wanted[SOME], found[SOME];
    if (stack->init == MODEL_ORTHOGONAL) return true; // made whole in any case
    model_init_values(record->model, stack, key % experts * size, count, wanted);
    for (uint64_t i = 0; !record->array[RECORD_MASTER] && i < count; i++) {
        dtype_store(&wanted[i], 0, record->store, (double)wanted[i]);
        wanted[i] = (float)dtype_load(&wanted[i], 0, record->store);
    }
    experts_record_get(record, from, RECORD_MASTER, 0, 0, count, found);
    return memcmp(wanted, found, count * sizeof *wanted) == 0;
}

uint32_t experts_record_parts(const struct experts_record *record, uint64_t key, const void *from,
                              void *scratch)
{
    const uint32_t weights = 1u << RECORD_WEIGHTS, state = 1u << RECORD_STATE;
    if (may_be_initial(record, key, from)) {
        experts_record_initial(record, key, scratch);
        if (memcmp(scratch, from, record->bytes) == 0) return 0;
    }
    if (record->state == RECORD_STATE_NONE) return weights;
    memcpy(scratch, from, record->bytes);
    experts_record_complete(record, key, weights, scratch);
    return memcmp(scratch, from, record->bytes) == 0 ? weights : weights | state;
}
