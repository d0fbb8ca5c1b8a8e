// SPDX-License-Identifier: MIT
// Slots on the device: see experts.h. Who lies where is runtime/cache's; experts_turns.h has what
// is in flight.
#include "src/experts_turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

// ---- creation

uint64_t experts_slot_bytes(const struct experts *x)
{
    uint64_t bytes = 0;
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        for (uint32_t i = 0; i < x->record.matrix_count; i++) bytes += experts_bytes(x, a, i);
    return bytes;
}

static void drop_pool(struct experts *x)
{
    struct experts_turns *t = x->turns;
    experts_loader_destroy(&x->loader);
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        for (uint32_t i = 0; i < x->record.matrix_count; i++) {
            for (uint32_t w = 0; x->pool[a][i] && w < x->windows; w++)
                gpu_buffer_destroy(x->gpu, &x->pool[a][i][w]);
            free(x->pool[a][i]);
            x->pool[a][i] = NULL;
        }
    gpu_buffer_destroy(x->gpu, &x->tables);
    cache_destroy(&x->cache);
    free(t->flying), free(t->turn), free(t->coming);
    t->flying = t->turn = NULL;
    t->coming = NULL;
    t->flying_count = t->turn_count = 0;
    x->slots = x->windows = 0;
}

// Slots of a window: as many as one binding of the largest matrices may cover.
static uint32_t window_slots(const struct experts *x, uint32_t slots)
{
    const struct gpu_caps *caps = &x->gpu->caps;
    const uint64_t range = min_u64(caps->max_range, caps->max_allocation);
    uint64_t most = x->window_most ? min_u32(x->window_most, slots) : slots;
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        for (uint32_t i = 0; i < x->record.matrix_count; i++)
            if (experts_bytes(x, a, i)) most = min_u64(most, range / experts_bytes(x, a, i));
    return (uint32_t)most;
}

static bool make_buffers(struct experts *x, int array)
{
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        const uint64_t each = experts_bytes(x, array, i);
        if (!each) continue;
        x->pool[array][i] = os_alloc(x->windows * sizeof *x->pool[array][i]);
        for (uint32_t w = 0; w < x->windows; w++) {
            const uint64_t own = min_u32(x->window_slots, x->slots - w * x->window_slots);
            x->pool[array][i][w] = gpu_buffer_create(
                x->gpu, &(struct gpu_buffer_params){
                            .name = "slots of experts", .bytes = own * each, .pages = true});
            if (!x->pool[array][i][w]) return false;
        }
    }
    return true;
}

static bool make_pool(struct experts *x, uint32_t slots)
{
    struct experts_turns *t = x->turns;
    x->window_slots = window_slots(x, slots);
    if (x->window_slots == 0) {
        log_error("a matrix of one expert is larger than what device %s binds at once (%llu bytes)",
                  x->gpu->caps.name, (unsigned long long)x->gpu->caps.max_range);
        return false;
    }
    x->slots = slots;
    x->windows = ceil_div(slots, x->window_slots);
    t->flying = os_alloc(slots * sizeof *t->flying);
    t->turn = os_alloc(slots * sizeof *t->turn);
    t->coming = os_alloc(slots * sizeof *t->coming);
    if (x->training) experts_grads_resize(x);
    x->cache = cache_create(&(struct cache_params){
        .keys = (uint32_t)x->record.keys, .slots = slots, .policy = x->policy,
        .group_keys = x->model->config.num_experts});
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        if (!make_buffers(x, a)) return false;
    if (!x->training) return x->cache != NULL;
    x->tables = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){
                    .name = "tables of slots",
                    .bytes = 4 * (1ull + 2 * x->record.matrix_count) * align_up(slots, 64),
                    .memory = GPU_MEMORY_UPLOAD});
    return x->cache && x->tables;
}

static bool make_lists(struct experts *x)
{
    const uint64_t most = x->model->config.num_experts;
    struct experts_turns *t = x->turns;
    t->key = os_alloc(most * sizeof *t->key);
    t->where = os_alloc(most * sizeof *t->where);
    x->ranges = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){.name = "experts with rows (host)",
                                            .bytes = 4 * RANGE_WORDS * (most + 1),
                                            .memory = GPU_MEMORY_READBACK});
    x->guesses = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){.name = "experts to come (host)",
                                            .bytes = 4 * EXPERTS_GUESSES,
                                            .memory = GPU_MEMORY_READBACK});
    x->places = gpu_buffer_create(x->gpu, &(struct gpu_buffer_params){.name = "slots of a turn",
                                                                      .bytes = 4 * most,
                                                                      .memory = GPU_MEMORY_UPLOAD});
    return x->ranges && x->guesses && x->places;
}

struct experts *experts_create(const struct experts_params *params)
{
    struct experts *x = os_alloc(sizeof *x);
    *x = (struct experts){.gpu = params->gpu,
                          .model = params->model,
                          .training = params->training,
                          .source = params->source,
                          .policy = params->policy,
                          .prefetch = params->prefetch &&
                                      (params->source.store || params->source.threads),
                          .file = params->file,
                          .budget = params->budget,
                          .window_most = params->window};
    x->turns = os_alloc(sizeof *x->turns);
    if (!experts_record_init(&x->record, params->model,
                             params->training ? RECORD_STATE_WHOLE : RECORD_STATE_NONE) ||
        !make_lists(x) || (x->training && !experts_grads_init(x)) ||
        !experts_resize(x, max_u32(params->slots, 1)))
        experts_destroy(&x);
    return x;
}

bool experts_resize(struct experts *x, uint32_t slots)
{
    drop_pool(x);
    return slots > 0 && make_pool(x, (uint32_t)min_u64(slots, x->record.keys));
}

bool experts_fit(const struct experts *x, uint32_t *slots)
{
    if (!x || !x->budget) return true;
    const uint64_t slot = experts_slot_bytes(x), held = gpu_memory_account(x->gpu, false).held,
                   others = held - x->slots * slot;
    // memory comes in blocks: not all of it can be given to slots
    const uint64_t room = x->budget - x->budget / 128;
    const uint64_t most = room > others ? (room - others) / slot : 0;
    *slots = (uint32_t)min_u64(most, x->record.keys);
    if (*slots == 0)
        log_error("a device budget of %.1f MiB: at least %.1f MiB are needed (%.1f MiB beside the "
                  "experts, %.1f MiB for one); raise --device-budget",
                  (double)x->budget / 1048576,
                  (double)(others + slot) / 1048576 + 0.05, // rounded up
                  (double)others / 1048576, (double)slot / 1048576);
    // what little more would fit is not worth new plans
    return held <= x->budget && *slots > 0 && *slots <= x->slots + *slots / 16;
}

uint64_t experts_ring_bytes(const struct experts *x)
{
    const uint64_t place = x->record.bytes + STORE_ALIGN;
    const uint64_t most = max_u64(LOADER_RING_BYTES, 2 * place);
    return min_u64(most, LOADER_RING * place);
}

uint64_t experts_spill_bytes(const struct experts *x)
{
    const struct config *c = &x->model->config;
    const uint64_t tokens =
        (uint64_t)c->batch_size * c->seq_len * c->gradient_accumulation_steps;
    uint64_t most = 0;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i])
            most += min_u64(c->num_experts, tokens * c->layer_router[i].top_k);
    return x->training && most > x->slots ? (most - x->slots) * x->turns->spill_bytes : 0;
}

void experts_destroy(struct experts **experts)
{
    struct experts *x = *experts;
    if (!x) return;
    drop_pool(x);
    gpu_buffer_destroy(x->gpu, &x->ranges);
    gpu_buffer_destroy(x->gpu, &x->guesses);
    gpu_buffer_destroy(x->gpu, &x->places);
    experts_guess_free(x);
    if (x->source.close) x->source.close(x->source.user);
    for (uint32_t i = 0; i < x->record.matrix_count; i++) free(x->norm_place[i]);
    experts_grads_free(x);
    gpu_buffer_destroy(x->gpu, &x->squares);
    free(x->turns->key);
    free(x->turns->where);
    free(x->turns);
    free(x);
    *experts = NULL;
}

struct experts_counts experts_counts_since(const struct experts *x,
                                           const struct experts_counts *before)
{
    const struct experts_counts *c = &x->counts;
    return (struct experts_counts){.hits = c->hits - before->hits,
                                   .misses = c->misses - before->misses,
                                   .bytes = c->bytes - before->bytes,
                                   .written = c->written - before->written,
                                   .spilled = c->spilled - before->spilled,
                                   .load_seconds = c->load_seconds - before->load_seconds,
                                   .wait_seconds = c->wait_seconds - before->wait_seconds,
                                   .turns = c->turns - before->turns,
                                   .guessed = c->guessed - before->guessed,
                                   .used = c->used - before->used};
}

bool experts_prefetch_parse(const char *word, bool *out)
{
    *out = word && strcmp(word, "on") == 0;
    if (!word || *out || strcmp(word, "off") == 0) return true;
    log_error("prefetch \"%s\": wanted on or off", word);
    return false;
}

struct experts_peaks experts_peaks(const struct experts *x)
{
    return x && x->loader ? experts_loader_peaks(x->loader) : (struct experts_peaks){0};
}

double experts_load_gbps(const struct experts_counts *c)
{
    return c->load_seconds > 0 ? 1e-9 * (double)c->bytes / c->load_seconds : 0;
}

static void tell_rates(const struct experts *x, char *out, size_t bytes)
{
    const struct experts_peaks peaks = experts_peaks(x);
    char disk[40] = "";
    if (peaks.read_gbps > 0)
        snprintf(disk, sizeof disk, "; the disk alone %.2f", peaks.read_gbps);
    snprintf(out, bytes, "%.2f GB/s%s; copies %.2f", experts_load_gbps(&x->counts), disk,
             peaks.copy_gbps);
}

void experts_tell(const struct experts *x)
{
    if (!x) return;
    const struct experts_counts *c = &x->counts;
    const double mib = 1.0 / 1048576, all = (double)(c->hits + c->misses);
    char guesses[80] = "", rates[100];
    tell_rates(x, rates, sizeof rates);
    if (c->guessed)
        snprintf(guesses, sizeof guesses, "; of %llu guessed %.1f %% were needed",
                 (unsigned long long)c->guessed, 100 * (double)c->used / (double)c->guessed);
    log_info("experts: %u of %llu have a slot (%.1f MiB, %s); of %.0f calls %.1f %% found theirs "
             "there, in %llu turns; %.1f MiB loaded in %.2f s (%s), %.2f s of that while the "
             "device had nothing to do%s",
             x->slots, (unsigned long long)x->record.keys,
             mib * (double)(x->slots * experts_slot_bytes(x)), cache_policy_name(x->policy), all,
             all > 0 ? 100 * (double)c->hits / all : 0, (unsigned long long)c->turns,
             mib * (double)c->bytes, c->load_seconds, rates, c->wait_seconds, guesses);
}

// ---- for plans

uint32_t experts_matrix(const struct experts *x, enum model_role role)
{
    uint32_t i = 0;
    while (x->record.matrix[i].role != role) i++;
    return i;
}

struct plan_range experts_pool(const struct experts *x, struct plan *plan, int array,
                               uint32_t matrix, uint32_t window)
{
    static const char *const name[EXPERTS_ARRAYS] = {"slots", "slots' masters", "slots' m",
                                                     "slots' v", "slots' codes",
                                                     "slots' gradients"};
    struct gpu_buffer *buffer = x->pool[array][matrix][window];
    return plan_external(plan, name[array], buffer, 0, buffer->params.bytes);
}

struct plan_range experts_ranges(const struct experts *x, struct plan *plan, uint64_t bytes)
{
    return plan_external(plan, "experts with rows", x->ranges, 0, bytes);
}

struct plan_range experts_guesses(const struct experts *x, struct plan *plan)
{
    return plan_external(plan, "experts to come", x->guesses, 0, x->guesses->params.bytes);
}

struct plan_range experts_places(const struct experts *x, struct plan *plan, uint32_t ranges)
{
    return plan_external(plan, "slots of a turn", x->places, 0, 4ull * ranges);
}

struct plan_range experts_squares(struct experts *x, struct plan *plan, uint32_t count)
{
    if (!x->squares)
        x->squares = gpu_buffer_create(
            x->gpu, &(struct gpu_buffer_params){.name = "squares", .bytes = 4ull * count});
    return x->squares ? plan_external(plan, "squares", x->squares, 0, 4ull * count)
                      : (struct plan_range){0};
}

struct plan_range experts_table(const struct experts *x, struct plan *plan, uint32_t row)
{
    return plan_external(plan, "table of slots", x->tables, 4 * row * align_up(x->slots, 64),
                         4ull * x->slots);
}
