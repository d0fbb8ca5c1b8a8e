// SPDX-License-Identifier: MIT
// Each policy does what a slow and obvious model does, on random uses, loads, pins, hints and
// drops; Belady's example of a sweep; what is pinned stays.
#include "unit.h"

#include "runtime/cache.h"

enum { KEYS_MOST = 64, SLOTS_MOST = 24 };

// The model: who is where, and the whole history. Everything is found by walking.
struct model {
    struct cache_params params;
    int32_t  slot_key[SLOTS_MOST];
    int      pins[SLOTS_MOST];
    bool     dirty[SLOTS_MOST], fresh[SLOTS_MOST];
    uint32_t event_key[1 << 16]; // uses that hit, and loads
    uint32_t events;
    uint32_t use_key[1 << 16];   // uses, hit or miss
    uint32_t uses;
    int32_t  privileged[SLOTS_MOST + 1]; // keys, the one used last first
    uint32_t privileged_count;
    uint64_t hint[KEYS_MOST];
    uint32_t now;                // a turn
    struct cache_stats stats;
};

static int32_t model_find(const struct model *m, uint32_t key)
{
    for (uint32_t s = 0; s < m->params.slots; s++)
        if (m->slot_key[s] == (int32_t)key) return (int32_t)s;
    return CACHE_NONE;
}

static int64_t last_event(const struct model *m, uint32_t key)
{
    for (uint32_t i = m->events; i-- > 0;)
        if (m->event_key[i] == key) return i;
    return -1;
}

// Uses of a key; aged: halved after each 32 * slots uses of any.
static uint64_t use_count(const struct model *m, uint32_t key, bool aged)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < m->uses; i++) {
        if (aged && (i + 1) % (32 * m->params.slots) == 0) count /= 2;
        count += m->use_key[i] == key;
    }
    return count;
}

static bool is_privileged(const struct model *m, uint32_t key)
{
    for (uint32_t i = 0; i < m->privileged_count; i++)
        if (m->privileged[i] == (int32_t)key) return true;
    return false;
}

static void unprivilege(struct model *m, uint32_t key)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->privileged_count; i++)
        if (m->privileged[i] != (int32_t)key) m->privileged[kept++] = m->privileged[i];
    m->privileged_count = kept;
}

static void model_touch(struct model *m, uint32_t key, bool used)
{
    m->event_key[m->events++] = key;
    if (!used) return;
    unprivilege(m, key);
    memmove(m->privileged + 1, m->privileged, m->privileged_count * sizeof *m->privileged);
    m->privileged[0] = (int32_t)key;
    m->privileged_count++;
    if (m->privileged_count > (m->params.slots + 1) / 2) m->privileged_count--;
}

static uint32_t group_of(const struct model *m, uint32_t key)
{
    return m->params.group_keys ? key / m->params.group_keys : 0;
}

// Steps of the sweep until the group's next turn, the present one aside.
static uint32_t turns_until(const struct model *m, uint32_t group)
{
    for (uint32_t steps = 1; steps <= m->params.turns; steps++)
        if (m->params.turn[(m->now + steps) % m->params.turns] == group) return steps;
    return UINT32_MAX;
}

static int32_t model_get(struct model *m, uint32_t key)
{
    const uint32_t group = group_of(m, key);
    if (m->params.turn[m->now] != group && turns_until(m, group) != UINT32_MAX)
        m->now = (m->now + turns_until(m, group)) % m->params.turns;
    m->use_key[m->uses++] = key;
    m->hint[key] = 0;
    const int32_t slot = model_find(m, key);
    if (slot < 0) {
        m->stats.misses++;
        return slot;
    }
    m->stats.hits++;
    m->stats.useful += m->fresh[slot];
    m->fresh[slot] = false;
    model_touch(m, key, true);
    return slot;
}

// Whether a should go before b.
static bool goes_first(const struct model *m, uint32_t a, uint32_t b)
{
    if ((m->hint[a] == 0) != (m->hint[b] == 0)) return m->hint[a] == 0;
    if (m->hint[a] != m->hint[b]) return m->hint[a] > m->hint[b];
    const bool older = last_event(m, a) < last_event(m, b);
    const bool aged = m->params.policy == CACHE_LFRU;
    const uint64_t count_a = use_count(m, a, aged), count_b = use_count(m, b, aged);
    switch (m->params.policy) {
    case CACHE_LRU:
    case CACHE_POLICIES:
        return older;
    case CACHE_LFU:
        return count_a != count_b ? count_a < count_b : older;
    case CACHE_LFRU:
        if (is_privileged(m, a) != is_privileged(m, b)) return !is_privileged(m, a);
        if (is_privileged(m, a)) return older;
        return count_a != count_b ? count_a < count_b : older;
    case CACHE_LEAST_STALE: {
        const uint32_t turns_a = turns_until(m, group_of(m, a));
        const uint32_t turns_b = turns_until(m, group_of(m, b));
        return turns_a != turns_b ? turns_a > turns_b : older;
    }
    }
    return false;
}

static bool model_take(struct model *m, uint32_t key, bool prefetch, struct cache_victim *out)
{
    int32_t at = CACHE_NONE;
    for (uint32_t s = 0; s < m->params.slots && at < 0; s++)
        if (m->slot_key[s] < 0) at = (int32_t)s;
    const bool full = at < 0;
    for (uint32_t s = 0; s < m->params.slots && full; s++)
        if (!m->pins[s] && (at < 0 || goes_first(m, (uint32_t)m->slot_key[s],
                                                 (uint32_t)m->slot_key[at])))
            at = (int32_t)s;
    if (at < 0) return false;
    *out = (struct cache_victim){(uint32_t)at, m->slot_key[at], m->dirty[at]};
    m->stats.evictions += full;
    m->stats.dirty += full && m->dirty[at];
    m->stats.prefetches += prefetch;
    if (full) unprivilege(m, (uint32_t)m->slot_key[at]);
    m->slot_key[at] = (int32_t)key;
    m->dirty[at] = false;
    m->fresh[at] = prefetch;
    model_touch(m, key, !prefetch);
    return true;
}

// ---- both, side by side

struct pair { struct cache *cache; struct model *model; };

static void take_both(struct pair *p, uint32_t key, bool prefetch)
{
    struct cache_victim a = {0}, b = {0};
    const bool taken = cache_take(p->cache, key, prefetch, &a);
    assert_int_equal(taken, model_take(p->model, key, prefetch, &b));
    if (!taken) return;
    assert_int_equal(a.slot, b.slot);
    assert_int_equal(a.key, b.key);
    assert_int_equal(a.dirty, b.dirty);
    if (a.key >= 0) assert_int_equal(cache_find(p->cache, (uint32_t)a.key), CACHE_NONE);
}

static void slot_event(struct pair *p, uint32_t slot, uint64_t kind)
{
    struct model *m = p->model;
    if (cache_key(p->cache, slot) < 0) return;
    switch (kind) {
    case 0:
        cache_pin(p->cache, slot);
        m->pins[slot]++;
        break;
    case 1:
        if (m->pins[slot]) {
            cache_unpin(p->cache, slot);
            m->pins[slot]--;
        }
        break;
    case 2:
        m->dirty[slot] = !m->dirty[slot];
        cache_set_dirty(p->cache, slot, m->dirty[slot]);
        break;
    case 3:
        if (m->pins[slot] || m->dirty[slot]) break;
        cache_drop(p->cache, slot);
        unprivilege(m, (uint32_t)m->slot_key[slot]);
        m->slot_key[slot] = CACHE_NONE;
        m->fresh[slot] = false;
        break;
    }
}

static void compare_all(const struct pair *p)
{
    uint32_t used = 0;
    for (uint32_t s = 0; s < p->model->params.slots; s++) {
        assert_int_equal(cache_key(p->cache, s), p->model->slot_key[s]);
        assert_int_equal(cache_is_dirty(p->cache, s), p->model->dirty[s]);
        assert_int_equal(cache_pinned(p->cache, s), p->model->pins[s] != 0);
        used += p->model->slot_key[s] >= 0;
    }
    assert_int_equal(p->cache->used, used);
    assert_memory_equal(&p->cache->stats, &p->model->stats, sizeof p->model->stats);
}

static void random_run(const struct cache_params *params, uint64_t seed)
{
    struct pair p = {cache_create(params), calloc(1, sizeof(struct model))};
    p.model->params = p.cache->params; // with the sweep as it was resolved
    for (uint32_t s = 0; s < SLOTS_MOST; s++) p.model->slot_key[s] = CACHE_NONE;
    for (uint64_t turn = 0; turn < 1500; turn++) {
        const uint64_t kind = rng_below(seed, 0, turn, 16);
        // the lower keys more often than the others
        const uint64_t wide = rng_below(seed, 1, turn, params->keys);
        const uint32_t key = (uint32_t)rng_below(seed, 2, turn, wide + 1);
        if (kind < 11) {
            const int32_t slot = cache_get(p.cache, key);
            assert_int_equal(slot, model_get(p.model, key));
            if (slot < 0) take_both(&p, key, false);
        } else if (kind == 11) {
            if (cache_find(p.cache, key) < 0) take_both(&p, key, true);
        } else if (kind == 12) {
            const uint64_t when = rng_below(seed, 3, turn, 50);
            cache_hint(p.cache, key, when);
            p.model->hint[key] = when;
        } else if (kind == 13 && turn % 5 == 0) {
            p.model->now = (uint32_t)rng_below(seed, 4, turn, p.model->params.turns);
            cache_turn(p.cache, p.model->now);
        } else {
            slot_event(&p, (uint32_t)rng_below(seed, 5, turn, params->slots),
                       rng_below(seed, 6, turn, 4));
        }
        compare_all(&p);
    }
    assert_true(p.model->stats.evictions > 100 && p.model->stats.hits > 50);
    cache_destroy(&p.cache);
    assert_null(p.cache);
    free(p.model);
}

static void policies_do_what_the_models_do(void **state)
{
    (void)state;
    static const uint32_t there_and_back[] = {0, 1, 2, 3, 3, 2, 1, 0};
    static const uint32_t not_all[] = {2, 0};
    static const struct cache_params shapes[] = {
        {.keys = 40, .slots = 7},
        {.keys = 40, .slots = 24, .group_keys = 10},
        {.keys = 64, .slots = 16, .group_keys = 16, .turn = there_and_back, .turns = 8},
        {.keys = 31, .slots = 5, .group_keys = 10, .turn = not_all, .turns = 2},
        {.keys = 33, .slots = 2, .group_keys = 1},
        {.keys = 9, .slots = 1},
    };
    for (int policy = 0; policy < CACHE_POLICIES; policy++)
        for (size_t i = 0; i < COUNT_OF(shapes); i++)
            for (uint64_t seed = 1; seed <= 2; seed++) {
                struct cache_params params = shapes[i];
                params.policy = (enum cache_policy)policy;
                if (params.slots < 3) params.keys = 4 + 2 * params.slots; // some hits
                random_run(&params, seed);
            }
}

// A sweep over more keys than there are slots: lru hits nothing, least-stale what fits but one.
static void a_sweep_is_kept_by_least_stale(void **state)
{
    (void)state;
    enum { GROUPS = 10, SLOTS = 5, SWEEPS = 20 };
    for (int policy = 0; policy < CACHE_POLICIES; policy++) {
        struct cache *cache = cache_create(&(struct cache_params){
            .keys = GROUPS, .slots = SLOTS, .group_keys = 1, .policy = (enum cache_policy)policy});
        struct cache_victim victim;
        for (uint32_t i = 0; i < SWEEPS * GROUPS; i++)
            if (cache_get(cache, i % GROUPS) < 0)
                assert_true(cache_take(cache, i % GROUPS, false, &victim));
        if (policy == CACHE_LRU) assert_int_equal(cache->stats.hits, 0);
        // Belady's optimum of this sweep: (slots - 1) / (keys - 1) of the uses
        if (policy == CACHE_LEAST_STALE)
            assert_true(cache->stats.hits >= (SWEEPS - 2) * GROUPS * (SLOTS - 1) / (GROUPS - 1));
        cache_destroy(&cache);
    }
}

static void what_is_pinned_stays(void **state)
{
    (void)state;
    for (int policy = 0; policy < CACHE_POLICIES; policy++) {
        struct cache *cache = cache_create(&(struct cache_params){
            .keys = 10, .slots = 3, .policy = (enum cache_policy)policy});
        struct cache_victim victim;
        for (uint32_t key = 0; key < 3; key++) {
            assert_int_equal(cache_get(cache, key), CACHE_NONE);
            assert_true(cache_take(cache, key, false, &victim));
            assert_int_equal(victim.slot, key);
            assert_int_equal(victim.key, CACHE_NONE);
            cache_pin(cache, key);
        }
        assert_false(cache_take(cache, 5, false, &victim));
        cache_pin(cache, 1);
        cache_unpin(cache, 1);
        assert_false(cache_take(cache, 5, false, &victim));
        cache_unpin(cache, 1);
        cache_set_dirty(cache, 1, true);
        assert_true(cache_take(cache, 5, true, &victim));
        assert_int_equal(victim.slot, 1);
        assert_int_equal(victim.key, 1);
        assert_true(victim.dirty);
        assert_false(cache_is_dirty(cache, 1));
        assert_int_equal(cache->stats.prefetches, 1);
        assert_int_equal(cache->stats.useful, 0);
        assert_int_equal(cache_get(cache, 5), 1);
        assert_int_equal(cache_get(cache, 5), 1);
        assert_int_equal(cache->stats.useful, 1);
        cache_destroy(&cache);
    }
}

static void policies_have_names(void **state)
{
    (void)state;
    enum cache_policy policy = CACHE_LRU;
    for (int i = 0; i < CACHE_POLICIES; i++) {
        assert_true(cache_policy_parse(cache_policy_name((enum cache_policy)i), &policy));
        assert_int_equal(policy, i);
    }
    unit_assert_silent();
    assert_false(cache_policy_parse("fifo", &policy));
    unit_assert_line("fifo", "least-stale");
    struct cache *none = NULL;
    cache_destroy(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(policies_do_what_the_models_do),
        UNIT(a_sweep_is_kept_by_least_stale),
        UNIT(what_is_pinned_stays),
        UNIT(policies_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
