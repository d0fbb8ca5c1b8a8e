// SPDX-License-Identifier: MIT
// The learning rate of each step, from the configuration alone: a resumed run needs no state.
//
// With step counted from 1, L = learning_rate, F = min_learning_rate, W = warmup_steps and
// H = lr_decay_steps: L step / W while step <= W. Then, with p = (step - W) / (H - W) in [0, 1]:
//   cosine               F + (L - F) (1 + cos(pi p)) / 2      (Loshchilov & Hutter 2017)
//   linear               L + (F - L) p
//   constant             L
//   constant_with_decay  L, and over the last decay_fraction of H linearly to F
// From H on the rate stays at F (constant: L).
#pragma once

#include "config.h"

double schedule_learning_rate(const struct config *config, uint32_t step);

// What the rate is multiplied by after `seconds` of training and `steps` steps in them: 1, then
// with R = max_train_seconds - seconds and W = warmdown_seconds, or warmdown_steps * seconds /
// steps, min(1, R / W), 0 at the end. 1 where max_train_seconds is 0.
double schedule_warmdown(const struct config *config, double seconds, uint32_t steps);
