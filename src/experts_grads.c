// SPDX-License-Identifier: MIT
// Gradients of experts that come and go. They stay in the expert's slot until the optimizer has
// used them, because it moves all weights by one norm. Where a step has more experts than there are
// slots, gradients wait in host memory, and the optimizer goes over the experts in turns.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts_turns.h"

bool experts_grads_init(struct experts *x)
{
    struct experts_turns *t = x->turns;
    t->held = os_alloc(x->record.keys * sizeof *t->held);
    t->held_where = os_alloc(x->record.keys * sizeof *t->held_where);
    t->spilled = os_alloc(x->record.keys * sizeof *t->spilled);
    for (uint32_t i = 0; i < x->record.matrix_count; i++)
        t->spill_bytes += 4ull * x->record.matrix[i].count;
    return t->held && t->held_where && t->spilled;
}

void experts_grads_resize(struct experts *x)
{
    struct experts_turns *t = x->turns;
    free(t->has_grads), free(t->foreign);
    t->has_grads = os_alloc(x->slots * sizeof *t->has_grads);
    t->foreign = os_alloc(x->slots * sizeof *t->foreign);
}

void experts_grads_free(struct experts *x)
{
    struct experts_turns *t = x->turns;
    for (uint32_t i = 0; t->spilled && i < t->held_count; i++) free(t->spilled[t->held[i]]);
    free(t->held);
    free(t->held_where);
    free(t->spilled);
    free(t->has_grads);
    free(t->foreign);
}

// ---- to the host and back

static bool move(struct experts *x, uint32_t slot, uint8_t *host, bool to_slot)
{
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        const struct experts_piece p = experts_piece_of(x, slot, EXPERTS_GRAD, i);
        if (!(to_slot ? gpu_buffer_write(x->gpu, p.buffer, p.offset, host, p.bytes)
                      : gpu_buffer_read(x->gpu, p.buffer, p.offset, host, p.bytes)))
            return false;
        host += p.bytes;
    }
    return true;
}

bool experts_hold(struct experts *x, uint32_t slot)
{
    struct experts_turns *t = x->turns;
    const uint32_t key = (uint32_t)cache_key(x->cache, slot);
    if (!experts_restore(x, key, slot)) return false;
    t->has_grads[slot] = true;
    if (t->held_where[key] == HELD_SLOT) return true;
    t->held[t->held_count++] = key;
    t->held_where[key] = HELD_SLOT;
    cache_pin(x->cache, slot);
    return true;
}

static bool is_in_turn(const struct experts *x, uint32_t slot)
{
    const struct experts_turns *t = x->turns;
    for (uint32_t i = 0; i < t->turn_count; i++)
        if (t->turn[i] == slot) return true;
    for (uint32_t i = 0; i < t->flying_count; i++)
        if (t->flying[i] == slot) return true;
    return false;
}

static bool spill(struct experts *x, uint32_t key, uint32_t slot)
{
    struct experts_turns *t = x->turns;
    t->spilled[key] = malloc(t->spill_bytes);
    if (!t->spilled[key]) {
        log_error("no memory for the gradients of %u experts (%llu bytes each) that wait for the "
                  "optimizer; give it more slots (--device-budget, --expert-slots), or fewer "
                  "tokens a step",
                  t->held_count, (unsigned long long)t->spill_bytes);
        return false;
    }
    if (!move(x, slot, t->spilled[key], false)) return false;
    t->held_where[key] = HELD_HOST;
    cache_unpin(x->cache, slot);
    x->counts.spilled += t->spill_bytes;
    return true;
}

// Round and round, so that who has just come back is not the next to go.
bool experts_spill(struct experts *x, bool *freed)
{
    struct experts_turns *t = x->turns;
    *freed = false;
    for (uint32_t i = 0; i < t->held_count && !*freed; i++) {
        const uint32_t key = t->held[t->held_next++ % t->held_count];
        const int32_t slot =
            t->held_where[key] == HELD_SLOT ? cache_find(x->cache, key) : CACHE_NONE;
        if (slot == CACHE_NONE || is_in_turn(x, (uint32_t)slot)) continue;
        if (!spill(x, key, (uint32_t)slot)) return false;
        *freed = true;
    }
    return true;
}

static bool clear(struct experts *x, uint32_t slot)
{
    void *zero = os_alloc(x->turns->spill_bytes);
    const bool ok = move(x, slot, zero, true);
    free(zero);
    return ok;
}

bool experts_restore(struct experts *x, uint32_t key, uint32_t slot)
{
    struct experts_turns *t = x->turns;
    if (!t->foreign[slot]) return true;
    t->foreign[slot] = false;
    if (t->held_where[key] != HELD_HOST) {
        const bool ok = !t->has_grads[slot] || clear(x, slot);
        t->has_grads[slot] = false;
        return ok;
    }
    if (!move(x, slot, t->spilled[key], true)) return false;
    free(t->spilled[key]);
    t->spilled[key] = NULL;
    t->held_where[key] = HELD_SLOT;
    t->has_grads[slot] = true;
    cache_pin(x->cache, slot);
    return true;
}

// ---- tables: [1 + 2 matrices][slots]

static uint32_t *clear_table(struct experts *x, uint32_t row)
{
    uint32_t *table = (uint32_t *)x->tables->data + row * align_up(x->slots, 64);
    for (uint32_t slot = 0; slot < x->slots; slot++) table[slot] = KERNEL_NONE_ID;
    return table;
}

void experts_norm_place(struct experts *x, const struct model_tensor *stack, uint32_t place,
                        uint32_t block)
{
    const uint32_t i = experts_matrix(x, stack->role),
                   layers = config_moe_layers(&x->model->config);
    if (!x->norm_place[i]) x->norm_place[i] = os_alloc(layers * sizeof **x->norm_place);
    x->norm_place[i][model_moe_index(x->model, (uint32_t)stack->layer)] = place;
    x->norm_block = block;
}

void experts_fill_places(struct experts *x)
{
    const struct experts_turns *t = x->turns;
    const uint32_t experts = x->model->config.num_experts;
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        uint32_t *table = clear_table(x, 1 + i);
        const uint32_t blocks =
            (uint32_t)((x->record.matrix[i].count + x->norm_block - 1) / x->norm_block);
        for (uint32_t k = 0; k < t->turn_count; k++) {
            const uint32_t slot = t->turn[k], key = (uint32_t)cache_key(x->cache, slot);
            table[slot] = x->norm_place[i][key / experts] + key % experts * blocks;
        }
    }
}

// ---- the optimizer

// It is this turn that moves the expert in this slot.
static bool give(struct experts *x, uint32_t key, uint32_t slot)
{
    struct experts_turns *t = x->turns;
    if (!experts_restore(x, key, slot)) return false;
    experts_give(x, slot);
    t->held_where[key] = HELD_NOT;
    t->left--;
    cache_unpin(x->cache, slot);
    cache_set_dirty(x->cache, slot, true);
    return true;
}

// Whose record is in a slot.
static bool give_resident(struct experts *x)
{
    struct experts_turns *t = x->turns;
    for (uint32_t i = 0; i < t->held_count; i++) {
        const int32_t slot =
            t->held_where[t->held[i]] == HELD_NOT ? CACHE_NONE : cache_find(x->cache, t->held[i]);
        if (slot == CACHE_NONE || !experts_came(x, (uint32_t)slot)) continue;
        if (!give(x, t->held[i], (uint32_t)slot)) return false;
    }
    return true;
}

static bool load_missing(struct experts *x, uint64_t ticket, bool *coming)
{
    struct experts_turns *t = x->turns;
    bool full = false;
    *coming = false;
    for (uint32_t i = 0; i < t->held_count; i++) {
        const uint32_t key = t->held[i];
        uint32_t slot;
        if (t->held_where[key] == HELD_NOT) continue;
        if (cache_find(x->cache, key) == CACHE_NONE && !full) {
            if (!experts_take(x, key, ticket, &slot, &full)) return false;
            if (!full && !experts_load(x, key, slot, LOADER_NEEDED)) return false;
        }
        *coming |= cache_find(x->cache, key) != CACHE_NONE;
    }
    return true;
}

static bool fill_turn(struct experts *x, const struct plan_visit *visit)
{
    struct experts_turns *t = x->turns;
    bool coming;
    if (visit->turn == 0) t->left = t->held_count;
    if (!experts_loader_poll(x->loader) || !give_resident(x) ||
        !load_missing(x, visit->ticket, &coming))
        return false;
    while (t->turn_count == 0 && coming)
        if (!experts_await(x, LOADER_FOR_EVER) || !give_resident(x)) return false;
    return experts_moved_on(x);
}

static void fill_moves(struct experts *x)
{
    const uint32_t experts = x->model->config.num_experts;
    uint32_t *table = clear_table(x, 0);
    for (uint32_t i = 0; i < x->turns->turn_count; i++) {
        const uint32_t slot = x->turns->turn[i], key = (uint32_t)cache_key(x->cache, slot);
        table[slot] = key / experts * x->steps_stride + key % experts;
    }
}

// An expert has the same random numbers wherever it lies.
static void fill_draws(struct experts *x)
{
    const uint32_t experts = x->model->config.num_experts;
    if (x->model->config.master_weights) return; // nobody asks
    for (uint32_t i = 0; i < x->record.matrix_count; i++) {
        uint32_t *table = clear_table(x, 1 + x->record.matrix_count + i);
        const uint64_t each = align_up(x->record.matrix[i].count, DRAW_ELEMENTS) / DRAW_ELEMENTS;
        for (uint32_t k = 0; k < x->turns->turn_count; k++) {
            const uint32_t slot = x->turns->turn[k], key = (uint32_t)cache_key(x->cache, slot);
            const struct model_tensor *stack =
                experts_record_stack(&x->record, key / experts, i);
            table[slot] = (uint32_t)(stack->draw + key % experts * each);
        }
    }
}

bool experts_visit_update(void *user, struct plan_visit *visit)
{
    struct experts *x = user;
    struct experts_turns *t = x->turns;
    experts_begin_turn(x);
    if (!experts_open(x) || !experts_wait(x, visit->ticket) || !fill_turn(x, visit)) return false;
    fill_moves(x);
    fill_draws(x);
    experts_end_turn(x);
    visit->again = t->left > 0;
    if (visit->again) return true;
    t->held_count = t->held_next = 0;
    memset(t->has_grads, 0, x->slots * sizeof *t->has_grads); // the next step begins with zeros
    return true;
}
