// SPDX-License-Identifier: MIT
// The four terms and the draw: see dopamine.h, which has the formulas.
#include "src/dopamine.h"

#include <math.h>

double dopamine_novelty(uint32_t visits) { return 1 / (1 + (double)visits); }

double dopamine_weakness(double loss, double scale)
{
    if (isnan(loss)) loss = scale;
    if (!(loss > 0)) return 0;
    return isinf(loss) ? 1 : loss / (loss + scale);
}

double dopamine_improvement(double before, double last)
{
    if (isnan(before) || isnan(last) || !(before > 0) || last >= before) return 0;
    if (isinf(before)) return 1;
    return fmin((before - last) / before, 1);
}

struct dopamine_terms dopamine_terms(const struct dopamine_weights *w,
                                     const struct dopamine_history *history, double bonus)
{
    struct dopamine_terms t = {
        .novelty = dopamine_novelty(history->visits),
        .weakness = dopamine_weakness(history->last, w->scale),
        .improvement = dopamine_improvement(history->before, history->last),
        .bonus = fmin(fmax(bonus, 0), 1),
    };
    t.reward = w->novelty * t.novelty + w->weakness * t.weakness +
               w->improvement * t.improvement + w->bonus * t.bonus;
    return t;
}

// Relative to the largest, so that a large power neither overflows nor makes all of them 0.
static double share(double reward, double most, double power)
{
    if (!(most > 0)) return 1;
    return reward > 0 ? pow(reward / most, power) : 0;
}

uint32_t dopamine_draw(const double *reward, uint32_t count, double power, double uniform)
{
    double most = 0, sum = 0;
    for (uint32_t i = 0; i < count; i++) most = fmax(most, reward[i]);
    for (uint32_t i = 0; i < count; i++) sum += share(reward[i], most, power);
    double left = uniform * sum;
    uint32_t drawn = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double own = share(reward[i], most, power);
        if (!(own > 0)) continue;
        drawn = i;
        if (left < own) break;
        left -= own;
    }
    return drawn;
}
