// SPDX-License-Identifier: MIT
// Turns: which experts have rows, who of them lies in a slot, who is loaded next (experts.h).
#include "src/experts_turns.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

// ---- between records and slots

struct experts_piece experts_piece_of(const struct experts *x, uint32_t slot, int array,
                                      uint32_t matrix)
{
    const uint64_t bytes = x->record.matrix[matrix].count * dtype_bytes(experts_dtype(x, array));
    return (struct experts_piece){.buffer = x->pool[array][matrix][slot / x->window_slots],
                                  .offset = slot % x->window_slots * bytes,
                                  .bytes = bytes};
}

static bool move(struct experts *x, uint32_t slot, bool to_slot)
{
    uint8_t *record = x->turns->record;
    for (int a = 0; a < RECORD_ARRAYS; a++)
        for (uint32_t i = 0; experts_has(x, a) && i < x->record.matrix_count; i++) {
            const struct experts_piece p = experts_piece_of(x, slot, a, i);
            void *at = record + x->record.array[a] +
                       x->record.matrix[i].begin * dtype_bytes(experts_dtype(x, a));
            if (!(to_slot ? gpu_buffer_write(x->gpu, p.buffer, p.offset, at, p.bytes)
                          : gpu_buffer_read(x->gpu, p.buffer, p.offset, at, p.bytes)))
                return false;
        }
    return true;
}

bool experts_load(struct experts *x, uint32_t key, uint32_t slot)
{
    if (!x->source.read(x->source.user, &x->record, key, x->training, x->turns->record) ||
        !move(x, slot, true) || (x->training && !experts_restore(x, key, slot))) {
        cache_drop(x->cache, slot);
        return false;
    }
    cache_set_dirty(x->cache, slot, false);
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

// ---- slots for who has none

bool experts_wait(struct experts *x, uint64_t ticket)
{
    struct experts_turns *t = x->turns;
    if (ticket && !gpu_wait(x->gpu, ticket)) return false;
    for (uint32_t i = 0; i < t->flying_count; i++) cache_unpin(x->cache, t->flying[i]);
    t->flying_count = 0;
    return true;
}

// Who is held goes only where all others are in use, and what is in flight is waited for last.
bool experts_take(struct experts *x, uint32_t key, uint64_t ticket, uint32_t *slot, bool *full)
{
    struct cache_victim victim;
    bool freed = true, taken = false;
    *full = false;
    while (!(taken = cache_take(x->cache, key, false, &victim)) && freed) {
        if (!experts_spill(x, &freed)) return false;
        if (freed || x->turns->flying_count == 0 || x->turns->turn_count > 0) continue;
        if (!experts_wait(x, ticket)) return false;
        freed = true;
    }
    *full = !taken;
    if (!taken) return true;
    *slot = victim.slot;
    // what moved it may still be in flight
    return !victim.dirty ||
           (experts_wait(x, ticket) && write_back(x, (uint32_t)victim.key, victim.slot));
}

// ---- turns

void experts_begin_turn(struct experts *x) { x->turns->turn_count = 0; }

void experts_give(struct experts *x, uint32_t slot)
{
    x->turns->turn[x->turns->turn_count++] = slot;
    cache_pin(x->cache, slot);
}

void experts_end_turn(struct experts *x)
{
    struct experts_turns *t = x->turns;
    memcpy(t->flying, t->turn, t->turn_count * sizeof *t->turn);
    t->flying_count = t->turn_count;
}

bool experts_moved_on(const struct experts *x)
{
    if (x->turns->turn_count > 0 || x->turns->left == 0) return true;
    log_error("all %u slots of experts are taken and none comes free", x->slots);
    return false;
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

enum stage { STAGE_INFERENCE, STAGE_FORWARD, STAGE_GRADS };

static void give_turn(struct experts *x, uint32_t *places, uint32_t index, uint32_t slot,
                      enum stage stage)
{
    struct experts_turns *t = x->turns;
    places[index] = slot;
    t->done[index] = true;
    t->left--;
    experts_give(x, slot);
    if (stage == STAGE_GRADS) experts_hold(x, slot);
    // backward comes to the last layers first
    if (stage == STAGE_FORWARD)
        cache_hint(x->cache, t->key[index], (uint64_t)(x->record.keys - t->key[index]));
}

static uint32_t place_resident(struct experts *x, uint32_t *places, enum stage stage)
{
    struct experts_turns *t = x->turns;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->needed; i++) {
        if (cache_find(x->cache, t->key[i]) == CACHE_NONE) continue;
        give_turn(x, places, i, (uint32_t)cache_get(x->cache, t->key[i]), stage);
        count++;
    }
    x->counts.hits += count;
    return count;
}

// What the device did not hide of `seconds` of loading that have just ended.
void experts_note_load(struct experts *x, uint64_t ticket, double seconds, bool *idle)
{
    x->counts.load_seconds += seconds;
    *idle = *idle || !ticket || gpu_done(x->gpu, ticket);
    if (*idle) x->counts.wait_seconds += seconds;
}

// Loads as many as slots are free.
static bool load_some(struct experts *x, uint32_t *places, uint64_t ticket, enum stage stage)
{
    struct experts_turns *t = x->turns;
    bool idle = !ticket || gpu_done(x->gpu, ticket);
    for (uint32_t i = 0; i < t->needed; i++) {
        if (t->done[i]) continue;
        uint32_t slot;
        bool full;
        cache_get(x->cache, t->key[i]); // a miss, for the policy
        const double begin = os_seconds();
        if (!experts_take(x, t->key[i], ticket, &slot, &full)) return false;
        if (full) break;
        if (!experts_load(x, t->key[i], slot)) return false;
        experts_note_load(x, ticket, os_seconds() - begin, &idle);
        give_turn(x, places, i, slot, stage);
    }
    return true;
}

static bool visit_layer(struct experts *x, struct plan_visit *visit, enum stage stage)
{
    struct experts_turns *t = x->turns;
    x->counts.turns++;
    experts_begin_turn(x);
    if (visit->turn == 0) {
        if (!experts_wait(x, visit->ticket)) return false;
        read_needed(x, visit->id);
    }
    uint32_t *places = os_alloc((t->needed + 1) * sizeof *places);
    memset(places, 0xff, t->needed * sizeof *places);
    bool ok = (visit->turn == 0 && place_resident(x, places, stage) > 0) || t->left == 0 ||
              load_some(x, places, visit->ticket, stage);
    // the device may still read the places of the turn before
    ok = ok && experts_wait(x, visit->ticket);
    ok = ok && experts_moved_on(x);
    if (ok && t->needed) memcpy(x->places->data, places, t->needed * sizeof *places);
    if (ok && stage == STAGE_GRADS) experts_fill_places(x);
    free(places);
    experts_end_turn(x);
    visit->again = t->left > 0;
    return ok;
}

bool experts_visit(void *user, struct plan_visit *visit)
{
    return visit_layer(user, visit, STAGE_INFERENCE);
}

bool experts_visit_forward(void *user, struct plan_visit *visit)
{
    return visit_layer(user, visit, STAGE_FORWARD);
}

bool experts_visit_grads(void *user, struct plan_visit *visit)
{
    return visit_layer(user, visit, STAGE_GRADS);
}
