// SPDX-License-Identifier: MIT
// A finished plan -> recorded command buffers, replayed without any host work. Submits are bounded:
// the plan is cut so that none takes much more than RUN_SUBMIT_MS, first by estimate, then
// (run_settle) by measurement; short runs and copies share a submit (run_queue). A settled run is
// recorded twice, so that the next can be submitted while one is in flight, and the times of one
// be read while the next is.
#pragma once

#include "plan.h"

enum { RUN_SUBMIT_MS = 100, RUN_SETS = 2, RUN_QUEUE = 16 };

struct run;
struct run *run_create(struct plan *plan);          // the plan must outlive the run
void        run_destroy(struct run **run);
uint64_t    run_submit(struct run *run);            // ticket of the last part, 0 on failure
// After a finished run, the second or a later one (the first compiles kernels and touches memory):
// cuts by its times, records for good. Does nothing before and afterwards.
bool        run_settle(struct run *run);
// Milliseconds of each step, run alone, as they were when it settled; NULL: it has not, or there
// are no timers.
const double *run_step_ms(const struct run *run);
uint32_t    run_submits(const struct run *run);     // parts the plan is cut into
// First to last timestamp of each part of the run submitted last (`back` 1: the one before), for
// which it waits; -1 without timers, or where those are not kept.
double      run_kernel_ms(struct run *run, uint32_t back);
// Runs once with timestamps around all steps: milliseconds of each of plan->step_count steps, and
// of all from the first to the last timestamp.
bool        run_profile(struct plan *plan, double *step_ms, double *all_ms);

// Commands on their way to the device, in order, together up to RUN_SUBMIT_MS. {.gpu = gpu} begins.
struct run_queue {
    struct gpu          *gpu;
    struct gpu_commands *held[RUN_QUEUE];
    uint32_t             count;
    double               ms;      // of what is held
    uint32_t             submits; // so far
    uint64_t             ticket;
    bool                 failed;
};
void     run_queue_commands(struct run_queue *queue, struct gpu_commands *commands, double ms);
void     run_queue_run(struct run_queue *queue, struct run *run);
uint64_t run_queue_submit(struct run_queue *queue); // ticket of the last submit, 0: one failed

// Runs the plan step by step, each also through its scalar reference on the same bytes; logs every
// step whose normalised mean square error exceeds the tolerance. Slow: for `--check` and tests.
// False on any mismatch.
bool        run_check(struct plan *plan, double tolerance);
