// SPDX-License-Identifier: MIT
// Prefetch: experts that the layer to come may need are loaded while the layer at hand computes.
// Forward they are guessed: the next layer's router was applied to what the tokens are now
// (plan_stream.c); backward they are known: those that forward had. Guesses only take what nobody
// else wants: slots that neither the layer at hand nor another guess uses, half of the loader's
// ring, and the disk while no needed record waits for it.
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/experts_turns.h"

void experts_guess_free(struct experts *x)
{
    struct experts_turns *t = x->turns;
    for (uint32_t i = 0; t->had && i < config_moe_layers(&x->model->config); i++) free(t->had[i]);
    free(t->had);
    free(t->had_count);
}

void experts_remember(struct experts *x, uint32_t layer)
{
    struct experts_turns *t = x->turns;
    const uint32_t layers = config_moe_layers(&x->model->config);
    if (!t->had) {
        t->had = os_alloc(layers * sizeof *t->had);
        t->had_count = os_alloc(layers * sizeof *t->had_count);
    }
    if (!t->had[layer])
        t->had[layer] = os_alloc(x->model->config.num_experts * sizeof *t->had[layer]);
    memcpy(t->had[layer], t->key, t->needed * sizeof *t->key);
    t->had_count[layer] = t->needed;
}

// ---- who

struct guess { uint32_t key, picks; };

static int more_picks(const void *a, const void *b)
{
    const struct guess *x = a, *y = b;
    if (x->picks != y->picks) return x->picks < y->picks ? 1 : -1;
    return (x->key > y->key) - (x->key < y->key);
}

// The keys that most tokens would pick first; returns how many there are.
static uint32_t count_picks(const struct experts *x, uint32_t layer, struct guess *guess)
{
    const uint32_t experts = x->model->config.num_experts, *pick = x->guesses->data;
    uint32_t count = 0;
    for (uint32_t e = 0; e < experts; e++) guess[e] = (struct guess){layer * experts + e, 0};
    for (uint32_t i = 0; i < EXPERTS_GUESSES; i++)
        if (pick[i] < experts) guess[pick[i]].picks++;
    qsort(guess, experts, sizeof *guess, more_picks);
    while (count < experts && guess[count].picks > 0) count++;
    return count;
}

static uint32_t take_known(const struct experts *x, uint32_t layer, struct guess *guess)
{
    const struct experts_turns *t = x->turns;
    const uint32_t count = t->had[layer] ? t->had_count[layer] : 0;
    for (uint32_t i = 0; i < count; i++) guess[i] = (struct guess){t->had[layer][i], 1};
    return count;
}

// ---- loads

// Those in slots stay there while others are found a slot.
static void pin_all(struct experts *x, const struct guess *guess, uint32_t count, bool pin)
{
    for (uint32_t i = 0; i < count; i++) {
        const int32_t slot = cache_find(x->cache, guess[i].key);
        if (slot != CACHE_NONE) (pin ? cache_pin : cache_unpin)(x->cache, (uint32_t)slot);
    }
}

// A victim's record needs room on its way out as well.
static bool has_room(const struct experts *x)
{
    return experts_loader_room(x->loader) >= (x->training ? 2 : 1);
}

// *full: no slot is left for it.
static bool load(struct experts *x, uint32_t key, bool *full)
{
    struct cache_victim victim;
    *full = !cache_take(x->cache, key, true, &victim);
    if (*full) return true;
    if (victim.dirty && !experts_loader_store(x->loader, (uint32_t)victim.key, victim.slot))
        return false;
    return experts_load(x, key, victim.slot, LOADER_SPECULATIVE);
}

static bool load_all(struct experts *x, const struct guess *guess, uint32_t count)
{
    bool ok = true, full = false;
    pin_all(x, guess, count, true);
    for (uint32_t i = 0; ok && !full && i < count && has_room(x); i++) {
        if (cache_find(x->cache, guess[i].key) != CACHE_NONE) continue;
        ok = load(x, guess[i].key, &full);
        // it may have been given a slot also where its load failed
        const int32_t slot = cache_find(x->cache, guess[i].key);
        if (slot != CACHE_NONE) cache_pin(x->cache, (uint32_t)slot);
    }
    pin_all(x, guess, count, false);
    return ok;
}

// Guesses that have come need no pin any more: who is needed more may have the slot.
static void look_at_arrived(struct experts *x)
{
    for (uint32_t slot = 0; slot < x->slots; slot++)
        if (x->turns->coming[slot] == COMING_GUESSED) experts_came(x, slot);
}

bool experts_guess(struct experts *x, struct experts_point point)
{
    if (!x->prefetch || point.next == EXPERTS_NOBODY) return true;
    struct guess *guess = os_alloc(x->model->config.num_experts * sizeof *guess);
    look_at_arrived(x);
    const uint32_t count =
        (point.known ? take_known : count_picks)(x, point.next, guess);
    const bool ok = load_all(x, guess, count);
    free(guess);
    return ok;
}
