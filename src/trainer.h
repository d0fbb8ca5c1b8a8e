// SPDX-License-Identifier: MIT
// Training steps of one model on one device. Everything is planned and recorded at creation; a step
// is: the host fills the input slot, submits recorded commands, and collects the results one step
// late.
#pragma once

#include "batch.h"
#include "experts.h"
#include "run.h"

struct trainer;

struct trainer_result {
    uint32_t step;
    double loss; // mean over the scored targets of all micro-batches (without auxiliary losses)
    double   grad_norm;     // before clipping
    bool     skipped;       // the loss or the norm was not finite: nothing moved
    uint64_t targets;       // scored
    double   finished;      // os_seconds when its end was seen
    uint32_t layers;        // MoE layers
    const float *const *load; // [layers][experts]: picks of each expert, summed over micro-batches
    // [layers]: auxiliary losses before their coefficients, mean over micro-batches; pairs (token,
    // expert) of the whole step that routers picked, and those that were kept
    const struct trainer_layer {
        double loss[ROUTER_LOSS_COUNT], picks, kept, least_entropy;
    } *layer;
    // [layers]: [pick_tokens][K] experts of the first tokens of the first micro-batch; the tokens
    const uint32_t *const *picks;
    const float *const *gates; // of these; NULL: the config traces no tokens
    const uint32_t *ids;
    uint32_t pick_tokens;
    struct experts_counts experts; // of this step; written: since the one before
};

struct trainer *trainer_create(struct gpu *gpu, struct kernels *kernels, const struct model *model);
// The same of a streamed model, whose experts come from and go back to experts->source, which is
// taken over; gpu, model and training are filled in.
struct trainer *trainer_create_streamed(struct gpu *gpu, struct kernels *kernels,
                                        const struct model *model,
                                        const struct experts_params *experts);
void            trainer_destroy(struct trainer **trainer);
struct params  *trainer_params(struct trainer *trainer);
// Starts optimizer step `step` (from 1) on gradient_accumulation_steps micro-batches. At most two
// steps are in flight: collect the older one first.
bool trainer_submit(struct trainer *trainer, uint32_t step, double learning_rate,
                    const struct batch *batch);
// How far the mean of the weights goes towards them in the steps that are submitted from here on
// (struct step_words); 0 at first.
void trainer_average(struct trainer *trainer, double share);
// Waits for the oldest step in flight; result pointers hold until the next collect.
bool trainer_collect(struct trainer *trainer, struct trainer_result *result);
uint32_t trainer_in_flight(const struct trainer *trainer);
// Every step of the forward and backward plan against its scalar reference on this batch (run.h);
// no update, no step in flight.
bool trainer_check(struct trainer *trainer, const struct batch *batch, double tolerance);
// Milliseconds that the device worked on the step collected last (of micro-batches: as many times
// the last one), first to last timestamp of each part, copies of inputs and results not among them.
// -1 without timestamps, and with several micro-batches where another step is in flight.
double   trainer_kernel_ms(struct trainer *trainer);
// Of one of the plans, as run_step_ms has them: from the third step on.
const double *trainer_step_ms(const struct trainer *trainer, const char *plan);
uint32_t trainer_submits(const struct trainer *trainer); // that the last step took
// The plans, for info, bench and tests: "zero", "train" (one micro-batch), "update".
struct plan *trainer_plan(struct trainer *trainer, const char *name);
