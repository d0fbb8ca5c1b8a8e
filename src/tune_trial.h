// SPDX-License-Identifier: MIT
// One way to compute something, ready to be timed again and again: kernels with made-up inputs of a
// size, recorded once. Trials of the same work are compared by what they write and, alternately, by
// how long they take.
#pragma once

#include "kernel_device.h"

struct trial_part {
    const struct kernel *kernel;
    struct kernel_size   size;
    const struct kernel *sum;   // matmul_sum or _sumf behind a matmul that is split, else NULL
    uint32_t             parts; // of the split
};

enum { TRIAL_MAX_PARTS = 8 };
struct trial;

// For tests: what a run of a kernel is said to take, `run` from 0, instead of what it took.
typedef double trial_pretend(void *user, const struct kernel *kernel, uint32_t run, double ms);

// Runs once and remembers what was written. NULL: out of memory, or the device failed (logged).
struct trial *trial_create(struct gpu *gpu, const struct trial_part *part, uint32_t count);
void          trial_destroy(struct trial **trial);
// Runs that one measurement takes: short kernels are repeated.
bool trial_repeat(struct trial *trial, uint32_t repeats);
void trial_set_pretend(struct trial *trial, trial_pretend *pretend, void *user);
// Milliseconds of one run (the mean of the repeats); INFINITY where the device failed.
double trial_run(struct trial *trial);
double trial_flops(const struct trial *trial); // of one run, without split sums
// Whether the first runs wrote the same, but for rounding. The bytes of outputs are of one layout
// whatever the shape of a kernel.
bool trial_agree(const struct trial *a, const struct trial *b);

// The median over `pairs` of how long b takes of a's time, runs of both in turn; `below`: how many
// pairs b won.
double trial_compare(struct trial *a, struct trial *b, uint32_t pairs, uint32_t *below);
