// SPDX-License-Identifier: MIT
// Mean and interval: see stats_spread.h.
#include "src/stats_spread.h"

#include <math.h>

#include "src/base.h"

// The 97.5 % quantile of Student's t, exact to 1e-3 where tabled; above by its expansion around the
// normal one (Abramowitz & Stegun 26.7.5, first term), from 30 on within 1e-3.
static double quantile(uint32_t freedom)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
                               2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
                               2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052,
                               2.048, 2.045};
    const double z = 1.959964;
    return freedom <= COUNT_OF(t) ? t[freedom - 1] : z + (z * z * z + z) / (4.0 * freedom);
}

struct spread spread_of(const double *values, uint32_t count)
{
    struct spread s = {.mean = NAN, .deviation = NAN, .half = NAN, .count = count};
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < count; i++) sum += values[i];
    if (count) s.mean = sum / count;
    for (uint32_t i = 0; i < count; i++) squares += (values[i] - s.mean) * (values[i] - s.mean);
    if (count > 1) {
        s.deviation = sqrt(squares / (count - 1));
        s.half = quantile(count - 1) * s.deviation / sqrt(count);
    }
    return s;
}
