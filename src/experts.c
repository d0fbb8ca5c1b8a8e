// SPDX-License-Identifier: MIT
// Slots on the device: see experts.h. Who lies where is runtime/cache's; here is what is in flight,
// and the way between records and slots.
#include "src/experts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { RANGE_WORDS = 4 };

// The slots of a turn are pinned until it is known to be over, those of a training step until the
// optimizer is submitted.
struct experts_turns {
    uint32_t *flying, flying_count; // slots of turns that may be in flight
    uint32_t *turn, turn_count;     // slots of the turn at hand
    uint32_t *held, held_count;     // slots of the training step at hand
    bool     *is_held;
    // of the layer at hand
    uint32_t *key, needed;  // of the experts that have rows, in the order of the ranges
    bool     *done;         // had their turn
    uint32_t  left;         // that had none yet
    void     *record;       // on its way
};

// ---- creation

static enum dtype dtype_of(const struct experts *x, int array)
{
    return array == RECORD_COMPUTE ? x->record.store : DTYPE_F32;
}

static bool has_array(const struct experts *x, int array)
{
    if (array == RECORD_COMPUTE) return true;
    return x->training && (array == EXPERTS_GRAD || x->record.array[array] > 0);
}

uint64_t experts_slot_bytes(const struct experts *x)
{
    uint64_t elements = 0, bytes = 0;
    for (uint32_t i = 0; i < x->record.matrix_count; i++) elements += x->record.matrix[i].count;
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        if (has_array(x, a)) bytes += elements * dtype_bytes(dtype_of(x, a));
    return bytes;
}

static void drop_pool(struct experts *x)
{
    struct experts_turns *t = x->turns;
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        for (uint32_t i = 0; i < x->record.matrix_count; i++) {
            for (uint32_t w = 0; x->pool[a][i] && w < x->windows; w++)
                gpu_buffer_destroy(x->gpu, &x->pool[a][i][w]);
            free(x->pool[a][i]);
            x->pool[a][i] = NULL;
        }
    gpu_buffer_destroy(x->gpu, &x->tables);
    cache_destroy(&x->cache);
    free(t->flying), free(t->turn), free(t->held), free(t->is_held);
    t->flying = t->turn = t->held = NULL;
    t->is_held = NULL;
    t->flying_count = t->turn_count = t->held_count = 0;
    x->slots = x->windows = 0;
}

// Slots of a window: as many as one binding of the largest matrices may cover.
static uint32_t window_slots(const struct experts *x, uint32_t slots)
{
    const struct gpu_caps *caps = &x->gpu->caps;
    const uint64_t range = min_u64(caps->max_range, caps->max_allocation);
    uint64_t most = x->window_most ? min_u32(x->window_most, slots) : slots;
    for (uint32_t i = 0; i < x->record.matrix_count; i++)
        most = min_u64(most, range / (x->record.matrix[i].count *
                                      dtype_bytes(dtype_of(x, x->training ? EXPERTS_GRAD : 0))));
    return (uint32_t)most;
}

static bool make_buffers(struct experts *x, int array)
{
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        x->pool[array][i] = os_alloc(x->windows * sizeof *x->pool[array][i]);
        for (uint32_t w = 0; w < x->windows; w++) {
            const uint64_t own = min_u32(x->window_slots, x->slots - w * x->window_slots);
            x->pool[array][i][w] = gpu_buffer_create(
                x->gpu, &(struct gpu_buffer_params){.name = "slots of experts",
                                                    .bytes = own * x->record.matrix[i].count *
                                                             dtype_bytes(dtype_of(x, array))});
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
    t->held = os_alloc(slots * sizeof *t->held);
    t->is_held = os_alloc(slots * sizeof *t->is_held);
    x->cache = cache_create(&(struct cache_params){
        .keys = (uint32_t)x->record.keys, .slots = slots, .policy = x->policy,
        .group_keys = x->model->config.num_experts});
    for (int a = 0; a < EXPERTS_ARRAYS; a++)
        if (has_array(x, a) && !make_buffers(x, a)) return false;
    if (!x->training) return x->cache != NULL;
    x->tables = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){
                    .name = "tables of slots",
                    .bytes = 4 * (1ull + x->record.matrix_count) * align_up(slots, 64),
                    .memory = GPU_MEMORY_UPLOAD});
    return x->cache && x->tables;
}

static bool make_lists(struct experts *x)
{
    const uint64_t most = x->model->config.num_experts;
    struct experts_turns *t = x->turns;
    t->key = os_alloc(most * sizeof *t->key);
    t->done = os_alloc(most * sizeof *t->done);
    t->record = os_pages(x->record.bytes);
    if (!t->record) return false;
    x->ranges = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){.name = "experts with rows (host)",
                                            .bytes = 4 * RANGE_WORDS * (most + 1),
                                            .memory = GPU_MEMORY_READBACK});
    x->places = gpu_buffer_create(x->gpu, &(struct gpu_buffer_params){.name = "slots of a turn",
                                                                      .bytes = 4 * most,
                                                                      .memory = GPU_MEMORY_UPLOAD});
    return x->ranges && x->places;
}

struct experts *experts_create(const struct experts_params *params)
{
    struct experts *x = os_alloc(sizeof *x);
    *x = (struct experts){.gpu = params->gpu,
                          .model = params->model,
                          .training = params->training,
                          .source = params->source,
                          .policy = params->policy,
                          .budget = params->budget,
                          .window_most = params->window};
    x->turns = os_alloc(sizeof *x->turns);
    if (!experts_record_init(&x->record, params->model,
                             params->training ? RECORD_STATE_F32 : RECORD_STATE_NONE) ||
        !make_lists(x) || !experts_resize(x, max_u32(params->slots, 1)))
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
    const uint64_t slot = experts_slot_bytes(x), held = gpu_memory_held(x->gpu),
                   others = held - x->slots * slot;
    const uint64_t most = x->budget > others ? (x->budget - others) / slot : 0;
    *slots = (uint32_t)min_u64(most, x->record.keys);
    if (*slots == 0)
        log_error("a device budget of %.1f MiB: at least %.1f MiB are needed (%.1f MiB beside the "
                  "experts, %.1f MiB for one); raise --device-budget",
                  (double)x->budget / 1048576, (double)(others + slot) / 1048576,
                  (double)others / 1048576, (double)slot / 1048576);
    // memory comes in blocks: what little more would fit is not worth new plans
    return held <= x->budget && *slots > 0 && *slots - x->slots <= *slots / 16;
}

void experts_destroy(struct experts **experts)
{
    struct experts *x = *experts;
    if (!x) return;
    drop_pool(x);
    gpu_buffer_destroy(x->gpu, &x->ranges);
    gpu_buffer_destroy(x->gpu, &x->places);
    if (x->source.close) x->source.close(x->source.user);
    for (uint32_t i = 0; i < x->record.matrix_count; i++) free(x->norm_place[i]);
    free(x->turns->key);
    free(x->turns->done);
    os_pages_free(x->turns->record, x->record.bytes);
    free(x->turns);
    free(x);
    *experts = NULL;
}

void experts_tell(const struct experts *x)
{
    if (!x) return;
    const struct experts_counts *c = &x->counts;
    const double mib = 1.0 / 1048576, all = (double)(c->hits + c->misses);
    log_info("experts: %u of %llu have a slot (%.1f MiB, %s); of %.0f calls %.1f %% found theirs "
             "there; %.1f MiB loaded in %.2f s, %.2f s of that while the device had nothing to do",
             x->slots, (unsigned long long)x->record.keys,
             mib * (double)(x->slots * experts_slot_bytes(x)), cache_policy_name(x->policy), all,
             all > 0 ? 100 * (double)c->hits / all : 0, mib * (double)c->bytes, c->load_seconds,
             c->wait_seconds);
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
                                                     "slots' v", "slots' gradients"};
    struct gpu_buffer *buffer = x->pool[array][matrix][window];
    return plan_external(plan, name[array], buffer, 0, buffer->params.bytes);
}

struct plan_range experts_ranges(const struct experts *x, struct plan *plan, uint64_t bytes)
{
    return plan_external(plan, "experts with rows", x->ranges, 0, bytes);
}

struct plan_range experts_places(const struct experts *x, struct plan *plan, uint32_t ranges)
{
    return plan_external(plan, "slots of a turn", x->places, 0, 4ull * ranges);
}

struct plan_range experts_table(const struct experts *x, struct plan *plan, uint32_t row)
{
    return plan_external(plan, "table of slots", x->tables, 4 * row * align_up(x->slots, 64),
                         4ull * x->slots);
}

// ---- between records and slots

struct piece { struct gpu_buffer *buffer; uint64_t offset, in_record, bytes; };

static struct piece piece_of(const struct experts *x, uint32_t slot, int array, uint32_t matrix)
{
    const struct record_matrix *m = &x->record.matrix[matrix];
    const uint64_t size = dtype_bytes(dtype_of(x, array));
    return (struct piece){.buffer = x->pool[array][matrix][slot / x->window_slots],
                          .offset = slot % x->window_slots * m->count * size,
                          .in_record = x->record.array[array] + m->begin * size,
                          .bytes = m->count * size};
}

static bool move(struct experts *x, uint32_t slot, bool to_slot)
{
    uint8_t *record = x->turns->record;
    for (int a = 0; a < RECORD_ARRAYS; a++)
        for (uint32_t i = 0; has_array(x, a) && i < x->record.matrix_count; i++) {
            const struct piece p = piece_of(x, slot, a, i);
            void *at = record + p.in_record;
            if (!(to_slot ? gpu_buffer_write(x->gpu, p.buffer, p.offset, at, p.bytes)
                          : gpu_buffer_read(x->gpu, p.buffer, p.offset, at, p.bytes)))
                return false;
        }
    return true;
}

static bool load(struct experts *x, uint32_t key, uint32_t slot)
{
    if (!x->source.read(x->source.user, &x->record, key, x->training, x->turns->record) ||
        !move(x, slot, true))
        return false;
    x->counts.bytes += x->training ? x->record.bytes : x->record.weights_bytes;
    x->counts.misses++;
    return true;
}

static bool write_back(struct experts *x, uint32_t key, uint32_t slot)
{
    const uint32_t experts = x->model->config.num_experts;
    uint32_t steps = 0;
    memset(x->turns->record, 0, x->record.bytes);
    if (x->steps && !gpu_buffer_read(x->gpu, x->steps,
                                     4ull * (key / experts * x->steps_stride + key % experts),
                                     &steps, sizeof steps))
        return false;
    experts_record_set_steps(&x->record, x->turns->record, steps);
    if (!move(x, slot, false) ||
        !x->source.write(x->source.user, &x->record, key, x->turns->record))
        return false;
    x->counts.written += x->record.bytes;
    return true;
}

bool experts_flush(struct experts *x)
{
    for (uint32_t slot = 0; slot < x->slots; slot++) {
        if (!cache_is_dirty(x->cache, slot)) continue;
        if (!write_back(x, (uint32_t)cache_key(x->cache, slot), slot)) return false;
        cache_set_dirty(x->cache, slot, false);
    }
    return true;
}

// ---- turns

// All that was submitted is over.
static bool wait_for_turns(struct experts *x, uint64_t ticket)
{
    struct experts_turns *t = x->turns;
    if (ticket && !gpu_wait(x->gpu, ticket)) return false;
    for (uint32_t i = 0; i < t->flying_count; i++) cache_unpin(x->cache, t->flying[i]);
    t->flying_count = 0;
    return true;
}

// Which experts of the layer have rows.
static void read_needed(struct experts *x, uint32_t moe_layer)
{
    const uint32_t *range = x->ranges->data, experts = x->model->config.num_experts;
    struct experts_turns *t = x->turns;
    for (t->needed = 0; t->needed < experts && range[2] > 0; range += RANGE_WORDS) {
        t->done[t->needed] = false;
        t->key[t->needed++] = moe_layer * experts + range[0];
    }
    t->left = t->needed;
}

static void give_turn(struct experts *x, uint32_t *places, uint32_t index, uint32_t slot, bool hold)
{
    struct experts_turns *t = x->turns;
    places[index] = slot;
    t->done[index] = true;
    t->left--;
    t->turn[t->turn_count++] = slot;
    cache_pin(x->cache, slot);
    if (!hold || t->is_held[slot]) return;
    t->held[t->held_count++] = slot;
    t->is_held[slot] = true;
    cache_pin(x->cache, slot);
}

static uint32_t place_resident(struct experts *x, uint32_t *places, bool hold)
{
    struct experts_turns *t = x->turns;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->needed; i++) {
        if (cache_find(x->cache, t->key[i]) == CACHE_NONE) continue;
        give_turn(x, places, i, (uint32_t)cache_get(x->cache, t->key[i]), hold);
        count++;
    }
    x->counts.hits += count;
    return count;
}

// What the device did not hide of `seconds` of loading that have just ended.
static void note_load(struct experts *x, uint64_t ticket, double seconds, bool *idle)
{
    x->counts.load_seconds += seconds;
    *idle = *idle || !ticket || gpu_done(x->gpu, ticket);
    if (*idle) x->counts.wait_seconds += seconds;
}

// A slot for an expert that is not there. Where all are in use by what is in flight, that is waited
// for; *full: they are all in this turn, or held.
static bool take_slot(struct experts *x, uint32_t key, uint64_t ticket, uint32_t *slot, bool *full)
{
    struct cache_victim victim;
    *full = false;
    if (!cache_take(x->cache, key, false, &victim)) {
        *full = x->turns->turn_count > 0;
        if (*full || !wait_for_turns(x, ticket)) return *full;
        if (!cache_take(x->cache, key, false, &victim)) {
            log_error("%u slots are too few: more experts than that have rows in one step, and "
                      "training holds them until the optimizer has moved them; give it more "
                      "(--device-budget, --expert-slots), or fewer tokens a step",
                      x->slots);
            return false;
        }
    }
    *slot = victim.slot;
    // what moved it may still be in flight
    return !victim.dirty || (wait_for_turns(x, ticket) &&
                             write_back(x, (uint32_t)victim.key, victim.slot));
}

// Loads as many as slots are free.
static bool load_some(struct experts *x, uint32_t *places, uint64_t ticket, bool hold)
{
    struct experts_turns *t = x->turns;
    bool idle = !ticket || gpu_done(x->gpu, ticket);
    for (uint32_t i = 0; i < t->needed; i++) {
        if (t->done[i]) continue;
        uint32_t slot;
        bool full;
        cache_get(x->cache, t->key[i]); // a miss, for the policy
        const double begin = os_seconds();
        if (!take_slot(x, t->key[i], ticket, &slot, &full)) return false;
        if (full) break;
        if (!load(x, t->key[i], slot)) {
            cache_drop(x->cache, slot);
            return false;
        }
        cache_set_dirty(x->cache, slot, false);
        note_load(x, ticket, os_seconds() - begin, &idle);
        give_turn(x, places, i, slot, hold);
    }
    return true;
}

static bool visit_layer(struct experts *x, struct plan_visit *visit, bool hold)
{
    struct experts_turns *t = x->turns;
    x->counts.turns++;
    t->turn_count = 0;
    if (visit->turn == 0) {
        if (!wait_for_turns(x, visit->ticket)) return false;
        read_needed(x, visit->id);
    }
    uint32_t *places = os_alloc((t->needed + 1) * sizeof *places);
    memset(places, 0xff, t->needed * sizeof *places);
    bool ok = (visit->turn == 0 && place_resident(x, places, hold) > 0) || t->left == 0 ||
              load_some(x, places, visit->ticket, hold);
    // the device may still read the places of the turn before
    ok = ok && wait_for_turns(x, visit->ticket);
    if (ok && t->needed) memcpy(x->places->data, places, t->needed * sizeof *places);
    free(places);
    memcpy(t->flying, t->turn, t->turn_count * sizeof *t->turn);
    t->flying_count = t->turn_count;
    visit->again = t->left > 0;
    return ok;
}

bool experts_visit(void *user, struct plan_visit *visit)
{
    return visit_layer(user, visit, false);
}

bool experts_visit_train(void *user, struct plan_visit *visit)
{
    return visit_layer(user, visit, true);
}

// ---- the optimizer

void experts_norm_place(struct experts *x, const struct model_tensor *stack, uint32_t place,
                        uint32_t block)
{
    const uint32_t i = experts_matrix(x, stack->role),
                   layers = config_moe_layers(&x->model->config);
    if (!x->norm_place[i]) x->norm_place[i] = os_alloc(layers * sizeof **x->norm_place);
    x->norm_place[i][model_moe_index(x->model, (uint32_t)stack->layer)] = place;
    x->norm_block = block;
}

static void fill_tables(struct experts *x)
{
    const uint32_t experts = x->model->config.num_experts,
                   stride = (uint32_t)align_up(x->slots, 64);
    uint32_t *table = x->tables->data;
    for (uint32_t slot = 0; slot < x->slots; slot++) {
        const bool held = x->turns->is_held[slot];
        const uint32_t key = held ? (uint32_t)cache_key(x->cache, slot) : 0,
                       layer = key / experts, expert = key % experts;
        table[slot] = held ? layer * x->steps_stride + expert : KERNEL_NONE_ID;
        for (uint32_t i = 0; i < x->record.matrix_count; i++) {
            const uint32_t blocks =
                (uint32_t)((x->record.matrix[i].count + x->norm_block - 1) / x->norm_block);
            table[(i + 1) * stride + slot] =
                held ? x->norm_place[i][layer] + expert * blocks : KERNEL_NONE_ID;
        }
    }
}

bool experts_visit_update(void *user, struct plan_visit *visit)
{
    struct experts *x = user;
    struct experts_turns *t = x->turns;
    if (!wait_for_turns(x, visit->ticket)) return false;
    fill_tables(x);
    for (uint32_t i = 0; i < t->held_count; i++) {
        cache_set_dirty(x->cache, t->held[i], true);
        cache_unpin(x->cache, t->held[i]);
        t->is_held[t->held[i]] = false;
    }
    t->held_count = 0;
    return true;
}
