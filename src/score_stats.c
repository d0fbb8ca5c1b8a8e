// SPDX-License-Identifier: MIT
// Intervals and tests: see score_stats.h.
#include "src/score_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "src/base.h"

// outcomes as likely as the one seen differ from it by rounding
#define LIKELY (1 + 1e-7)
#define Z_95 1.959963984540054 // of the normal distribution, 97.5 %

struct interval stats_wilson(uint64_t right, uint64_t count)
{
    if (count == 0) return (struct interval){0, 1};
    const double n = (double)count, p = (double)right / n, z2 = Z_95 * Z_95;
    const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = Z_95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    return (struct interval){right == 0 ? 0 : fmax(0, centre - half),
                             right == count ? 1 : fmin(1, centre + half)};
}

// Probabilities of 0..count successes. Trials come one at a time, so each number is a sum of
// positive terms.
static double *distribution(const double *chance, uint64_t count)
{
    double *p = os_alloc((count + 1) * sizeof *p);
    p[0] = 1;
    for (uint64_t i = 0; i < count; i++) {
        const double hit = chance[i], miss = 1 - hit;
        for (uint64_t k = i + 1; k > 0; k--) p[k] = p[k] * miss + p[k - 1] * hit;
        p[0] *= miss;
    }
    return p;
}

double stats_test(const double *chance, uint64_t count, uint64_t right)
{
    double *p = distribution(chance, count), sum = 0;
    for (uint64_t k = 0; k <= count; k++)
        if (p[k] <= p[right] * LIKELY) sum += p[k];
    free(p);
    return fmin(sum, 1);
}

static double log_binomial(uint64_t right, uint64_t count, double chance)
{
    const double n = (double)count, k = (double)right;
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(chance) +
           (n - k) * log1p(-chance);
}

double stats_binomial(uint64_t right, uint64_t count, double chance)
{
    if (chance <= 0) return right ? 0 : 1;
    if (chance >= 1) return right == count ? 1 : 0;
    const double seen = log_binomial(right, count, chance) + log(LIKELY);
    double sum = 0;
    for (uint64_t k = 0; k <= count; k++) {
        const double own = log_binomial(k, count, chance);
        if (own <= seen) sum += exp(own);
    }
    return fmin(sum, 1);
}

double stats_mcnemar(uint64_t only_a, uint64_t only_b)
{
    return stats_binomial(only_a, only_a + only_b, 0.5);
}

// ---- bootstrap

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double draw(const double *value, const double *weight, uint64_t count, uint64_t seed,
                   uint64_t index)
{
    double values = 0, weights = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t which = rng_below(seed, index, i, count);
        values += value[which];
        weights += weight[which];
    }
    return weights > 0 ? values / weights : 0;
}

// The quantile between the two neighbours (Hyndman & Fan 1996, type 7).
static double quantile(const double *sorted, uint64_t count, double q)
{
    const double at = q * (double)(count - 1);
    const uint64_t low = (uint64_t)at;
    const uint64_t high = min_u64(low + 1, count - 1);
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

struct ratio stats_bootstrap(const double *value, const double *weight, uint64_t count,
                             uint64_t seed)
{
    double values = 0, weights = 0;
    for (uint64_t i = 0; i < count; i++) {
        values += value[i];
        weights += weight[i];
    }
    struct ratio out = {weights > 0 ? values / weights : NAN, {NAN, NAN}, NAN};
    if (count < 2) return out;
    double *drawn = os_alloc(STATS_DRAWS * sizeof *drawn);
    uint64_t below = 0, above = 0;
    for (uint64_t i = 0; i < STATS_DRAWS; i++) {
        drawn[i] = draw(value, weight, count, seed, i);
        below += drawn[i] <= 0;
        above += drawn[i] >= 0;
    }
    qsort(drawn, STATS_DRAWS, sizeof *drawn, by_size);
    out.interval = (struct interval){quantile(drawn, STATS_DRAWS, 0.025),
                                     quantile(drawn, STATS_DRAWS, 0.975)};
    out.p = fmin(1, 2.0 * (double)(min_u64(below, above) + 1) / (STATS_DRAWS + 1));
    free(drawn);
    return out;
}
