// SPDX-License-Identifier: MIT
// The search for the number of experts' slots (experts_fit.h) over made-up costs: it ends where
// what all else takes jumps with the slots, within the budget, and with as many as there may be
// where it grows evenly.
#include "src/experts_fit.h"

#include "src/base.h"
#include "tests/unit.h"

enum { SLOT = 100, KEYS = 64, MOST_ROUNDS = KEYS + 4 };

struct world {
    uint64_t budget, base, each;   // all else: base + each * slots,
    uint32_t jump_at; uint64_t jump; // more by `jump` from so many slots on
    uint64_t state;                // of base: what state_out takes away
    uint32_t slots, rounds;        // what is made (0: nothing), how often
    bool     state_out;
};

static uint64_t cost(const struct world *w, uint32_t slots)
{
    const uint64_t jump = w->jump_at && slots >= w->jump_at ? w->jump : 0;
    return w->base - (w->state_out ? w->state : 0) + (w->each + SLOT) * slots + jump;
}

static bool make(void *user, uint32_t slots, bool state_out)
{
    struct world *w = user;
    assert_int_equal(w->slots, 0); // what was made before is dropped
    assert_true(slots > 0);
    w->slots = min_u32(slots, KEYS);
    w->state_out = state_out;
    assert_true(++w->rounds <= MOST_ROUNDS);
    return true;
}

static void drop(void *user)
{
    struct world *w = user;
    assert_true(w->slots > 0);
    w->slots = 0;
}

static uint64_t held(void *user)
{
    const struct world *w = user;
    return cost(w, w->slots);
}

// As experts_fit has it: as if all else stayed as it is.
static bool fits(void *user, uint32_t *slots)
{
    const struct world *w = user;
    if (!w->budget) return true;
    const uint64_t own = cost(w, w->slots), others = own - (uint64_t)SLOT * w->slots;
    const uint64_t most = w->budget > others ? (w->budget - others) / SLOT : 0;
    *slots = (uint32_t)min_u64(most, KEYS);
    return own <= w->budget && *slots > 0 && *slots <= w->slots + *slots / 16;
}

static bool search(struct world *w, uint32_t slots)
{
    const struct experts_fit_plans plans = {w->budget, make, drop, fits, held, w};
    w->slots = w->rounds = 0;
    return experts_fit_plans(&plans, slots);
}

// Whether asking again and again how many seem to fit comes back to a number it had.
static bool asking_goes_round(const struct world *world)
{
    struct world w = *world;
    w.slots = 1;
    for (uint32_t i = 0, next = 0; i < 2 * KEYS; i++, w.slots = next)
        if (fits(&w, &next) || next == 0) return false;
    return true;
}

static void test_jump(void **state)
{
    (void)state;
    uint32_t round = 0, found = 0;
    for (uint32_t at = 2; at <= KEYS; at++)
        for (uint64_t jump = SLOT; jump < 20 * SLOT; jump += 70)
            for (uint64_t budget = 1000; budget < 6000; budget += 130) {
                struct world w = {.budget = budget, .base = 900, .jump_at = at, .jump = jump};
                const bool goes_round = asking_goes_round(&w);
                round += goes_round;
                const bool ok = search(&w, 0);
                found += ok;
                assert_int_equal(ok, w.slots > 0);
                if (ok) assert_true(cost(&w, w.slots) <= budget);
                // one slot always fits here
                assert_true(ok || cost(&w, 1) > budget || !goes_round);
            }
    assert_true(round > 100); // else this tests nothing
    assert_true(found > 1000);
}

static void test_even(void **state)
{
    (void)state;
    for (uint64_t each = 0; each < 300; each += 20)
        for (uint64_t budget = 2000; budget < 9000; budget += 90) {
            struct world w = {.budget = budget, .base = 900, .each = each};
            assert_true(search(&w, 0));
            const uint64_t most = min_u64((budget - w.base) / (each + SLOT), KEYS);
            assert_true(w.slots <= most && w.slots >= most - most / 8);
            assert_true(w.rounds <= 4);
        }
}

static void test_state_out(void **state)
{
    (void)state;
    struct world w = {.budget = 1000, .base = 1200, .state = 600};
    assert_true(search(&w, 0));
    assert_true(w.state_out && cost(&w, w.slots) <= w.budget);
    w = (struct world){.budget = 1000, .base = 800, .state = 600};
    assert_true(search(&w, 0));
    assert_false(w.state_out); // there was room
    w = (struct world){.budget = 1000, .base = 1200, .state = 200};
    assert_false(search(&w, 0));
    assert_int_equal(w.slots, 0);
}

static void test_given(void **state)
{
    (void)state;
    struct world w = {.base = 1 << 20};
    assert_true(search(&w, 7));
    assert_true(w.slots == 7 && w.rounds == 1);
}

static bool make_none(void *user, uint32_t slots, bool state_out)
{
    const struct world *w = user;
    return w->rounds < w->jump_at && make(user, slots, state_out);
}

static void test_failed_make(void **state)
{
    (void)state;
    for (uint32_t times = 0; times < 2; times++) {
        struct world w = {.budget = 5000, .base = 900, .each = 300, .jump_at = times};
        const struct experts_fit_plans plans = {w.budget, make_none, drop, fits, held, &w};
        assert_false(experts_fit_plans(&plans, 0));
        assert_int_equal(w.slots, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jump),      cmocka_unit_test(test_even),
        cmocka_unit_test(test_state_out), cmocka_unit_test(test_given),
        cmocka_unit_test(test_failed_make),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
