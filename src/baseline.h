// SPDX-License-Identifier: MIT
// What simple statistics reach on the same text: the numbers a trained model is measured against.
//
// All three count every held-out target (end-of-text too) and divide by the same bytes as the model's
// bits per byte. Smoothing is Witten-Bell (1991), interpolated: with c(v) observations and T(v) distinct
// successors of context v, p(w|v) = (c(v,w) + T(v) p(w)) / (c(v) + T(v)); order 0 falls back to 1/V in the same way.
#pragma once

#include "data.h"

struct baseline {
    double   entropy;      // order-0 entropy of the held-out text itself: what no order-0 model can beat
    double   order0;       // order-0 model of the training text, on the held-out text
    double   bigram;       // bigram model of the training text, on the held-out text
    uint64_t train_tokens; // that were counted: at most BASELINE_MAX_TOKENS
    uint64_t tokens, bytes; // held-out targets, and the bytes of text they stand for
};

enum { BASELINE_MAX_TOKENS = 1 << 26, BASELINE_MAX_VOCAB = 8192 };

// Bits per byte. False (one line) where there is nothing held out, its bytes are unknown, or the
// vocabulary is larger than BASELINE_MAX_VOCAB (a table of pairs would not fit).
bool baseline_measure(const struct data *data, struct baseline *out);
