// SPDX-License-Identifier: MIT
// Weights on a device: see params.h.
#include "src/params.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/log.h"
#include "src/codes.h"
#include "src/experts.h"

enum { CHUNK = 1 << 20 }; // elements moved at a time

static const char *const class_name[PARAMS_CLASSES] = {
    "weights (compute)", "weights (master)", "gradients", "AdamW m", "AdamW v",
    "AdamW codes", "weights (average)",
};

enum dtype params_dtype(const struct params *params, enum params_class which)
{
    if (which == PARAMS_RECORDS) return DTYPE_U32;
    return which == PARAMS_COMPUTE ? params->store : DTYPE_F32;
}

uint64_t params_offset(enum params_class which, const struct model_tensor *tensor)
{
    switch (which) {
    case PARAMS_M: return tensor->m_offset;
    case PARAMS_V: return tensor->v_offset;
    case PARAMS_RECORDS: return CODES_WORDS * tensor->record;
    case PARAMS_COMPUTE: case PARAMS_MASTER: case PARAMS_GRAD: case PARAMS_AVERAGE:
    case PARAMS_CLASSES: break;
    }
    return tensor->offset;
}

static bool has_records(const struct model *model)
{
    uint64_t records = 0;
    for (uint32_t s = 0; s < model->segment_count; s++) records += model->segment_records[s];
    return records > 0;
}

static bool class_kept(const struct params *params, enum params_class which)
{
    switch (which) {
    case PARAMS_COMPUTE: return !params->training || params->store != DTYPE_F32;
    case PARAMS_MASTER: return params->training && params->model->config.master_weights;
    case PARAMS_GRAD: case PARAMS_M: case PARAMS_V: return params->training;
    case PARAMS_RECORDS: return params->training && has_records(params->model);
    case PARAMS_AVERAGE: return params->training && config_averages(&params->model->config);
    case PARAMS_CLASSES: break;
    }
    return false;
}

static uint64_t class_elements(const struct model *model, enum params_class which, uint32_t segment)
{
    switch (which) {
    case PARAMS_M: return model->segment_m[segment];
    case PARAMS_V: return model->segment_v[segment];
    case PARAMS_RECORDS: return CODES_WORDS * model->segment_records[segment];
    case PARAMS_COMPUTE: case PARAMS_MASTER: case PARAMS_GRAD: case PARAMS_AVERAGE:
    case PARAMS_CLASSES: break;
    }
    return model->segment_elements[segment];
}

static uint64_t class_bytes(const struct params *params, enum params_class which, uint32_t segment)
{
    return max_u64(class_elements(params->model, which, segment), 1) *
           dtype_bytes(params_dtype(params, which));
}

// What the optimizer reads and writes once a step.
static bool is_state(enum params_class which)
{
    return which == PARAMS_M || which == PARAMS_V || which == PARAMS_RECORDS ||
           which == PARAMS_AVERAGE;
}

static uint64_t kept_bytes(const struct params *params, bool state)
{
    uint64_t bytes = 0;
    for (int which = 0; which < PARAMS_CLASSES; which++)
        for (uint32_t s = 0; class_kept(params, which) && s < params->model->segment_count; s++)
            bytes += is_state(which) == state ? class_bytes(params, which, s) : 0;
    return bytes;
}

// Where all that is always there leaves less than a quarter of the budget, its state goes out.
static bool place_state(struct params *params, uint64_t budget, bool out)
{
    const double mib = 1.0 / 1048576;
    const uint64_t here = kept_bytes(params, false), state = kept_bytes(params, true);
    if (!budget || (!out && here + state <= budget / 4 * 3)) return true;
    if (here >= budget) {
        log_error("a device budget of %.1f MiB: weights and gradients of what is always there are "
                  "%.1f MiB; raise --device-budget", mib * (double)budget, mib * (double)here);
        return false;
    }
    params->state_memory = GPU_MEMORY_READBACK;
    log_debug("optimizer: the state of what is always there, %.1f MiB, lies in host memory; a "
              "device budget of %.1f MiB has %.1f MiB of weights and gradients, and experts",
              mib * (double)state, mib * (double)budget, mib * (double)here);
    return true;
}

static bool make_class(struct params *params, enum params_class which)
{
    const struct model *model = params->model;
    struct gpu_buffer **list = arena_array(params->arena, model->segment_count, sizeof *list);
    params->buffer[which] = list;
    for (uint32_t s = 0; s < model->segment_count; s++) {
        list[s] = gpu_buffer_create(
            params->gpu,
            &(struct gpu_buffer_params){.name = class_name[which],
                                        .bytes = class_bytes(params, which, s),
                                        .memory = is_state(which) ? params->state_memory
                                                                  : GPU_MEMORY_DEVICE});
        if (!list[s]) return false;
    }
    return true;
}

// `buffer` filled with zeros
static bool zero_buffers(struct params *params, struct gpu_buffer *const *buffer, uint32_t count)
{
    struct gpu_commands *commands =
        gpu_commands_create(params->gpu, &(struct gpu_commands_params){.name = "zero"});
    if (!commands) return false;
    for (uint32_t i = 0; i < count; i++)
        gpu_commands_fill(commands, &(struct gpu_bind){buffer[i], 0, buffer[i]->params.bytes}, 0);
    const uint64_t ticket = gpu_commands_end(commands) ? gpu_submit(params->gpu, &commands, 1) : 0;
    const bool ok = ticket && gpu_wait(params->gpu, ticket);
    gpu_commands_destroy(params->gpu, &commands);
    return ok;
}

enum { MOVES_ALIGN = 64 }; // words: 256 bytes

static bool make_moves(struct params *params)
{
    const struct config *c = &params->model->config;
    bool wanted = false;
    for (uint32_t g = 0; g < params->model->group_count; g++)
        wanted |= params->model->group[g].by_expert;
    if (!params->training || !wanted) return true;
    params->moves_stride = (uint32_t)align_up(c->num_experts, MOVES_ALIGN);
    params->moves_layers = config_moe_layers(c);
    const uint64_t bytes = 4ull * params->moves_stride * params->moves_layers;
    struct gpu_buffer **const made[] = {&params->expert_steps, &params->moves};
    for (size_t i = 0; i < COUNT_OF(made); i++) {
        *made[i] = gpu_buffer_create(
            params->gpu, &(struct gpu_buffer_params){.name = "steps of experts", .bytes = bytes});
        if (!*made[i] || !zero_buffers(params, made[i], 1)) return false;
    }
    return true;
}

static bool make_widths(struct params *params)
{
    const struct config *c = &params->model->config;
    if (!c->width_count) return true;
    const uint64_t bytes = 4ull * c->num_experts;
    params->widths = gpu_buffer_create(
        params->gpu, &(struct gpu_buffer_params){.name = "widths of experts", .bytes = bytes});
    uint32_t *widths = arena_array(params->arena, c->num_experts, sizeof *widths);
    for (uint32_t e = 0; e < c->num_experts; e++) widths[e] = config_expert_width(c, e);
    return params->widths && gpu_buffer_write(params->gpu, params->widths, 0, widths, bytes);
}

static struct params *create(struct gpu *gpu, const struct model *model, bool training,
                             uint64_t budget,
                             bool out)
{
    struct arena *arena = arena_create("params");
    struct params *params = arena_alloc(arena, sizeof *params);
    *params = (struct params){.gpu = gpu,
                              .model = model,
                              .store = model->config.torch_dtype,
                              .training = training,
                              .arena = arena};
    if (!place_state(params, budget, out)) goto fail;
    for (int which = 0; which < PARAMS_CLASSES; which++)
        if (class_kept(params, which) && !make_class(params, which)) goto fail;
    // padding between tensors is zero in every class: optimizer and norm run over it
    for (int which = 0; which < PARAMS_CLASSES; which++)
        if (params->buffer[which] &&
            !zero_buffers(params, params->buffer[which], model->segment_count))
            goto fail;
    if (!make_moves(params) || !make_widths(params)) goto fail;
    return params;
fail:
    params_destroy(&params);
    return NULL;
}

struct params *params_create(struct gpu *gpu, const struct model *model, bool training)
{
    return create(gpu, model, training, 0, false);
}

struct params *params_create_within(struct gpu *gpu, const struct model *model, uint64_t budget,
                                    bool out)
{
    return create(gpu, model, true, budget, out);
}

void params_destroy(struct params **params)
{
    if (!*params) return;
    struct params *p = *params;
    for (int which = 0; which < PARAMS_CLASSES; which++)
        for (uint32_t s = 0; p->buffer[which] && s < p->model->segment_count; s++)
            gpu_buffer_destroy(p->gpu, &p->buffer[which][s]);
    experts_destroy(&p->experts);
    gpu_buffer_destroy(p->gpu, &p->expert_steps);
    gpu_buffer_destroy(p->gpu, &p->moves);
    gpu_buffer_destroy(p->gpu, &p->widths);
    struct arena *arena = p->arena;
    arena_destroy(&arena);
    *params = NULL;
}

// The class whose buffer holds what is asked for.
static enum params_class held_class(const struct params *params, enum params_class which)
{
    if (which == PARAMS_COMPUTE && !params->buffer[PARAMS_COMPUTE]) return PARAMS_MASTER;
    if (which == PARAMS_MASTER && !params->buffer[PARAMS_MASTER]) return PARAMS_COMPUTE;
    return which;
}

// Where in its buffer an element of a tensor's space lies.
struct space { struct gpu_buffer *buffer; uint64_t at; enum dtype dtype; size_t size; };

static struct space space_of(const struct params *params, enum params_class held,
                             const struct model_tensor *tensor, uint64_t begin)
{
    const enum dtype dtype = params_dtype(params, held);
    const size_t size = dtype_bytes(dtype);
    return (struct space){params->buffer[held][tensor->segment],
                          (params_offset(held, tensor) + begin) * size, dtype, size};
}

// `count` elements side by side, from `begin` of the tensor's space on
static bool write_space(struct params *params, enum params_class which,
                        const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                        const float *values)
{
    const struct space to = space_of(params, which, tensor, begin);
    if (to.dtype == DTYPE_F32)
        return gpu_buffer_write(params->gpu, to.buffer, to.at, values, count * to.size);
    void *narrow = malloc(count * to.size);
    for (uint64_t i = 0; i < count; i++) dtype_store(narrow, i, to.dtype, values[i]);
    const bool ok = gpu_buffer_write(params->gpu, to.buffer, to.at, narrow, count * to.size);
    free(narrow);
    return ok;
}

static bool read_space(struct params *params, enum params_class held,
                       const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                       float *values)
{
    const struct space from = space_of(params, held, tensor, begin);
    if (from.dtype == DTYPE_F32)
        return gpu_buffer_read(params->gpu, from.buffer, from.at, values, count * from.size);
    void *narrow = malloc(count * from.size);
    const bool ok = gpu_buffer_read(params->gpu, from.buffer, from.at, narrow, count * from.size);
    for (uint64_t i = 0; ok && i < count; i++) values[i] = (float)dtype_load(narrow, i, from.dtype);
    free(narrow);
    return ok;
}

// Elements of experts of different widths, to or from the space that they lie in.
struct packing { float *packed, *space; uint64_t first; bool pack; };

static void move_run(void *user, uint64_t at, uint64_t place, uint64_t length)
{
    const struct packing *p = user;
    float *packed = p->packed + at, *space = p->space + (place - p->first);
    memcpy(p->pack ? packed : space, p->pack ? space : packed, length * sizeof *packed);
}

// The space of the elements as it is, and what of it is theirs; written back with `values` in it
// or read into them.
static bool move_uneven(struct params *params, enum params_class held,
                        const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                        float *values, bool write)
{
    if (count == 0) return true;
    const struct model *model = params->model;
    const uint64_t first = model_place(model, tensor, begin),
                   space = model_place(model, tensor, begin + count - 1) + 1 - first;
    struct packing packing = {values, malloc(space * sizeof(float)), first, !write};
    bool ok = read_space(params, held, tensor, first, space, packing.space);
    if (ok) model_each_run(model, tensor, begin, count, move_run, &packing);
    if (ok && write) ok = write_space(params, held, tensor, first, space, packing.space);
    free(packing.space);
    return ok;
}

static bool write_class(struct params *params, enum params_class held,
                        const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                        const float *values)
{
    if (!model_is_uneven(params->model, tensor))
        return write_space(params, held, tensor, begin, count, values);
    return move_uneven(params, held, tensor, begin, count, (float *)(uintptr_t)values, true);
}

bool params_write(struct params *params, enum params_class which, const struct model_tensor *tensor,
                  uint64_t begin, uint64_t count, const float *values)
{
    const enum params_class held = held_class(params, which);
    if (!write_class(params, held, tensor, begin, count, values)) return false;
    if (held != PARAMS_MASTER || !params->buffer[PARAMS_COMPUTE]) return true;
    return write_class(params, PARAMS_COMPUTE, tensor, begin, count, values);
}

bool params_read(struct params *params, enum params_class which, const struct model_tensor *tensor,
                 uint64_t begin, uint64_t count, float *values)
{
    const enum params_class held = held_class(params, which);
    if (!model_is_uneven(params->model, tensor))
        return read_space(params, held, tensor, begin, count, values);
    return move_uneven(params, held, tensor, begin, count, values, false);
}

bool params_put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values)
{
    const struct params_values *to = user;
    return params_write(to->params, to->which, tensor, begin, count, values);
}

bool params_get(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                float *values)
{
    const struct params_values *from = user;
    return params_read(from->params, from->which, tensor, begin, count, values);
}

// ---- initial values: each by itself, so by as many threads as there are cores

enum { INIT_THREADS = 16, INIT_LEAST = 1 << 16 }; // at most; elements for which one is made

struct init_part {
    const struct model        *model;
    const struct model_tensor *tensor;
    uint64_t                   begin, count;
    float                     *values;
};

static void *init_part(void *user)
{
    const struct init_part *p = user;
    model_init_values(p->model, p->tensor, p->begin, p->count, p->values);
    return NULL;
}

static void init_values(const struct model *model, const struct model_tensor *tensor,
                        uint64_t begin, uint64_t count, float *values)
{
    pthread_t thread[INIT_THREADS];
    bool made[INIT_THREADS] = {false};
    struct init_part part[INIT_THREADS];
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    // orthogonal matrices are made whole
    const uint64_t most = tensor->init == MODEL_ORTHOGONAL ? 1 : count / INIT_LEAST,
                   parts = max_u64(min_u64(min_u64(most, (uint64_t)cores), INIT_THREADS), 1),
                   each = (count + parts - 1) / parts;
    for (uint64_t i = parts; i-- > 0;) {
        const uint64_t first = i * each;
        part[i] = (struct init_part){model, tensor, begin + first, min_u64(each, count - first),
                                     values + first};
        made[i] = i > 0 && pthread_create(&thread[i], NULL, init_part, &part[i]) == 0;
        if (!made[i]) init_part(&part[i]);
    }
    for (uint64_t i = 0; i < parts; i++)
        if (made[i]) pthread_join(thread[i], NULL);
}

bool params_init(struct params *params)
{
    const struct model *model = params->model;
    float *values = malloc(CHUNK * sizeof *values);
    bool ok = values != NULL;
    for (uint32_t t = 0; t < model->tensor_count && ok; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        if (tensor->streamed) continue;
        // whole matrices, for these are made whole
        const uint64_t matrix = (uint64_t)tensor->rows * tensor->cols;
        const bool whole = tensor->init == MODEL_ORTHOGONAL && !model_is_uneven(model, tensor);
        const uint64_t chunk = whole ? matrix : CHUNK;
        if (chunk > CHUNK) values = realloc(values, chunk * sizeof *values);
        ok = values != NULL;
        for (uint64_t begin = 0; begin < tensor->count && ok; begin += chunk) {
            const uint64_t count = min_u64(chunk, tensor->count - begin);
            init_values(model, tensor, begin, count, values);
            ok = params_write(params, PARAMS_MASTER, tensor, begin, count, values);
        }
    }
    free(values);
    return ok;
}

bool params_write_records(struct params *params, const struct model_tensor *tensor, uint64_t begin,
                          uint64_t count, const uint32_t *words)
{
    const uint64_t at = params_offset(PARAMS_RECORDS, tensor) + begin;
    return gpu_buffer_write(params->gpu, params->buffer[PARAMS_RECORDS][tensor->segment], 4 * at,
                            words, 4 * count);
}

bool params_read_records(struct params *params, const struct model_tensor *tensor, uint64_t begin,
                         uint64_t count, uint32_t *words)
{
    const uint64_t at = params_offset(PARAMS_RECORDS, tensor) + begin;
    return gpu_buffer_read(params->gpu, params->buffer[PARAMS_RECORDS][tensor->segment], 4 * at,
                           words, 4 * count);
}

bool params_take_average(struct params *params)
{
    const struct model *model = params->model;
    float *values = malloc(CHUNK * sizeof *values);
    bool ok = values != NULL;
    for (uint32_t t = 0; t < model->tensor_count && ok; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        for (uint64_t begin = 0; begin < tensor->count && ok; begin += CHUNK) {
            const uint64_t count = min_u64(CHUNK, tensor->count - begin);
            ok = params_read(params, PARAMS_AVERAGE, tensor, begin, count, values) &&
                 params_write(params, PARAMS_MASTER, tensor, begin, count, values);
        }
    }
    free(values);
    return ok;
}

bool params_write_steps(struct params *params, uint32_t moe_layer, const uint32_t *steps)
{
    return gpu_buffer_write(params->gpu, params->expert_steps,
                            4ull * params->moves_stride * moe_layer, steps,
                            4ull * params->model->config.num_experts);
}

bool params_read_steps(struct params *params, uint32_t moe_layer, uint32_t *steps)
{
    return gpu_buffer_read(params->gpu, params->expert_steps,
                           4ull * params->moves_stride * moe_layer, steps,
                           4ull * params->model->config.num_experts);
}

struct plan_range params_range_of(const struct params *params, struct plan *plan,
                                  enum params_class which,
                                  const struct model_tensor *const *tensor, uint32_t count)
{
    static const char *const prefix[PARAMS_CLASSES] = {"", "", "d ", "m ", "v ", "codes ",
                                                       "mean "};
    const enum params_class held = held_class(params, which);
    const size_t size = dtype_bytes(params_dtype(params, held));
    uint64_t elements = tensor[0]->space;
    for (uint32_t i = 1; i < count; i++) {
        if (tensor[i]->segment != tensor[0]->segment ||
            tensor[i]->offset != tensor[0]->offset + elements)
            return (struct plan_range){0};
        elements += tensor[i]->space;
    }
    char name[sizeof tensor[0]->name + 8];
    snprintf(name, sizeof name, "%s%s", prefix[held], tensor[0]->name);
    return plan_external(plan, name, params->buffer[held][tensor[0]->segment],
                         params_offset(held, tensor[0]) * size, elements * size);
}

struct plan_range params_range(const struct params *params, struct plan *plan,
                               enum params_class which, const struct model_tensor *tensor)
{
    return params_range_of(params, plan, which, &tensor, 1);
}
