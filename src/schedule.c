// SPDX-License-Identifier: MIT
// The learning rate of each step: warm-up, then one of four shapes. Contract in schedule.h.
#include "src/schedule.h"

#include <math.h>

static double clip01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

// How far `step` has come from `begin` to `end`; an empty way is a jump at its end.
static double fraction_of(double step, double begin, double end)
{
    return end > begin ? clip01((step - begin) / (end - begin)) : step >= end;
}

double schedule_learning_rate(const struct config *config, uint32_t step)
{
    const double top = config->learning_rate, floor_rate = config->min_learning_rate;
    const double warmup = config->warmup_steps, horizon = config->lr_decay_steps;
    if (step <= config->warmup_steps && config->warmup_steps > 0) return top * step / warmup;

    const double p = fraction_of(step, warmup, horizon);
    switch (config->lr_scheduler_type) {
    case CONFIG_COSINE:
        return floor_rate + (top - floor_rate) * 0.5 * (1 + cos(3.14159265358979323846 * p));
    case CONFIG_LINEAR:
        return top + (floor_rate - top) * p;
    case CONFIG_CONSTANT:
        return top;
    case CONFIG_CONSTANT_DECAY: {
        const double begin = fmax(warmup, horizon * (1 - config->decay_fraction));
        return top + (floor_rate - top) * fraction_of(step, begin, horizon);
    }
    }
    return top;
}

double schedule_warmdown(const struct config *config, double seconds, uint32_t steps)
{
    if (!(config->max_train_seconds > 0)) return 1;
    const double left = fmax(config->max_train_seconds - seconds, 0);
    const double each = steps ? seconds / steps : 0;
    const double way = config->warmdown_steps ? config->warmdown_steps * each
                                              : config->warmdown_seconds;
    return left < way ? left / way : 1;
}
