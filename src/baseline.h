// SPDX-License-Identifier: MIT
// What simple statistics reach on the same text: the numbers a model is measured against.
//
// All three count every held-out target (end-of-text too) and divide by the same bytes as the
// model's bits per byte. Smoothing is Witten-Bell (1991), interpolated: with c(v) observations and
// T(v) distinct successors of context v, p(w|v) = (c(v,w) + T(v) p(w)) / (c(v) + T(v)); p(w) falls
// back to 1/V in the same way.
#pragma once

#include "data.h"

struct baseline {
    double   entropy;       // order-0 entropy of the held-out text: no order-0 model gets under it
    double   order0;        // order-0 model of the training text, on the held-out text
    double   bigram;        // bigram model of the training text, on the held-out text
    uint64_t train_tokens;  // counted: the first BASELINE_MAX_TOKENS at most
    uint64_t tokens, bytes; // held-out targets, and the bytes of text they stand for
};

enum { BASELINE_MAX_TOKENS = 1 << 26, BASELINE_MAX_VOCAB = 8192 };

// Bits per byte. False (one line) where there is nothing held out or to train on, its bytes are
// unknown, or an id reaches BASELINE_MAX_VOCAB (a table of pairs would not fit).
bool baseline_measure(const struct data *data, struct baseline *out);
