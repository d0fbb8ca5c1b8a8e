// SPDX-License-Identifier: MIT
// Where each expert is, for residency.trace: slots, what is on the way, the store.
#include "src/experts_loader_own.h"
#include "src/experts_turns.h"
#include "src/trace.h"

// Its gradients wait, or its record is on the way back.
static bool in_host_memory(const struct experts *x, uint32_t key)
{
    return (x->turns->held_where && x->turns->held_where[key] == HELD_HOST) ||
           (x->loader && experts_loader_holds(x->loader, key));
}

// A source that has no user makes what it is asked for.
static bool on_disk(const struct experts *x, uint32_t key)
{
    struct store_place place;
    return x->source.store ? store_find(x->source.store, key, &place) : x->source.user != NULL;
}

static enum trace_place place_of(const struct experts *x, uint32_t key)
{
    const int32_t slot = cache_find(x->cache, key);
    if (slot == CACHE_NONE)
        return in_host_memory(x, key) ? TRACE_HOST : on_disk(x, key) ? TRACE_DISK : TRACE_NEVER;
    if (x->turns->coming[slot] != COMING_NOT) return TRACE_LOADING;
    return cache_is_dirty(x->cache, (uint32_t)slot) ? TRACE_DIRTY : TRACE_DEVICE;
}

void experts_residency(const struct experts *x, uint32_t moe_layer, uint8_t *place)
{
    const uint32_t experts = x->model->config.num_experts;
    for (uint32_t e = 0; e < experts; e++)
        place[e] = (uint8_t)place_of(x, moe_layer * experts + e);
}
