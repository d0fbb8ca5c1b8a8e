// SPDX-License-Identifier: MIT
// A training run while it lasts: what train_open.c opens and closes, and train.c steps, evaluates
// and saves.
#pragma once

#include "src/checkpoint.h"
#include "src/evaluator.h"
#include "src/kernel_device.h"
#include "src/metrics.h"
#include "src/progress.h"
#include "src/routing.h"
#include "src/trace.h"
#include "src/train.h"
#include "src/train_checkpoint.h"
#include "src/train_curriculum.h"
#include "src/train_layers.h"
#include "src/trainer.h"

struct run_state {
    const struct train_params *params;
    const struct config       *config;
    struct checkpoint         *folder;
    struct tokenizer          *tokenizer;
    struct data               *data;
    struct gpu                *gpu;
    struct kernels            *kernels;
    struct model              *model;
    struct checkpoint_found    found;   // where it goes on from; step 0 without a path: nowhere
    uint64_t                   slots_budget; // of the device, given or found once; 0: no matter
    struct train_store        *store;   // of the experts that come and go; NULL: all stay
    struct trainer            *trainer;
    struct evaluator          *evaluator;
    struct metrics            *metrics;
    struct routing            *routing;
    struct trace_writer       *trace, *residency; // NULL: none is wanted
    bool                       planned; // plan.json is written
    uint32_t                   plan_step; // behind which step, and how long it took
    double                     plan_seconds;
    struct train_told          told;    // of residency
    struct progress           *progress;
    struct metrics_layer      *layers;   // of the last collected step
    struct batch              *batch;    // [gradient_accumulation_steps]
    uint32_t                   step;     // submitted
    uint32_t                   first_step; // done before this process
    uint32_t                   saved;    // step of the newest checkpoint
    uint64_t                   windows;  // windows used since the run began: the place in the data
    uint64_t                   run_tokens; // trained on by this process
    double                     metrics_seconds; // of the host: statistics, lines, trace
    double                     began, last_collect;
    double                     seconds;  // of training in the parts of the run before this one
    uint64_t                   averaged; // steps that are in the mean of the weights
    double                     rate[4];  // of steps in flight, by step
    struct train_part          part[4];  // the same
    struct train_curriculum   *curriculum; // NULL: none
    struct train_outcome      *outcome;
};

// Of the data, that one step takes.
static inline uint64_t train_step_windows(const struct config *c)
{
    return (uint64_t)c->batch_size * c->gradient_accumulation_steps;
}

// Everything, up to where the first step can be made: at step 0, or where the newest checkpoint
// left off. False after one line; train_close takes what is there.
bool train_open(struct run_state *r);
void train_close(struct run_state *r);
struct data_params train_data_params(const struct run_state *r);
// Collects all steps that are in flight (train.c).
bool train_drain(struct run_state *r);
// What the checkpoint that was found holds (train.c, which writes them).
bool train_load(struct run_state *r);
