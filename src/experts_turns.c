// SPDX-License-Identifier: MIT
// Turns: which experts have rows, who of them lies in a slot, who is loaded next (experts.h).
#include "src/experts_turns.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

// A turn costs the device more than it has from beginning so much earlier with a part of the
// experts: a turn of 200 us on lavapipe, records of 260 KiB that come within 150 us.
enum { TOGETHER_US = 300 };

// ---- records come and go

struct experts_piece experts_piece_of(const struct experts *x, uint32_t slot, int array,
                                      uint32_t matrix)
{
    const uint64_t bytes = experts_bytes(x, array, matrix);
    return (struct experts_piece){.buffer = x->pool[array][matrix][slot / x->window_slots],
                                  .offset = slot % x->window_slots * bytes,
                                  .bytes = bytes};
}

static uint32_t pieces(void *user, uint32_t slot, uint32_t key,
                       struct loader_piece out[LOADER_PIECES])
{
    const struct experts *x = user;
    const uint32_t experts = x->model->config.num_experts;
    uint32_t count = 0;
    for (int a = 0; a < RECORD_ARRAYS; a++)
        for (uint32_t i = 0; i < x->record.matrix_count; i++) {
            uint64_t bytes;
            const uint64_t at = experts_record_place(&x->record, (enum record_array)a, i, &bytes);
            if (!bytes) continue;
            const struct experts_piece p = experts_piece_of(x, slot, a, i);
            out[count++] = (struct loader_piece){
                .buffer = p.buffer, .offset = p.offset, .in_record = at, .bytes = bytes};
        }
    if (x->steps)
        out[count++] = (struct loader_piece){
            .buffer = x->steps,
            .offset = 4ull * (key / experts * x->steps_stride + key % experts),
            .bytes = 4,
            .is_steps = true};
    return count;
}

bool experts_open(struct experts *x)
{
    if (!x->loader)
        x->loader = experts_loader_create(&(struct experts_loader_params){.gpu = x->gpu,
                                                                          .record = &x->record,
                                                                          .source = &x->source,
                                                                          .whole = x->training,
                                                                          .slots = x->slots,
                                                                          .pieces = pieces,
                                                                          .user = x,
                                                                          .file = x->file});
    return x->loader != NULL;
}

bool experts_load(struct experts *x, uint32_t key, uint32_t slot, enum loader_kind kind)
{
    const bool guess = kind == LOADER_SPECULATIVE;
    const double begin = os_seconds();
    cache_set_dirty(x->cache, slot, false);
    cache_pin(x->cache, slot);
    x->turns->coming[slot] = guess ? COMING_GUESSED : COMING_NEEDED;
    if (x->training) x->turns->foreign[slot] = true;
    if (guess) x->counts.guessed++;
    else x->counts.misses++;
    const bool ok = experts_loader_load(x->loader, key, slot, kind);
    if (kind == LOADER_HERE) x->counts.wait_seconds += os_seconds() - begin;
    return ok;
}

bool experts_came(struct experts *x, uint32_t slot)
{
    uint8_t *coming = &x->turns->coming[slot];
    if (*coming == COMING_NOT) return true;
    if (experts_loader_busy(x->loader, slot)) return false;
    *coming = COMING_NOT;
    cache_unpin(x->cache, slot);
    experts_loader_use(x->loader, slot);
    return true;
}

bool experts_await(struct experts *x, uint32_t most_us)
{
    const double begin = os_seconds();
    const bool ok = experts_loader_next(x->loader, most_us);
    x->counts.wait_seconds += os_seconds() - begin;
    return ok;
}

static void note_traffic(struct experts *x)
{
    const struct loader_stats stats = experts_loader_stats(x->loader);
    x->counts.bytes = stats.bytes;
    x->counts.written = stats.bytes_written;
    x->counts.load_seconds = stats.seconds;
    x->counts.used = x->cache->stats.useful;
}

bool experts_flush(struct experts *x)
{
    if (!experts_open(x)) return false;
    for (uint32_t slot = 0; slot < x->slots; slot++) {
        if (!cache_is_dirty(x->cache, slot)) continue;
        if (!experts_loader_store(x->loader, (uint32_t)cache_key(x->cache, slot), slot))
            return false;
        cache_set_dirty(x->cache, slot, false);
    }
    const bool ok = experts_loader_drain(x->loader);
    note_traffic(x);
    return ok;
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

// Guesses give their slots to who is needed: those that have come may go as anybody; where there
// are none, the others are given up.
static bool drop_guesses(struct experts *x, bool *freed)
{
    struct experts_turns *t = x->turns;
    for (uint32_t slot = 0; slot < x->slots; slot++)
        if (t->coming[slot] == COMING_GUESSED) *freed |= experts_came(x, slot);
    for (uint32_t slot = 0; slot < x->slots && !*freed; slot++)
        if (t->coming[slot] == COMING_GUESSED) experts_loader_cancel(x->loader, slot);
    for (uint32_t slot = 0; slot < x->slots && !*freed; slot++) {
        if (t->coming[slot] != COMING_GUESSED) continue;
        if (!experts_loader_wait(x->loader, slot) || !experts_came(x, slot)) return false;
        cache_drop(x->cache, slot); // it may have come, or not
        *freed = true;
    }
    return true;
}

// Who is held goes only where all others are in use, and what is in flight is waited for last.
bool experts_take(struct experts *x, uint32_t key, uint64_t ticket, uint32_t *slot, bool *full)
{
    struct cache_victim victim;
    bool freed = true, taken = false;
    *full = false;
    while (!(taken = cache_take(x->cache, key, false, &victim)) && freed) {
        freed = false;
        if (!drop_guesses(x, &freed) || (!freed && !experts_spill(x, &freed))) return false;
        if (freed || x->turns->flying_count == 0 || x->turns->turn_count > 0) continue;
        if (!experts_wait(x, ticket)) return false;
        freed = true;
    }
    *full = !taken;
    if (!taken) return true;
    *slot = victim.slot;
    // what moved it may still be in flight
    return !victim.dirty ||
           (experts_wait(x, ticket) &&
            experts_loader_store(x->loader, (uint32_t)victim.key, victim.slot));
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
        t->where[t->needed] = WHERE_AWAY;
        t->key[t->needed++] = moe_layer * experts + range[0];
    }
    t->left = t->needed;
}

enum stage { STAGE_INFERENCE, STAGE_FORWARD, STAGE_GRADS };

static bool give_turn(struct experts *x, uint32_t *places, uint32_t index, uint32_t slot,
                      enum stage stage)
{
    struct experts_turns *t = x->turns;
    places[index] = slot;
    t->where[index] = WHERE_DONE;
    t->left--;
    experts_give(x, slot);
    // backward comes to the last layers first
    if (stage == STAGE_FORWARD)
        cache_hint(x->cache, t->key[index], (uint64_t)(x->record.keys - t->key[index]));
    return stage != STAGE_GRADS || experts_hold(x, slot);
}

// Those in slots have their turn; guesses that are still on the way have it when they come.
static bool place_resident(struct experts *x, uint32_t *places, enum stage stage)
{
    struct experts_turns *t = x->turns;
    for (uint32_t i = 0; i < t->needed; i++) {
        if (cache_find(x->cache, t->key[i]) == CACHE_NONE) continue;
        const uint32_t slot = (uint32_t)cache_get(x->cache, t->key[i]);
        x->counts.hits++;
        if (experts_came(x, slot)) {
            if (!give_turn(x, places, i, slot, stage)) return false;
            continue;
        }
        experts_loader_promote(x->loader, slot);
        t->coming[slot] = COMING_NEEDED;
        t->where[i] = WHERE_COMING;
    }
    return true;
}

// As many of the others as there are slots begin to come. Where nobody has a turn yet, there is
// nothing to do but to bring the last one.
static bool load_missing(struct experts *x, uint64_t ticket)
{
    struct experts_turns *t = x->turns;
    uint32_t last = 0;
    bool full = false;
    for (uint32_t i = 0; i < t->needed; i++)
        if (t->where[i] == WHERE_AWAY || t->where[i] == WHERE_MISSED) last = i;
    for (uint32_t i = 0; i < t->needed && !full; i++) {
        uint32_t slot;
        if (t->where[i] != WHERE_AWAY && t->where[i] != WHERE_MISSED) continue;
        if (t->where[i] == WHERE_AWAY) cache_get(x->cache, t->key[i]); // for the policy: once
        t->where[i] = WHERE_MISSED;
        if (!experts_take(x, t->key[i], ticket, &slot, &full)) return false;
        if (full) break;
        t->where[i] = WHERE_COMING;
        const bool here = i == last && t->turn_count == 0;
        if (!experts_load(x, t->key[i], slot, here ? LOADER_HERE : LOADER_NEEDED)) return false;
    }
    return true;
}

// Who has come has a turn.
static bool place_arrived(struct experts *x, uint32_t *places, enum stage stage)
{
    struct experts_turns *t = x->turns;
    for (uint32_t i = 0; i < t->needed; i++) {
        if (t->where[i] != WHERE_COMING) continue;
        const uint32_t slot = (uint32_t)cache_find(x->cache, t->key[i]);
        if (experts_came(x, slot) && !give_turn(x, places, i, slot, stage)) return false;
    }
    return true;
}

static bool any_coming(const struct experts_turns *t)
{
    for (uint32_t i = 0; i < t->needed; i++)
        if (t->where[i] == WHERE_COMING) return true;
    return false;
}

static bool fill_turn(struct experts *x, const struct plan_visit *visit, uint32_t *places,
                      enum stage stage)
{
    struct experts_turns *t = x->turns;
    if (visit->turn == 0 && !place_resident(x, places, stage)) return false;
    const bool idle = visit->turn > 0 || t->turn_count == 0; // the device
    if (visit->turn > 0 && (!experts_loader_poll(x->loader) || !place_arrived(x, places, stage)))
        return false;
    if (!load_missing(x, visit->ticket) || (t->turn_count == 0 && !place_arrived(x, places, stage)))
        return false;
    const uint64_t until = os_time_ns() + 1000ull * TOGETHER_US;
    while (any_coming(t) && (t->turn_count == 0 || (idle && os_time_ns() < until)))
        if (!experts_await(x, t->turn_count ? TOGETHER_US : LOADER_FOR_EVER) ||
            !place_arrived(x, places, stage))
            return false;
    return experts_moved_on(x);
}

static bool visit_layer(struct experts *x, struct plan_visit *visit, enum stage stage)
{
    struct experts_turns *t = x->turns;
    x->counts.turns++;
    experts_begin_turn(x);
    // the device may still read the places of the turn before, too
    if (!experts_open(x) || !experts_wait(x, visit->ticket)) return false;
    const struct experts_point point = experts_point_of(visit->id);
    if (visit->turn == 0) read_needed(x, point.layer);
    if (visit->turn == 0 && x->prefetch) experts_remember(x, point.layer);
    uint32_t *places = os_alloc((t->needed + 1) * sizeof *places);
    memset(places, 0xff, t->needed * sizeof *places);
    const bool ok = fill_turn(x, visit, places, stage) && (t->left > 0 || experts_guess(x, point));
    if (ok && t->needed) memcpy(x->places->data, places, t->needed * sizeof *places);
    if (ok && stage == STAGE_GRADS) experts_fill_places(x);
    free(places);
    experts_end_turn(x);
    note_traffic(x);
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
