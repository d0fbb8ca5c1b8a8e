// SPDX-License-Identifier: MIT
// The loss of batches without gradients: held-out evaluation, in training and by `vkmoe eval`.
#pragma once

#include "batch.h"
#include "data.h"
#include "run.h"

struct evaluator;

struct evaluation {
    double   loss_sum;          // nats over all scored targets
    uint64_t tokens, bytes;     // scored targets; bytes of text they stand for (0: unknown)
    uint64_t passed;            // batches without a scored target, which were passed over
    double   loss, perplexity;  // per token
    double   bits_per_byte;     // NAN where the bytes are unknown
};

// Shares the weights of params; batch sequences of seq tokens at a time.
struct evaluator *evaluator_create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                                   uint32_t batch, uint32_t seq);
// The same, and what the routers picked comes back: evaluator_picks after each evaluator_batch.
struct evaluator *evaluator_create_picks(struct gpu *gpu, struct kernels *kernels,
                                         struct params *params, uint32_t batch, uint32_t seq);
// The same, and the loss of each target comes back: evaluator_rows after each evaluator_batch.
struct evaluator *evaluator_create_rows(struct gpu *gpu, struct kernels *kernels,
                                        struct params *params, uint32_t batch, uint32_t seq);
void              evaluator_destroy(struct evaluator **evaluator);
// Windows of a split in natural order, at most max_batches batches (0: all). Where the data's
// windows are shorter than seq (which they must divide), rows of seq tokens begin at each of them:
// a sliding window with that stride. The first row scores all of its tokens, the others the last
// window alone, so every token is scored once. Without any scored target loss and perplexity are
// NAN, and that is told. False on a device failure or an interrupt.
bool evaluator_run(struct evaluator *evaluator, const struct data *data, enum data_split split,
                   uint32_t max_batches, struct evaluation *out);
// One batch: sum of the losses in nats, and how many targets were scored.
bool evaluator_batch(struct evaluator *evaluator, const struct batch *batch, double *loss_sum,
                     uint64_t *targets);
// Of the batch before, for the MoE layer `index` counted from 0: ids and gates [batch * seq][K],
// into room that the caller has; an id that is no expert's is a pick that was not taken.
bool evaluator_picks(struct evaluator *evaluator, uint32_t index, uint32_t *ids, float *gates);
// Of the batch before: -log p of each target in nats, [batch * seq]; 0 where it was not scored.
bool evaluator_rows(struct evaluator *evaluator, float *losses);
struct plan *evaluator_plan(struct evaluator *evaluator);
