// SPDX-License-Identifier: MIT
// plan.json of a run folder: where the time of a training step goes, as the device's timestamps had
// it when the run settled (run.h): each step of the plans, run alone. Written once a process; not
// written where the device has no timestamps.
//
//   {"device", "driver", "store", "tokens": of a step,
//    "peaks": {"copy_gbps", "fma_gflops"}: what the device itself can do, measured; 0: unknown
//    "plans": [{"name", "times": how often it runs in a step, "ms": of all steps once,
//      "steps": [{"kernel", "variant", "section", "layer": null where it is of none, "start": ms
//                 since the plan's first, "ms", "flop", "bytes"}, ...]}, ...]}
//
// Plans stand in the order they run in. flop and bytes are the kernel table's, of tokens and
// experts as planned, not as routed.
#pragma once

#include "peaks.h"
#include "trainer.h"

// The text; caller frees. NULL: nothing was measured (yet).
char *train_plan_print(struct trainer *trainer, const struct gpu *gpu,
                       const struct config *config, const struct peaks *peaks);
