// SPDX-License-Identifier: MIT
// A finished plan -> recorded command buffers, replayed without any host work. Submits are bounded:
// the plan is cut so that none takes much more than RUN_SUBMIT_MS, first by estimate, then
// (run_settle) by measurement.
#pragma once

#include "plan.h"

enum { RUN_SUBMIT_MS = 100 };

struct run;
struct run *run_create(struct plan *plan);          // the plan must outlive the run
void        run_destroy(struct run **run);
uint64_t    run_submit(struct run *run);            // ticket of the last part, 0 on failure
// After a first finished run: measures, cuts anew, records for good. Does nothing the second time.
bool        run_settle(struct run *run);
uint32_t    run_submits(const struct run *run);     // parts the plan is cut into
double run_kernel_ms(
    struct run *run); // first to last timestamp of each part, last finished run; -1 without timers
// Runs once with a timestamp between all steps: milliseconds of each of plan->step_count steps.
bool        run_profile(struct plan *plan, double *step_ms);
// Runs the plan step by step, each also through its scalar reference on the same bytes; logs every
// step whose normalised mean square error exceeds the tolerance. Slow: for `--check` and tests.
// False on any mismatch.
bool        run_check(struct plan *plan, double tolerance);
