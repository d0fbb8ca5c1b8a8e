// SPDX-License-Identifier: MIT
// Slots on the device and which experts lie in them: see experts.h.
#include "src/experts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { RANGE_WORDS = 4 };

static const enum model_role all_roles[EXPERTS_ROLES] = {
    ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN, ROLE_EXPERT_UP_BIAS,
    ROLE_EXPERT_DOWN_BIAS,
};

// Turns are counted from 1 over the whole life; the slots of a turn may be written again once it
// has been waited for.
struct experts_table {
    uint32_t *slot_of_key;  // [MoE layers * experts], or KERNEL_NONE_ID
    uint32_t *key_of_slot;  // [slots], the same
    uint64_t *turn_of_slot; // [slots] the last one that used it; 0: none
    uint64_t  turn, waited; // the one at hand; the last one that is known to be over
    // of the layer at hand
    uint32_t *key, needed;  // of the experts that have rows, in the order of the ranges
    bool     *done;         // had their turn
    uint32_t  left;         // that had none yet
    void     *staging;      // of one matrix
};

// ---- creation

const struct model_tensor *experts_stack(const struct model *model, uint32_t moe_layer,
                                         enum model_role role)
{
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (model->tensor[i].role == role &&
            model_moe_index(model, (uint32_t)model->tensor[i].layer) == moe_layer)
            return &model->tensor[i];
    return NULL;
}

static bool make_initial(void *user, uint32_t moe_layer, uint32_t expert, enum model_role role,
                         enum dtype store, void *out)
{
    const struct model *model = user;
    const struct model_tensor *stack = experts_stack(model, moe_layer, role);
    const uint64_t count = (uint64_t)stack->rows * stack->cols;
    float *values = os_alloc(count * sizeof *values);
    model_init_values(model, stack, expert * count, count, values);
    for (uint64_t i = 0; i < count; i++) dtype_store(out, i, store, (double)values[i]);
    free(values);
    return true;
}

void experts_source_initial(struct experts_source *source, const struct model *model)
{
    *source = (struct experts_source){.read = make_initial, .user = (void *)(uintptr_t)model};
}

static uint64_t matrix_bytes(const struct model *model, enum model_role role, enum dtype store)
{
    const struct model_tensor *stack = experts_stack(model, 0, role);
    return stack ? (uint64_t)stack->rows * stack->cols * dtype_bytes(store) : 0;
}

uint64_t experts_slot_bytes(const struct model *model, enum dtype store)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < COUNT_OF(all_roles); i++)
        bytes += matrix_bytes(model, all_roles[i], store);
    return bytes;
}

static uint32_t key_count(const struct experts *x)
{
    return config_moe_layers(&x->model->config) * x->model->config.num_experts;
}

static void drop_pool(struct experts *x)
{
    for (uint32_t r = 0; r < x->role_count; r++) {
        for (uint32_t w = 0; x->pool[r] && w < x->windows; w++)
            gpu_buffer_destroy(x->gpu, &x->pool[r][w]);
        free(x->pool[r]);
        x->pool[r] = NULL;
    }
    free(x->table->key_of_slot);
    free(x->table->turn_of_slot);
    x->table->key_of_slot = NULL;
    x->table->turn_of_slot = NULL;
    x->slots = x->windows = 0;
}

// Slots of a window: as many as one binding of the largest matrices may cover.
static uint32_t window_slots(const struct experts *x, uint32_t slots)
{
    const struct gpu_caps *caps = &x->gpu->caps;
    uint64_t most = slots;
    for (uint32_t r = 0; r < x->role_count; r++)
        most = min_u64(most, min_u64(caps->max_range, caps->max_allocation) / x->bytes[r]);
    return (uint32_t)most;
}

static bool make_pool(struct experts *x, uint32_t slots)
{
    struct experts_table *t = x->table;
    x->window_slots = window_slots(x, slots);
    if (x->window_slots == 0) {
        log_error("a matrix of one expert is larger than what device %s binds at once (%llu bytes)",
                  x->gpu->caps.name, (unsigned long long)x->gpu->caps.max_range);
        return false;
    }
    x->slots = slots;
    x->windows = ceil_div(slots, x->window_slots);
    t->key_of_slot = os_alloc(slots * sizeof *t->key_of_slot);
    t->turn_of_slot = os_alloc(slots * sizeof *t->turn_of_slot);
    memset(t->key_of_slot, 0xff, slots * sizeof *t->key_of_slot);
    memset(t->slot_of_key, 0xff, key_count(x) * sizeof *t->slot_of_key);
    for (uint32_t r = 0; r < x->role_count; r++) {
        x->pool[r] = os_alloc(x->windows * sizeof *x->pool[r]);
        for (uint32_t w = 0; w < x->windows; w++) {
            const uint32_t own = min_u32(x->window_slots, slots - w * x->window_slots);
            x->pool[r][w] = gpu_buffer_create(
                x->gpu, &(struct gpu_buffer_params){.name = "slots of experts",
                                                    .bytes = own * x->bytes[r]});
            if (!x->pool[r][w]) return false;
        }
    }
    return true;
}

static bool make_lists(struct experts *x)
{
    const uint64_t most = x->model->config.num_experts;
    uint64_t largest = 0;
    for (size_t i = 0; i < COUNT_OF(all_roles); i++) {
        const uint64_t bytes = matrix_bytes(x->model, all_roles[i], x->store);
        if (!bytes) continue;
        x->role[x->role_count] = all_roles[i];
        x->bytes[x->role_count++] = bytes;
        largest = max_u64(largest, bytes);
    }
    x->table = os_alloc(sizeof *x->table);
    x->table->slot_of_key = os_alloc(key_count(x) * sizeof *x->table->slot_of_key);
    x->table->key = os_alloc(most * sizeof *x->table->key);
    x->table->done = os_alloc(most * sizeof *x->table->done);
    x->table->staging = os_alloc(largest);
    x->ranges = gpu_buffer_create(
        x->gpu, &(struct gpu_buffer_params){.name = "experts with rows (host)",
                                            .bytes = 4 * RANGE_WORDS * (most + 1),
                                            .memory = GPU_MEMORY_READBACK});
    x->places = gpu_buffer_create(x->gpu, &(struct gpu_buffer_params){.name = "slots of a turn",
                                                                      .bytes = 4 * most,
                                                                      .memory = GPU_MEMORY_UPLOAD});
    return x->ranges && x->places;
}

struct experts *experts_create(struct gpu *gpu, const struct model *model, enum dtype store,
                               const struct experts_source *source, uint32_t slots)
{
    struct experts *x = os_alloc(sizeof *x);
    *x = (struct experts){.gpu = gpu, .model = model, .store = store, .source = *source};
    if (!make_lists(x) || !experts_resize(x, max_u32(slots, 1))) experts_destroy(&x);
    return x;
}

bool experts_resize(struct experts *x, uint32_t slots)
{
    drop_pool(x);
    return slots > 0 && make_pool(x, min_u32(slots, key_count(x)));
}

bool experts_fit(const struct experts *x, uint32_t *slots)
{
    if (!x || !x->budget) return true;
    const uint64_t slot = experts_slot_bytes(x->model, x->store),
                   held = gpu_memory_held(x->gpu), others = held - x->slots * slot;
    const uint64_t most = x->budget > others ? (x->budget - others) / slot : 0;
    *slots = (uint32_t)min_u64(most, key_count(x));
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
    free(x->table->slot_of_key);
    free(x->table->key);
    free(x->table->done);
    free(x->table->staging);
    free(x->table);
    free(x);
    *experts = NULL;
}

void experts_tell(const struct experts *x)
{
    if (!x) return;
    const struct experts_counts *c = &x->counts;
    const double mib = 1.0 / 1048576, all = (double)(c->hits + c->misses);
    log_info("experts: %u of %u have a slot (%.1f MiB); of %llu calls %.1f %% found theirs there; "
             "%.1f MiB loaded in %.2f s, %.2f s of that while the device had nothing to do",
             x->slots, key_count(x),
             mib * (double)(x->slots * experts_slot_bytes(x->model, x->store)),
             (unsigned long long)(c->hits + c->misses), all > 0 ? 100 * (double)c->hits / all : 0,
             mib * (double)c->bytes, c->load_seconds, c->wait_seconds);
}

// ---- for plans

struct plan_range experts_pool(const struct experts *x, struct plan *plan, enum model_role role,
                               uint32_t window)
{
    uint32_t r = 0;
    while (x->role[r] != role) r++;
    struct gpu_buffer *buffer = x->pool[r][window];
    return plan_external(plan, "slots of experts", buffer, 0, buffer->params.bytes);
}

struct plan_range experts_ranges(const struct experts *x, struct plan *plan, uint64_t bytes)
{
    return plan_external(plan, "experts with rows", x->ranges, 0, bytes);
}

struct plan_range experts_places(const struct experts *x, struct plan *plan, uint32_t ranges)
{
    return plan_external(plan, "slots of a turn", x->places, 0, 4ull * ranges);
}

// ---- turns

// All turns before the one at hand are over.
static bool wait_for_turns(struct experts *x, uint64_t ticket)
{
    if (ticket && !gpu_wait(x->gpu, ticket)) return false;
    x->table->waited = x->table->turn - 1;
    return true;
}

// Which experts of the layer have rows.
static void read_needed(struct experts *x, uint32_t moe_layer)
{
    const uint32_t *range = x->ranges->data, experts = x->model->config.num_experts;
    struct experts_table *t = x->table;
    for (t->needed = 0; t->needed < experts && range[2] > 0; range += RANGE_WORDS) {
        t->done[t->needed] = false;
        t->key[t->needed++] = moe_layer * experts + range[0];
    }
    t->left = t->needed;
}

static void give_turn(struct experts *x, uint32_t *places, uint32_t index, uint32_t slot)
{
    struct experts_table *t = x->table;
    places[index] = slot;
    t->turn_of_slot[slot] = t->turn;
    t->done[index] = true;
    t->left--;
}

static uint32_t place_resident(struct experts *x, uint32_t *places)
{
    struct experts_table *t = x->table;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->needed; i++) {
        const uint32_t slot = t->slot_of_key[t->key[i]];
        if (slot == KERNEL_NONE_ID) continue;
        give_turn(x, places, i, slot);
        count++;
    }
    x->counts.hits += count;
    return count;
}

// The slot that was not used for longest, of those that no turn in flight and not this one uses;
// KERNEL_NONE_ID: there is none.
static uint32_t victim(const struct experts *x)
{
    const struct experts_table *t = x->table;
    uint32_t best = KERNEL_NONE_ID;
    for (uint32_t s = 0; s < x->slots; s++) {
        if (t->turn_of_slot[s] > t->waited) continue;
        if (best == KERNEL_NONE_ID || t->turn_of_slot[s] < t->turn_of_slot[best]) best = s;
    }
    return best;
}

static bool load(struct experts *x, uint32_t key, uint32_t slot)
{
    struct experts_table *t = x->table;
    const uint32_t experts = x->model->config.num_experts, old = t->key_of_slot[slot];
    const uint32_t window = slot / x->window_slots, at = slot % x->window_slots;
    if (old != KERNEL_NONE_ID) t->slot_of_key[old] = KERNEL_NONE_ID;
    t->key_of_slot[slot] = KERNEL_NONE_ID;
    for (uint32_t r = 0; r < x->role_count; r++) {
        struct gpu_buffer *pool = x->pool[r][window];
        const uint64_t offset = at * x->bytes[r];
        void *out = pool->data ? (uint8_t *)pool->data + offset : t->staging;
        if (!x->source.read(x->source.user, key / experts, key % experts, x->role[r], x->store,
                            out) ||
            (!pool->data && !gpu_buffer_write(x->gpu, pool, offset, out, x->bytes[r])))
            return false;
        x->counts.bytes += x->bytes[r];
    }
    t->key_of_slot[slot] = key;
    t->slot_of_key[key] = slot;
    x->counts.misses++;
    return true;
}

// What the device did not hide of `seconds` of loading that have just ended.
static void note_load(struct experts *x, uint64_t ticket, double seconds, bool *idle)
{
    x->counts.load_seconds += seconds;
    *idle = *idle || !ticket || gpu_done(x->gpu, ticket);
    if (*idle) x->counts.wait_seconds += seconds;
}

// Loads as many as slots are free; where none is, the turns in flight are waited for.
static bool load_some(struct experts *x, uint32_t *places, uint64_t ticket)
{
    struct experts_table *t = x->table;
    bool idle = !ticket || gpu_done(x->gpu, ticket);
    uint32_t loaded = 0;
    for (uint32_t i = 0; i < t->needed; i++) {
        if (t->done[i]) continue;
        uint32_t slot = victim(x);
        if (slot == KERNEL_NONE_ID && loaded == 0) {
            if (!wait_for_turns(x, ticket)) return false;
            slot = victim(x);
        }
        if (slot == KERNEL_NONE_ID) break;
        const double begin = os_seconds();
        if (!load(x, t->key[i], slot)) return false;
        note_load(x, ticket, os_seconds() - begin, &idle);
        give_turn(x, places, i, slot);
        loaded++;
    }
    return true;
}

bool experts_visit(void *user, struct plan_visit *visit)
{
    struct experts *x = user;
    struct experts_table *t = x->table;
    t->turn++;
    x->counts.turns++;
    if (visit->turn == 0) {
        if (!wait_for_turns(x, visit->ticket)) return false;
        read_needed(x, visit->id);
    }
    uint32_t *places = os_alloc((t->needed + 1) * sizeof *places);
    memset(places, 0xff, t->needed * sizeof *places);
    bool ok = (visit->turn == 0 && place_resident(x, places) > 0) || t->left == 0 ||
              load_some(x, places, visit->ticket);
    // the device may still read the places of the turn before
    ok = ok && wait_for_turns(x, visit->ticket);
    if (ok && t->needed) memcpy(x->places->data, places, t->needed * sizeof *places);
    free(places);
    visit->again = t->left > 0;
    return ok;
}
