// SPDX-License-Identifier: MIT
// Intervals and tests against values of statsmodels 0.15 (proportion_confint, mcnemar) and scipy
// 1.17 (binomtest); the Poisson-binomial against sums of fractions.
#include "tests/unit.h"

#include "src/score_stats.h"

static void test_wilson(void **state)
{
    (void)state;
    static const struct { uint64_t right, count; double low, high; } known[] = {
        {9, 20, 0.2581978582556242, 0.6579146575496577},
        {3, 6, 0.18761630648265054, 0.8123836935173494},
        {0, 10, 0, 0.27753279986288926},
        {10, 10, 0.7224672001371106, 1},
        {1, 1, 0.2065493143772374, 1},
        {312, 1172, 0.2417015599675755, 0.292249215548016},
        {5000, 10042, 0.48813223330902955, 0.5076869322459752},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const struct interval own = stats_wilson(known[i].right, known[i].count);
        unit_assert_near(own.low, known[i].low, 1e-12);
        unit_assert_near(own.high, known[i].high, 1e-12);
    }
    assert_true(stats_wilson(0, 0).low == 0 && stats_wilson(0, 0).high == 1);
}

static void test_binomial(void **state)
{
    (void)state;
    static const struct { uint64_t right, count; double chance, p; } known[] = {
        {9, 20, 0.5, 0.8238029479980469},  // what ARCHE3 calls "strong"
        {3, 6, 0.5, 1},
        {10, 20, 0.5, 1},
        {15, 20, 0.5, 0.04138946533203125},
        {16, 20, 0.5, 0.01181793212890625},
        {0, 10, 0.25, 0.07604122161865237},
        {4, 10, 0.25, 0.2804384231567383},
        {7, 10, 0.25, 0.003505706787109375},
        {312, 1172, 0.25, 0.20002326668921822},
        {5200, 10042, 0.5, 0.0003668190945935681},
        {2600, 10042, 0.25, 0.04025215276901077},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        double chance[10042];
        for (uint64_t k = 0; k < known[i].count; k++) chance[k] = known[i].chance;
        unit_assert_near(stats_binomial(known[i].right, known[i].count, known[i].chance),
                         known[i].p, 1e-10);
        if (known[i].count < 2000)
            unit_assert_near(stats_test(chance, known[i].count, known[i].right), known[i].p,
                             1e-12);
    }
    assert_true(stats_binomial(0, 0, 0.5) == 1 && stats_binomial(0, 5, 0) == 1 &&
                stats_binomial(1, 5, 0) == 0);
}

static void test_poisson_binomial(void **state)
{
    (void)state;
    static const struct { uint32_t of[4]; uint64_t right; double p; } known[] = { // of 2, 3, 4, 5
        {{1, 1, 0, 0}, 0, 0.5},
        {{5, 7, 9, 1}, 6, 0.6475924459504493},
        {{5, 7, 9, 1}, 13, 0.010782348798953293},
        {{30, 0, 30, 0}, 33, 0.005369068505358376},
        {{30, 0, 30, 0}, 22, 1},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        double chance[60];
        uint64_t count = 0;
        for (uint32_t k = 0; k < 4; k++)
            for (uint32_t n = 0; n < known[i].of[k]; n++) chance[count++] = 1.0 / (k + 2);
        unit_assert_near(stats_test(chance, count, known[i].right), known[i].p, 1e-12);
    }
}

static void test_mcnemar(void **state)
{
    (void)state;
    static const struct { uint64_t a, b; double p; } known[] = {
        {0, 0, 1}, {1, 0, 1}, {8, 2, 0.109375}, {2, 8, 0.109375}, {15, 5, 0.04138946533203125},
        {40, 61, 0.046044066929342785}};
    for (size_t i = 0; i < COUNT_OF(known); i++)
        unit_assert_near(stats_mcnemar(known[i].a, known[i].b), known[i].p, 1e-12);
}

// 200,000 draws of NumPy's generator; 10,000 of ours are within their own noise of that.
static void test_bootstrap(void **state)
{
    (void)state;
    double value[60], weight[60], ones[60];
    for (int i = 0; i < 60; i++) {
        value[i] = ((i * i * 31 + i * 7 + 84) % 97) / 97.0 - 0.45;
        weight[i] = 1 + i * 5 % 7;
        ones[i] = 1;
    }
    const struct ratio own = stats_bootstrap(value, weight, 60, 3);
    unit_assert_near(own.value, 0.01661664274218104, 1e-14);
    unit_assert_near(own.interval.low, -0.0005703, 0.001);
    unit_assert_near(own.interval.high, 0.03424474, 0.001);
    unit_assert_near(own.p, 0.05805, 0.012);
    const struct ratio again = stats_bootstrap(value, weight, 60, 3),
                       other = stats_bootstrap(value, weight, 60, 4);
    assert_memory_equal(&own, &again, sizeof own);
    assert_true(own.interval.low != other.interval.low);
    // all alike: nothing to be unsure of; far from 0: the smallest p there is
    const struct ratio sure = stats_bootstrap(ones, weight, 60, 1);
    unit_assert_near(sure.p, 2.0 / (STATS_DRAWS + 1), 1e-12);
    assert_true(sure.interval.low > 0);
    assert_true(isnan(stats_bootstrap(ones, weight, 1, 1).p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {UNIT(test_wilson), UNIT(test_binomial),
                                       UNIT(test_poisson_binomial), UNIT(test_mcnemar),
                                       UNIT(test_bootstrap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
