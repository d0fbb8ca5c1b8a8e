// SPDX-License-Identifier: MIT
// Few numbers that were measured alike: mean, sample standard deviation, and half the 95 % interval
// of the mean (Student's t).
#pragma once

#include <stdint.h>

struct spread { double mean, deviation, half; uint32_t count; };
// Of none: count 0, NAN. Of one: deviation and half are NAN.
struct spread spread_of(const double *values, uint32_t count);
