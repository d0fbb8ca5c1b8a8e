// SPDX-License-Identifier: MIT
// The learning rate: warm-up, the four shapes at their corner points, the floor, and corner cases.
#include "tests/unit.h"

#include "src/schedule.h"

static struct config make(enum config_schedule kind)
{
    return (struct config){
        .lr_scheduler_type = kind, .learning_rate = 1e-3, .min_learning_rate = 1e-4,
        .warmup_steps = 10, .lr_decay_steps = 110, .decay_fraction = 0.2, .steps = 110};
}

static const enum config_schedule kinds[] = {CONFIG_COSINE, CONFIG_LINEAR, CONFIG_CONSTANT,
                                             CONFIG_CONSTANT_DECAY};

static void warm_up_is_linear(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const struct config config = make(kinds[k]);
        for (uint32_t step = 1; step <= 10; step++)
            unit_assert_near(schedule_learning_rate(&config, step), 1e-4 * step, 1e-18);
    }
}

static void shapes_pass_their_points(void **state)
{
    (void)state;
    static const struct { enum config_schedule kind; uint32_t step; double rate; } points[] = {
        {CONFIG_COSINE, 60, 5.5e-4},                                 // half way
        {CONFIG_COSINE, 35, 1e-4 + 9e-4 * 0.85355339059327376},      // (1 + cos(pi/4)) / 2
        {CONFIG_COSINE, 110, 1e-4},
        {CONFIG_COSINE, 100000, 1e-4},
        {CONFIG_LINEAR, 35, 7.75e-4},
        {CONFIG_LINEAR, 60, 5.5e-4},
        {CONFIG_LINEAR, 110, 1e-4},
        {CONFIG_LINEAR, 111, 1e-4},
        {CONFIG_CONSTANT, 60, 1e-3},
        {CONFIG_CONSTANT, 100000, 1e-3},
        {CONFIG_CONSTANT_DECAY, 88, 1e-3},                           // 0.8 * 110
        {CONFIG_CONSTANT_DECAY, 99, 5.5e-4},
        {CONFIG_CONSTANT_DECAY, 110, 1e-4},
        {CONFIG_CONSTANT_DECAY, 4000000000u, 1e-4},
    };
    for (size_t i = 0; i < COUNT_OF(points); i++) {
        const struct config config = make(points[i].kind);
        unit_assert_near(schedule_learning_rate(&config, points[i].step), points[i].rate, 1e-15);
    }
}

static void rates_never_rise_again(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const struct config config = make(kinds[k]);
        double before = 1e-3;
        for (uint32_t step = 10; step < 200; step++) {
            const double rate = schedule_learning_rate(&config, step);
            assert_true(rate <= before && rate >= 1e-4 - 1e-18);
            before = rate;
        }
    }
}

// The total of steps does not move the shape: a run that is extended goes on as it would have.
static void only_the_horizon_counts(void **state)
{
    (void)state;
    struct config a = make(CONFIG_COSINE), b = a;
    b.steps = 20;
    for (uint32_t step = 1; step < 150; step++)
        assert_true(schedule_learning_rate(&a, step) == schedule_learning_rate(&b, step));
}

static void corner_cases_are_finite(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct config config = make(kinds[k]);
        const double end = kinds[k] == CONFIG_CONSTANT ? 1e-3 : 1e-4;
        config.warmup_steps = 0;
        config.lr_decay_steps = 1;
        unit_assert_near(schedule_learning_rate(&config, 1), end, 1e-18);
        config.lr_decay_steps = 0; // no horizon: over at once
        unit_assert_near(schedule_learning_rate(&config, 1), end, 1e-18);
        config.warmup_steps = 10;
        config.lr_decay_steps = 5; // warm-up goes on beyond it
        unit_assert_near(schedule_learning_rate(&config, 10), 1e-3, 1e-18);
        unit_assert_near(schedule_learning_rate(&config, 11), end, 1e-18);
    }
    struct config config = make(CONFIG_CONSTANT_DECAY);
    config.decay_fraction = 0;
    unit_assert_near(schedule_learning_rate(&config, 109), 1e-3, 1e-18);
    unit_assert_near(schedule_learning_rate(&config, 110), 1e-4, 1e-18);
    config.decay_fraction = 1; // falls from the end of the warm-up on
    unit_assert_near(schedule_learning_rate(&config, 60), 5.5e-4, 1e-15);
}

static void the_clock_brings_it_down(void **state)
{
    (void)state;
    struct config c = {.max_train_seconds = 100, .warmdown_seconds = 20};
    unit_assert_near(schedule_warmdown(&c, 0, 0), 1, 0);
    unit_assert_near(schedule_warmdown(&c, 80, 7), 1, 0);
    unit_assert_near(schedule_warmdown(&c, 85, 7), 0.75, 1e-15);
    unit_assert_near(schedule_warmdown(&c, 101, 7), 0, 0);
    c.warmdown_seconds = 0, c.warmdown_steps = 10; // 10 steps of 4 seconds
    unit_assert_near(schedule_warmdown(&c, 60, 15), 1, 0);
    unit_assert_near(schedule_warmdown(&c, 80, 20), 0.5, 1e-15);
    unit_assert_near(schedule_warmdown(&c, 0, 0), 1, 0);
    c.max_train_seconds = 0;
    unit_assert_near(schedule_warmdown(&c, 1e6, 20), 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear),
        cmocka_unit_test(shapes_pass_their_points),
        cmocka_unit_test(rates_never_rise_again),
        cmocka_unit_test(only_the_horizon_counts),
        cmocka_unit_test(corner_cases_are_finite),
        cmocka_unit_test(the_clock_brings_it_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
