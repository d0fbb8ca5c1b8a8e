// SPDX-License-Identifier: MIT
// Slots and who lies in them: see cache.h. Every slot has a rank that the policy gives; the
// smallest goes first.
#include "runtime/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { AGE_USES = 32 }; // uses a slot between two halvings of the counts of lfru

struct key_state {
    int32_t  slot;
    uint64_t count; // uses
    uint64_t hint;  // next use, 0: unknown
};

struct slot_state {
    int32_t  key;
    uint32_t pins;
    uint64_t stamp; // of the last use or load
    bool     dirty, fresh, privileged; // fresh: a prefetch that nobody has used
};

struct cache_own {
    struct cache       cache;
    struct key_state  *key;
    struct slot_state *slot;
    uint32_t          *turn;      // [turns]
    uint16_t          *distance;  // [turns][groups]: turns until the group's next one, this aside
    uint32_t           groups, now; // now: a turn
    uint64_t           stamp, uses;
    uint32_t           privileged;  // slots that are
    uint32_t           first_free;  // no free slot lies before it
};

// Compared word by word; the smallest goes first.
struct rank { uint64_t word[3]; };

static const char *const names[CACHE_POLICIES] = {"lru", "lfu", "lfru", "least-stale"};

const char *cache_policy_name(enum cache_policy policy)
{
    return policy < CACHE_POLICIES ? names[policy] : "?";
}

bool cache_policy_parse(const char *word, enum cache_policy *out)
{
    for (int i = 0; i < CACHE_POLICIES; i++)
        if (strcmp(word, names[i]) == 0) {
            *out = (enum cache_policy)i;
            return true;
        }
    log_error("cache policy \"%s\": it is one of lru, lfu, lfru, least-stale", word);
    return false;
}

static struct cache_own *own_of(const struct cache *cache)
{
    return (struct cache_own *)cache;
}

// ---- create, destroy

// Walks the sweep backwards twice, remembering each group's nearest turn.
static void distances_fill(struct cache_own *own)
{
    const uint32_t turns = own->cache.params.turns, groups = own->groups;
    uint32_t      *nearest = os_alloc(groups * sizeof *nearest);
    for (uint32_t g = 0; g < groups; g++)
        nearest[g] = 4 * turns; // a group without a turn: never
    for (uint32_t i = 2 * turns; i-- > 0;) {
        if (i < turns)
            for (uint32_t g = 0; g < groups; g++)
                own->distance[i * groups + g] = (uint16_t)(nearest[g] - i);
        nearest[own->turn[i % turns]] = i;
    }
    free(nearest);
}

struct cache *cache_create(const struct cache_params *params)
{
    struct cache_own    *own = os_alloc(sizeof *own);
    struct cache_params *kept = &own->cache.params;
    assert(params->keys && params->slots && params->keys <= INT32_MAX);
    *kept = *params;
    if (!kept->group_keys)
        kept->group_keys = kept->keys;
    own->groups = (kept->keys + kept->group_keys - 1) / kept->group_keys;
    if (!kept->turn)
        kept->turns = own->groups;
    assert(kept->turns && kept->turns < UINT16_MAX / 4);
    own->turn = os_alloc(kept->turns * sizeof *own->turn);
    for (uint32_t i = 0; i < kept->turns; i++) {
        own->turn[i] = params->turn ? params->turn[i] : i;
        assert(own->turn[i] < own->groups);
    }
    kept->turn = own->turn;
    own->distance = os_alloc((size_t)kept->turns * own->groups * sizeof *own->distance);
    distances_fill(own);
    own->key = os_alloc(kept->keys * sizeof *own->key);
    for (uint32_t i = 0; i < kept->keys; i++)
        own->key[i].slot = CACHE_NONE;
    own->slot = os_alloc(kept->slots * sizeof *own->slot);
    for (uint32_t i = 0; i < kept->slots; i++)
        own->slot[i].key = CACHE_NONE;
    return &own->cache;
}

void cache_destroy(struct cache **cache)
{
    if (!*cache)
        return;
    struct cache_own *own = own_of(*cache);
    free(own->key);
    free(own->slot);
    free(own->turn);
    free(own->distance);
    free(own);
    *cache = NULL;
}

// ---- uses

// The privileged slot that was used longest ago.
static uint32_t privileged_oldest(const struct cache_own *own)
{
    uint32_t oldest = 0;
    uint64_t stamp = UINT64_MAX;
    for (uint32_t i = 0; i < own->cache.params.slots; i++)
        if (own->slot[i].privileged && own->slot[i].stamp < stamp) {
            stamp = own->slot[i].stamp;
            oldest = i;
        }
    return oldest;
}

static void privilege(struct cache_own *own, uint32_t slot)
{
    const uint32_t most = (own->cache.params.slots + 1) / 2;
    if (own->slot[slot].privileged)
        return;
    if (own->privileged == most)
        own->slot[privileged_oldest(own)].privileged = false;
    else
        own->privileged++;
    own->slot[slot].privileged = true;
}

static void touch(struct cache_own *own, uint32_t slot)
{
    own->slot[slot].stamp = ++own->stamp;
    if (own->cache.params.policy == CACHE_LFRU && !own->slot[slot].fresh)
        privilege(own, slot);
}

static void age(struct cache_own *own)
{
    const struct cache_params *params = &own->cache.params;
    if (params->policy != CACHE_LFRU || own->uses % ((uint64_t)AGE_USES * params->slots))
        return;
    for (uint32_t i = 0; i < params->keys; i++)
        own->key[i].count /= 2;
}

// To the next turn of the key's group, if it is not its turn now.
static void follow(struct cache_own *own, uint32_t key)
{
    const struct cache_params *params = &own->cache.params;
    const uint32_t             group = key / params->group_keys;
    if (own->turn[own->now] == group)
        return;
    const uint32_t distance = own->distance[own->now * own->groups + group];
    if (distance <= params->turns)
        own->now = (own->now + distance) % params->turns;
}

void cache_turn(struct cache *cache, uint32_t turn)
{
    assert(turn < cache->params.turns);
    own_of(cache)->now = turn;
}

int32_t cache_find(const struct cache *cache, uint32_t key)
{
    assert(key < cache->params.keys);
    return own_of(cache)->key[key].slot;
}

int32_t cache_get(struct cache *cache, uint32_t key)
{
    struct cache_own *own = own_of(cache);
    const int32_t     slot = cache_find(cache, key);
    follow(own, key);
    own->uses++;
    age(own);
    own->key[key].count++;
    own->key[key].hint = 0;
    if (slot < 0) {
        cache->stats.misses++;
        return CACHE_NONE;
    }
    cache->stats.hits++;
    cache->stats.useful += own->slot[slot].fresh;
    own->slot[slot].fresh = false;
    touch(own, (uint32_t)slot);
    return slot;
}

// ---- victims

static struct rank rank_of(const struct cache_own *own, const struct slot_state *slot)
{
    const struct key_state *key = &own->key[slot->key];
    const uint32_t          group = (uint32_t)slot->key / own->cache.params.group_keys;
    // what is hinted goes last, the furthest use first
    struct rank rank = {{key->hint ? UINT64_MAX - key->hint + 1 : 0, 0, slot->stamp}};
    switch (own->cache.params.policy) {
    case CACHE_LRU:
    case CACHE_POLICIES:
        break;
    case CACHE_LFU:
        rank.word[1] = key->count;
        break;
    case CACHE_LFRU: // counts stay far below 2^63
        rank.word[1] = slot->privileged ? UINT64_MAX : key->count;
        break;
    case CACHE_LEAST_STALE:
        rank.word[1] = UINT16_MAX - own->distance[own->now * own->groups + group];
        break;
    }
    return rank;
}

static bool goes_before(const struct rank *a, const struct rank *b)
{
    for (int i = 0; i < 2; i++)
        if (a->word[i] != b->word[i])
            return a->word[i] < b->word[i];
    return a->word[2] < b->word[2];
}

static int32_t victim_find(const struct cache_own *own)
{
    int32_t     victim = CACHE_NONE;
    struct rank least = {{0}};
    for (uint32_t i = 0; i < own->cache.params.slots; i++) {
        if (own->slot[i].pins)
            continue;
        const struct rank rank = rank_of(own, &own->slot[i]);
        if (victim >= 0 && !goes_before(&rank, &least))
            continue;
        least = rank;
        victim = (int32_t)i;
    }
    return victim;
}

static uint32_t free_slot(struct cache_own *own)
{
    while (own->slot[own->first_free].key >= 0)
        own->first_free++;
    return own->first_free;
}

// The slot holds nothing any more.
static void vacate(struct cache_own *own, uint32_t slot)
{
    own->key[own->slot[slot].key].slot = CACHE_NONE;
    own->privileged -= own->slot[slot].privileged;
    own->slot[slot] = (struct slot_state){.key = CACHE_NONE};
    own->cache.used--;
    if (slot < own->first_free)
        own->first_free = slot;
}

bool cache_take(struct cache *cache, uint32_t key, bool prefetch, struct cache_victim *out)
{
    struct cache_own *own = own_of(cache);
    assert(cache_find(cache, key) < 0);
    const bool    full = cache->used == cache->params.slots;
    const int32_t at = full ? victim_find(own) : (int32_t)free_slot(own);
    if (at < 0)
        return false;
    const struct slot_state *old = &own->slot[at];
    *out = (struct cache_victim){(uint32_t)at, old->key, old->dirty};
    if (full) {
        cache->stats.evictions++;
        cache->stats.dirty += old->dirty;
        vacate(own, (uint32_t)at);
    }
    cache->stats.prefetches += prefetch;
    cache->used++;
    own->slot[at].key = (int32_t)key;
    own->slot[at].fresh = prefetch;
    own->key[key].slot = at;
    touch(own, (uint32_t)at);
    return true;
}

void cache_drop(struct cache *cache, uint32_t slot)
{
    assert(slot < cache->params.slots && cache_key(cache, slot) >= 0);
    assert(!cache_pinned(cache, slot) && !cache_is_dirty(cache, slot));
    vacate(own_of(cache), slot);
}

// ---- what the caller says of a slot

void cache_pin(struct cache *cache, uint32_t slot)
{
    assert(slot < cache->params.slots && cache_key(cache, slot) >= 0);
    own_of(cache)->slot[slot].pins++;
}

void cache_unpin(struct cache *cache, uint32_t slot)
{
    assert(slot < cache->params.slots && own_of(cache)->slot[slot].pins);
    own_of(cache)->slot[slot].pins--;
}

bool cache_pinned(const struct cache *cache, uint32_t slot)
{
    return own_of(cache)->slot[slot].pins != 0;
}

void cache_set_dirty(struct cache *cache, uint32_t slot, bool dirty)
{
    assert(slot < cache->params.slots && cache_key(cache, slot) >= 0);
    own_of(cache)->slot[slot].dirty = dirty;
}

bool cache_is_dirty(const struct cache *cache, uint32_t slot)
{
    return own_of(cache)->slot[slot].dirty;
}

int32_t cache_key(const struct cache *cache, uint32_t slot)
{
    assert(slot < cache->params.slots);
    return own_of(cache)->slot[slot].key;
}

void cache_hint(struct cache *cache, uint32_t key, uint64_t when)
{
    assert(key < cache->params.keys);
    own_of(cache)->key[key].hint = when;
}
