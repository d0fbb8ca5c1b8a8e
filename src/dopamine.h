// SPDX-License-Identifier: MIT
// How much a domain is worth visiting next, from what its visits came to:
//
//   reward = a novelty + b weakness + c improvement + d bonus        (ARCHE3's four terms)
//
// The formulas are this project's; each term lies in [0, 1], so the reward does in [0, a+b+c+d].
//
//   novelty      1 / (1 + visits): 1 for a domain never visited, 1/4 after three; falls
//                strictly with every visit.
//   weakness     L / (L + s), where L is the mean loss of the domain's last epoch, in nats, and
//                s = ln(vocab_size) the loss of guessing: 0 for a loss of 0, 1/2 for guessing,
//                below 1 for any; grows strictly with L. Never visited: L = s, so 1/2.
//   improvement  max(0, B - L) / B, where B is the same mean of the visit before: 0 without two
//                visits and where the loss did not fall, 1 where it fell to 0; grows with B - L.
//   bonus        a number of the config for each domain, 0 to 1, default 0.
//
// The next domain is DRAWN, with probabilities proportional to the reward raised to `power`: where
// all rewards are alike that is a random order, and a domain with a small reward is still seen now
// and then, so its terms do not grow stale. ARCHE3 takes the largest: that is the limit of a large
// power, in which a domain that never improves is never left while its loss is the highest.
#pragma once

#include "base.h"

struct dopamine_history {
    uint32_t visits;       // finished
    double   last, before; // mean loss of the last epoch, of the visit before that; NAN: none
};

struct dopamine_terms { double novelty, weakness, improvement, bonus, reward; };

struct dopamine_weights {
    double novelty, weakness, improvement, bonus; // a b c d, >= 0
    double scale;                                 // s
    double power;
};

double dopamine_novelty(uint32_t visits);
double dopamine_weakness(double loss, double scale); // loss NAN: none
double dopamine_improvement(double before, double last);
// `bonus` is cut to [0, 1].
struct dopamine_terms dopamine_terms(const struct dopamine_weights *weights,
                                     const struct dopamine_history *history, double bonus);

// Which of `count` rewards is drawn by `uniform` in (0, 1): index i with probability reward_i^power
// over the sum of all; where all are 0, all alike. Those that are negative or NAN are never drawn,
// unless there are no others.
uint32_t dopamine_draw(const double *reward, uint32_t count, double power, double uniform);
