// SPDX-License-Identifier: MIT
// The training run: data, schedule, steps, evaluation, metrics, checkpoints, resume. One function,
// because a run is one thing; the device part is trainer.h.
#pragma once

#include "config.h"
#include "runtime/cache.h"
#include "runtime/gpu.h"

// Experts that come and go (experts.h) between the device and the run's store.
struct train_streaming {
    bool              asked;         // a run that has a store is streamed in any case
    uint64_t          device_budget; // bytes; 0: what the device has
    uint64_t          host_budget;   // bytes; 0: what the process may use; of any model
    uint32_t          slots;         // 0: as many as the budget allows
    enum cache_policy policy;
    bool              prefetch;
};

struct train_params {
    const struct config *config;
    const char *const   *data;        // files and folders; count 0 is the caller's error
    int                  data_count;
    const char          *out;         // the run folder, made if missing
    const char          *tokenizer;   // a tokenizer.json; NULL: the run's own, or byte-level
    bool                 resume;      // go on from the newest checkpoint in `out`
    struct gpu_params    gpu;
    bool check; // before training: every step of the plan against its reference
    bool                 quiet;       // no progress line
    bool                 untuned;     // kernels by rule, not by measurement
    struct train_streaming streaming;
};

struct train_outcome {
    uint32_t steps;                   // done, over all resumes
    bool     interrupted;             // by Ctrl-C; the checkpoint is written
    double   loss;                    // of the last step
    double   held_out_bpb;            // NAN where not evaluated
    double   order0_bpb, bigram_bpb;  // baselines on the same text, NAN where unknown
};

// False after one line that says why. A checkpoint is written every save_every steps, at the end,
// and on Ctrl-C.
bool train_run(const struct train_params *params, struct train_outcome *outcome);
