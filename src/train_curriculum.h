// SPDX-License-Identifier: MIT
// Which windows each step of a run is of: the data's next ones, or where there is a curriculum
// (curriculum.h) those of the domain whose turn it is; what domains are measured at, and when:
//
//   start     a domain's held-out text before the first step of each visit
//   end       the same behind its last step
//   held_out  of domains that are never visited: at the run's start and behind every visit
//   final     of all domains, when the run is over
//   exchanged, exchanged_all  final too, of patterns: behind the inputs of another pattern of the
//             domain, of any domain (fct_source.h)
//
// Each is a line in metrics.jsonl. A line of `start` has the number of the step that follows.
#pragma once

#include <stdbool.h>

#include "curriculum.h"
#include "data.h"

struct run_state;
struct train_curriculum;

// What a step is of.
struct train_part {
    const struct data *data;   // all of it, or one domain
    uint64_t           first;  // position of its first window in that
    const char        *domain; // NULL: there is no curriculum, and no `step`
    struct curriculum_step step;
};

// Where the config asks for one. False after one line.
bool train_curriculum_open(struct run_state *r);
void train_curriculum_close(struct train_curriculum **curriculum);
// For the checkpoint; NULL: NULL.
struct curriculum *train_curriculum_state(struct train_curriculum *curriculum);

// The part of step r->step + 1, in r->part; evaluates where a visit begins with it.
bool train_part_next(struct run_state *r);
// What came of a step that was collected.
void train_part_observe(struct run_state *r, uint32_t step, double loss, uint64_t targets);
// Behind a submit: where an epoch ends with it, its steps are collected, and where the visit ends,
// its domain is evaluated.
bool train_part_end(struct run_state *r);
// When the run is over.
bool train_parts_final(struct run_state *r);
