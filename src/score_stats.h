// SPDX-License-Identifier: MIT
// What a score is worth: its interval, and whether chance does as well. Exact where that can be
// had; what is drawn is drawn from a seed, so the same answers give the same numbers.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct interval { double low, high; };

// 95 % of a proportion of `right` in `count` (Wilson 1927, without continuity correction).
struct interval stats_wilson(uint64_t right, uint64_t count);
// Two-sided exact test of `right` successes in `count` independent trials, where trial i has the
// chance[i] (Poisson-binomial; all alike: binomial): the probability of all outcomes that are not
// likelier than the one seen. The distribution is added up trial by trial, count^2 / 2 sums.
// Chances that are all 0: 0 where anything is right, else 1.
double stats_test(const double *chance, uint64_t count, uint64_t right);
// The same with one chance for all.
double stats_binomial(uint64_t right, uint64_t count, double chance);
// McNemar's exact test: only the items that one of two has right and the other has not.
double stats_mcnemar(uint64_t only_a, uint64_t only_b);

// The ratio sum(value) / sum(weight) over items, its 95 % percentile interval over STATS_DRAWS
// samples of the items with replacement, and twice the smaller share of them beyond 0 (counted with
// the one seen, so never 0; Davison & Hinkley 1997, eq. 4.11). Fewer than two items: nan.
enum { STATS_DRAWS = 10000 };
struct ratio { double value; struct interval interval; double p; };
struct ratio stats_bootstrap(const double *value, const double *weight, uint64_t count,
                             uint64_t seed);
