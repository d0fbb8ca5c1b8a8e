// SPDX-License-Identifier: MIT
// The four orders: bounds and monotonicity of each term of the reward, what is drawn, visits,
// epochs and early ends, and that a state that went through JSON at any step goes on as if it had
// not.
#include "tests/unit.h"

#include "src/curriculum.h"

// ---- the reward

static const double losses[] = {0, 1e-9, 0.1, 0.35, 1, 2.5, 5.6, 11, 400};

static bool is_in_bounds(double value) { return value >= 0 && value <= 1; }

static void novelty_falls(void **state)
{
    (void)state;
    unit_assert_near(dopamine_novelty(0), 1, 0);
    assert_true(dopamine_novelty(3) < 0.5);
    for (uint32_t visits = 0; visits < 1000; visits++) {
        assert_true(is_in_bounds(dopamine_novelty(visits)));
        assert_true(dopamine_novelty(visits + 1) < dopamine_novelty(visits));
    }
    assert_true(is_in_bounds(dopamine_novelty(UINT32_MAX)));
}

static void weakness_grows_with_the_loss(void **state)
{
    (void)state;
    const double scale = log(256);
    for (size_t i = 0; i < COUNT_OF(losses); i++) {
        assert_true(is_in_bounds(dopamine_weakness(losses[i], scale)));
        if (i) assert_true(dopamine_weakness(losses[i], scale) >
                           dopamine_weakness(losses[i - 1], scale));
        if (i) assert_true(dopamine_weakness(losses[i], 2 * scale) <
                           dopamine_weakness(losses[i], scale));
    }
    unit_assert_near(dopamine_weakness(scale, scale), 0.5, 1e-15);
    unit_assert_near(dopamine_weakness(NAN, scale), 0.5, 1e-15); // never visited: guessing
    unit_assert_near(dopamine_weakness(INFINITY, scale), 1, 0);
    unit_assert_near(dopamine_weakness(-1, scale), 0, 0);
}

static void improvement_grows_with_the_fall(void **state)
{
    (void)state;
    for (size_t b = 0; b < COUNT_OF(losses); b++)
        for (size_t l = 0; l < COUNT_OF(losses); l++) {
            const double now = dopamine_improvement(losses[b], losses[l]);
            assert_true(is_in_bounds(now));
            if (l >= b) unit_assert_near(now, 0, 0);
            if (l && l <= b) assert_true(now < dopamine_improvement(losses[b], losses[l - 1]));
            if (l && b > l + 1) assert_true(now > dopamine_improvement(losses[b - 1], losses[l]));
        }
    unit_assert_near(dopamine_improvement(NAN, 1), 0, 0);
    unit_assert_near(dopamine_improvement(1, NAN), 0, 0);
    unit_assert_near(dopamine_improvement(2, 0), 1, 0);
    unit_assert_near(dopamine_improvement(INFINITY, 1), 1, 0);
}

static void reward_is_the_weighted_sum(void **state)
{
    (void)state;
    const struct dopamine_weights w = {.novelty = 2, .weakness = 3, .improvement = 5, .bonus = 7,
                                       .scale = 4};
    const struct dopamine_history h = {.visits = 1, .last = 4, .before = 8};
    const struct dopamine_terms t = dopamine_terms(&w, &h, 0.25);
    unit_assert_near(t.reward, 2 * 0.5 + 3 * 0.5 + 5 * 0.5 + 7 * 0.25, 1e-12);
    unit_assert_near(dopamine_terms(&w, &h, 9).bonus, 1, 0); // cut
    unit_assert_near(dopamine_terms(&w, &h, -9).bonus, 0, 0);
}

static void draws_follow_the_reward(void **state)
{
    (void)state;
    const double reward[] = {1, 0, 3, NAN}, none[] = {0, 0};
    uint32_t drawn[4] = {0}, alike[2] = {0}, sharp[4] = {0};
    for (uint32_t i = 0; i < 4000; i++) {
        const double u = rng_uniform(1, 2, i);
        drawn[dopamine_draw(reward, 4, 1, u)]++;
        sharp[dopamine_draw(reward, 4, 50, u)]++;
        alike[dopamine_draw(none, 2, 1, u)]++;
    }
    assert_true(drawn[0] > 900 && drawn[0] < 1100); // 1000 of 4000, s.d. 27
    assert_int_equal(drawn[1] + drawn[3], 0);
    assert_int_equal(sharp[2], 4000);
    assert_true(alike[0] > 1850 && alike[0] < 2150);
    assert_int_equal(dopamine_draw(reward, 4, 1, 1 - 1e-17), 2);
}

// ---- the orders

static const struct curriculum_domain four[] = {
    {.name = "a", .epoch_steps = 2}, {.name = "b", .epoch_steps = 1, .bonus = 1},
    {.name = "c", .epoch_steps = 3, .held_out = true}, {.name = "d", .epoch_steps = 3}};

static struct curriculum *make(enum config_curriculum order, double stop)
{
    struct curriculum *c = curriculum_create(&(struct curriculum_params){
        .order = order, .epochs = 3, .stop_loss = stop, .seed = 5, .domain = four, .domains = 4,
        .weights = {.novelty = 1, .weakness = 1, .improvement = 1, .bonus = 1, .scale = 5,
                    .power = 1}});
    assert_non_null(c);
    return c;
}

// A loss that falls with the steps of the domain and differs from domain to domain.
static double loss_of(const struct curriculum_step *step)
{
    return (4.0 + step->domain) / (1.0 + 0.1 * (double)step->index);
}

static struct curriculum_step take(struct curriculum *c)
{
    const struct curriculum_step step = curriculum_next(c);
    assert_int_equal(curriculum_waits(c), step.ends);
    curriculum_observe(c, &step, loss_of(&step), 100 + step.domain);
    assert_false(curriculum_waits(c));
    return step;
}

static void fixed_is_in_turn(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_FIXED_ORDER, 0);
    assert_int_equal(curriculum_round_steps(c), 18);
    static const uint32_t order[] = {0, 1, 3, 0}, visit_steps[] = {6, 3, 9, 6};
    for (uint32_t v = 0; v < 4; v++)
        for (uint32_t s = 0; s < visit_steps[v]; s++) {
            const struct curriculum_step step = take(c);
            assert_int_equal(step.domain, order[v]);
            assert_int_equal(step.visit, v + 1);
            assert_int_equal(step.begins, s == 0);
            assert_int_equal(step.index, v == 3 ? 6 + s : s);
            assert_int_equal(step.epoch, s / four[order[v]].epoch_steps + 1);
            assert_int_equal(step.ends, (s + 1) % four[order[v]].epoch_steps == 0);
        }
    curriculum_destroy(&c);
}

static void random_rounds_are_permutations(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_RANDOM_ORDER, 0);
    const struct curriculum_visit *visit;
    uint32_t differ = 0;
    for (uint32_t s = 0; s < 20 * 18; s++) take(c);
    assert_int_equal(curriculum_visits(c, &visit), 60);
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t seen = 0;
        for (uint32_t i = 0; i < 3; i++) seen |= 1u << visit[3 * round + i].domain;
        assert_int_equal(seen, 1 | 2 | 8);
        differ += visit[3 * round].domain != visit[0].domain;
    }
    assert_true(differ > 0);
    curriculum_destroy(&c);
}

static void interleaved_goes_round(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_INTERLEAVED, 0);
    // b is over after its third step, a after its sixth, then d alone; then all again
    static const uint32_t order[] = {0, 1, 3, 0, 1, 3, 0, 1, 3, 0, 3, 0, 3, 0, 3, 3, 3, 3, 0, 1, 3};
    for (uint32_t s = 0; s < COUNT_OF(order); s++)
        assert_int_equal(take(c).domain, order[s]);
    curriculum_destroy(&c);
}

static void a_low_loss_ends_a_visit(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_FIXED_ORDER, 3.5); // a's second epoch: 3.33 and 3.08
    const struct curriculum_visit *visit;
    for (uint32_t s = 0; s < 4; s++) assert_int_equal(take(c).domain, 0);
    assert_int_equal(take(c).domain, 1);
    curriculum_visits(c, &visit);
    assert_int_equal(visit[0].epochs, 2);
    unit_assert_near(visit[0].first, (4 + 4 / 1.1) / 2, 1e-12);
    unit_assert_near(visit[0].last, (4 / 1.2 + 4 / 1.3) / 2, 1e-12);
    curriculum_destroy(&c);
}

static void skipped_steps_count_for_nothing(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_FIXED_ORDER, 0);
    const struct curriculum_visit *visit;
    struct curriculum_step step = curriculum_next(c);
    curriculum_observe(c, &step, NAN, 7);
    step = curriculum_next(c);
    curriculum_observe(c, &step, 2, 7);
    curriculum_visits(c, &visit);
    unit_assert_near(visit[0].last, 2, 0);
    for (uint32_t e = 0; e < 4; e++) { // an epoch of which nothing is known ends no visit early
        step = curriculum_next(c);
        curriculum_observe(c, &step, INFINITY, 7);
    }
    assert_true(isnan(visit[0].last));
    assert_int_equal(visit[0].epochs, 3);
    curriculum_destroy(&c);
}

static void dopamine_visits_what_is_worth_it(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_DOPAMINE, 0);
    uint32_t visits[4] = {0};
    unit_assert_near(curriculum_terms(c, 1).reward, 1 + 0.5 + 0 + 1, 1e-12);
    for (uint32_t s = 0; s < 6000; s++) {
        const struct curriculum_step step = take(c);
        visits[step.domain] += step.begins;
        if (step.begins) assert_true(step.terms.reward > 0 && step.terms.reward <= 4);
    }
    assert_int_equal(visits[2], 0); // held out
    assert_true(visits[0] > 50 && visits[3] > 50);
    assert_true(visits[1] > visits[0] && visits[1] > visits[3]); // the bonus
    curriculum_destroy(&c);
}

// ---- the state

static void is_the_same(const struct curriculum_step *a, const struct curriculum_step *b)
{
    assert_int_equal(a->domain, b->domain);
    assert_int_equal(a->visit, b->visit);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->begins, b->begins);
    assert_int_equal(a->ends, b->ends);
    assert_true(a->terms.reward == b->terms.reward && a->terms.novelty == b->terms.novelty &&
                a->terms.weakness == b->terms.weakness && a->terms.bonus == b->terms.bonus &&
                a->terms.improvement == b->terms.improvement);
}

// Of every order: stopped after each of 60 steps, it goes on as the one that was not.
static void goes_on_from_its_state(void **state)
{
    (void)state;
    for (enum config_curriculum order = CONFIG_FIXED_ORDER; order <= CONFIG_DOPAMINE; order++)
        for (uint32_t stop = 0; stop < 60; stop++) {
            struct curriculum *straight = make(order, 2.5), *resumed = make(order, 2.5);
            for (uint32_t s = 0; s < stop; s++) take(straight);
            char *text = curriculum_print(straight);
            cJSON *json = cJSON_Parse(text);
            assert_true(curriculum_parse(resumed, "state.json", json));
            char *again = curriculum_print(resumed);
            assert_string_equal(again, text);
            for (uint32_t s = 0; s < 80; s++) {
                const struct curriculum_step a = take(straight), b = take(resumed);
                is_the_same(&a, &b);
            }
            free(text);
            free(again);
            cJSON_Delete(json);
            curriculum_destroy(&straight);
            curriculum_destroy(&resumed);
        }
    unit_assert_silent();
}

static void refuses(struct curriculum *c, const char *text, const char *what)
{
    cJSON *json = cJSON_Parse(text);
    assert_false(curriculum_parse(c, "state.json", json));
    unit_assert_line("state.json: the state of the curriculum is", what);
    cJSON_Delete(json);
}

static void other_states_are_refused(void **state)
{
    (void)state;
    struct curriculum *c = make(CONFIG_FIXED_ORDER, 0), *other = make(CONFIG_DOPAMINE, 0);
    char *text = curriculum_print(other);
    refuses(c, text, "of another order");
    refuses(c, "{}", "of another order");
    refuses(c, "{\"order\": \"fixed\", \"domains\": []}", "of other domains");
    free(text);
    for (uint32_t s = 0; s < 7; s++) take(c);
    text = curriculum_print(c);
    struct { const char *from; char to; } damage[] = {
        {"\"b\"", 'x'}, {"\"visit\": 2", '9'}, {"\"in_epoch\": 0", '7'}, {"\"domain\": 0", '4'},
        {"\"round\": 0", '-'}};
    for (size_t i = 0; i < COUNT_OF(damage); i++) {
        char *own = strdup(text), *at = strstr(own, damage[i].from);
        if (!at) fail_msg("no %s in %s", damage[i].from, text);
        at[strlen(damage[i].from) - (damage[i].from[1] == 'b' ? 2 : 1)] = damage[i].to;
        struct curriculum *fresh = make(CONFIG_FIXED_ORDER, 0);
        refuses(fresh, own, damage[i].to == 'x' ? "of other domains" : "of");
        curriculum_destroy(&fresh);
        free(own);
    }
    free(text);
    curriculum_destroy(&c);
    curriculum_destroy(&other);
}

static void nothing_to_visit_is_refused(void **state)
{
    (void)state;
    const struct curriculum_domain none[] = {{.name = "a"}, {.name = "b", .epoch_steps = 3,
                                                             .held_out = true}};
    assert_null(curriculum_create(&(struct curriculum_params){
        .order = CONFIG_FIXED_ORDER, .epochs = 1, .domain = none, .domains = 2}));
    unit_assert_line("curriculum: none of the data's 2 domains", "held out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(novelty_falls), UNIT(weakness_grows_with_the_loss),
        UNIT(improvement_grows_with_the_fall), UNIT(reward_is_the_weighted_sum),
        UNIT(draws_follow_the_reward), UNIT(fixed_is_in_turn),
        UNIT(random_rounds_are_permutations), UNIT(interleaved_goes_round),
        UNIT(a_low_loss_ends_a_visit), UNIT(skipped_steps_count_for_nothing),
        UNIT(dopamine_visits_what_is_worth_it), UNIT(goes_on_from_its_state),
        UNIT(other_states_are_refused), UNIT(nothing_to_visit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
