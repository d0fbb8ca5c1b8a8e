// SPDX-License-Identifier: MIT
// Which records lie in which of N slots: a pure data structure. Keys 0 .. keys-1; a key is in one
// slot or in none. The caller loads and stores the contents; here is who has to go.
//
// Policies (who goes first; what is pinned never does, what is hinted goes last):
//   lru          used longest ago (Belady, "A study of replacement algorithms for a virtual-storage
//                computer", IBM Systems Journal 1966; Mattson et al., "Evaluation techniques for
//                storage hierarchies", 1970)
//   lfu          used least often since the beginning, in or out of a slot ("perfect" LFU of
//                Breslau et al., "Web caching and Zipf-like distributions", INFOCOM 1999); ties:
//                used longest ago
//   lfru         half of the slots are privileged: what is used goes there, who was used longest
//                ago there has to leave it; of the others goes first who was used least often,
//                counts being halved every 32 uses a slot (Bilal and Kang, "A cache management
//                scheme for efficient content eviction and replication in cache networks", IEEE
//                Access 2017)
//   least-stale  uses sweep over groups of keys in a known order, so a group that has just had its
//                turn is the stalest: goes first whose group's next turn is furthest away; ties:
//                used longest ago (after Hoang et al., "SpecMD", arXiv:2602.03921, 2026)
// A victim is found by looking at every slot once.
//
// One thread at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { CACHE_NONE = -1 };

enum cache_policy { CACHE_LRU, CACHE_LFU, CACHE_LFRU, CACHE_LEAST_STALE, CACHE_POLICIES };

struct cache_params {
    uint32_t          keys, slots; // > 0
    enum cache_policy policy;
    uint32_t          group_keys;  // keys g * group_keys .. are group g; 0: all are one group
    const uint32_t   *turn;        // the groups in order of a sweep (copied); NULL: 0, 1, 2, ...
    uint32_t          turns;
};

struct cache_stats {
    uint64_t hits, misses;         // of cache_get
    uint64_t evictions, dirty;     // dirty: of these, that had to be written
    uint64_t prefetches, useful;   // useful: of these, used before they went
};

struct cache {
    struct cache_params params; // read-only
    struct cache_stats  stats;
    uint32_t            used;   // slots that hold a key
};

const char *cache_policy_name(enum cache_policy policy); // "least-stale"
// False after one line that lists the words.
bool cache_policy_parse(const char *word, enum cache_policy *out);

struct cache *cache_create(const struct cache_params *params);
void          cache_destroy(struct cache **cache);

// A use: counts a hit or a miss, moves the key to the front. Its slot, or CACHE_NONE: then
// cache_take gives it one.
int32_t cache_get(struct cache *cache, uint32_t key);
int32_t cache_find(const struct cache *cache, uint32_t key); // no use

struct cache_victim {
    uint32_t slot;
    int32_t  key;   // who lay there; CACHE_NONE: nobody
    bool     dirty; // its contents have to be written first
};
// A slot for a key that has none: a free one, or a victim's, whose key it is no more. `prefetch`:
// nobody has asked for it yet. False: all slots are pinned.
bool cache_take(struct cache *cache, uint32_t key, bool prefetch, struct cache_victim *out);
void cache_drop(struct cache *cache, uint32_t slot); // forgets its key; neither pinned nor dirty

void cache_pin(struct cache *cache, uint32_t slot); // counted
void cache_unpin(struct cache *cache, uint32_t slot);
bool cache_pinned(const struct cache *cache, uint32_t slot);
void cache_set_dirty(struct cache *cache, uint32_t slot, bool dirty);
bool cache_is_dirty(const struct cache *cache, uint32_t slot);
int32_t cache_key(const struct cache *cache, uint32_t slot); // CACHE_NONE: free

// The key's next use is known: smaller is sooner, 0: unknown again. Its next cache_get forgets it.
void cache_hint(struct cache *cache, uint32_t key, uint64_t when);
// Which turn of the sweep it is now. Without this call, cache_get of a key of another group moves
// to that group's next turn.
void cache_turn(struct cache *cache, uint32_t turn);
