// SPDX-License-Identifier: MIT
// plan.json of a run folder (src/train_plan.h says what is in it) as arrays: the steps of one
// training step in the order they run in, plans that run several times counted so, and what each
// kernel takes of it.
#pragma once

#include "src/base.h"

struct plan_row { // a step of a plan
    const char *kernel, *variant, *section;
    int         layer;  // -1: of none
    uint32_t    plan, kind; // kind: its kernel, in plan_file.kernel
    double      start, ms, flop, bytes; // start: from the first plan's, each plan once
};
struct plan_kernel { // steps of one name and variant together
    const char *name, *variant;
    uint32_t    steps;
    double      ms, flop, bytes; // of a whole training step
};
struct plan_part_of { const char *name; uint32_t times; double start, ms; };

struct plan_file {
    const char         *device, *driver;
    double              tokens, copy_gbps, fma_gflops; // peaks; 0: unknown
    double              ms, all_ms;  // each plan once; as often as it runs
    uint32_t            plans, rows, kernels;
    struct plan_part_of *plan;
    struct plan_row    *row;
    struct plan_kernel *kernel; // most ms first
    struct arena       *arena;
};

// NULL where there is none, or after one line where it cannot be read.
struct plan_file *plan_file_read(const char *path);
void              plan_file_free(struct plan_file **file);
