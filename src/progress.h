// SPDX-License-Identifier: MIT
// The progress of long work: on a terminal one line that is rewritten, in a pipe plain lines at
// most every few seconds (and always the first and the last). No escape codes in a pipe.
#pragma once

#include <stdio.h>

#include "base.h"

struct progress_params {
    const char *verb;             // "train", "eval": begins the line
    FILE       *out;              // usually stderr
    uint64_t    first, total;     // steps done before this run (resume) and at its end
    double      pipe_seconds;     // least time between plain lines; 0: 10
};

struct progress_state {
    uint64_t step;                // steps done
    double   loss;                // NAN: not shown
    double   bits_per_byte;       // NAN: not known yet
    double   tokens_per_s;        // 0: not shown
    uint64_t experts, experts_in_use; // over all MoE layers; 0: not shown
    // experts that come and go (slots 0: all stay), of the step: the share that had a slot, how
    // long the loads of the others kept the device waiting, how fast they came (0: there were
    // none), and how fast they could have come at most (0: not known)
    uint32_t slots;
    double   hit_rate, wait_ms, load_gbps, peak_gbps;
    const char *domain;           // whose turn it is; NULL: not shown
};

struct progress;
struct progress *progress_create(const struct progress_params *params);
// Shows the state when it is time to (about ten times a second at most on a terminal).
void progress_update(struct progress *progress, const struct progress_state *state);
// Clears the rewritten line so that something else can be printed; the next update shows it again.
void progress_pause(struct progress *progress);
// Shows the last state, ends the line and frees.
void progress_destroy(struct progress **progress);
