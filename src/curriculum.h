// SPDX-License-Identifier: MIT
// Which domain a training step is of. Domains are what the data calls its kinds of text (data.h).
//
// An epoch of a domain is each of its training windows once, in whole steps: what the last step has
// room for is taken from the next pass. A visit is up to `epochs` epochs, and ends with the first
// whose mean loss is below stop_loss. The orders:
//
//   fixed        one visit of each domain after the other, then again from the first
//   random       the same in a seeded order, another one each round
//   interleaved  step by step one domain after the other; one whose visit is over leaves the round
//   dopamine     each visit's domain is drawn by reward (dopamine.h)
//
// Nothing depends on the clock or on how many steps are in flight: where an epoch ends, the losses
// of all steps must have been observed before the next step is asked for (curriculum_waits). The
// state goes through a checkpoint, and a run that goes on draws as one that never stopped.
#pragma once

#include <cjson/cJSON.h>

#include "config.h"
#include "dopamine.h"

struct curriculum_domain {
    const char *name;        // kept by reference
    uint32_t    epoch_steps; // 0: has nothing to train on, is passed over as if held out
    bool        held_out;    // never visited
    double      bonus;
};

struct curriculum_params {
    enum config_curriculum   order;
    uint32_t                 epochs;
    double                   stop_loss; // 0: never
    struct dopamine_weights  weights;
    uint64_t                 seed;
    const struct curriculum_domain *domain; // [domains], copied
    uint32_t                 domains;
};

// One training step.
struct curriculum_step {
    uint32_t domain, visit, epoch; // visit: of the whole run, from 1; epoch: of the visit, from 1
    uint64_t index;                // steps that the domain had before, over all visits
    bool     begins;               // the first of its visit
    bool     ends;                 // the last of its epoch
    struct dopamine_terms terms;   // of the domain as the visit began
};

// A visit that is over, or under way (epochs 0 until the first is).
struct curriculum_visit {
    uint32_t domain, epochs, steps;
    double   first, last; // mean loss of its first and of its last epoch; NAN
    struct dopamine_terms terms;
};

struct curriculum;
// NULL after one line where no domain can be visited.
struct curriculum *curriculum_create(const struct curriculum_params *params);
void               curriculum_destroy(struct curriculum **curriculum);
// The next step. Where curriculum_waits, the losses of all steps before must be observed first.
struct curriculum_step curriculum_next(struct curriculum *curriculum);
bool                   curriculum_waits(const struct curriculum *curriculum);
// The mean loss over `targets` of a step, in the order of the steps; NAN: it was skipped. True
// where the step's visit is over with it.
bool curriculum_observe(struct curriculum *curriculum, const struct curriculum_step *step,
                        double loss, uint64_t targets);
// As things stand, what a domain would be worth.
struct dopamine_terms curriculum_terms(const struct curriculum *curriculum, uint32_t domain);
// Visits so far, in the order in which they began.
uint32_t curriculum_visits(const struct curriculum *curriculum,
                           const struct curriculum_visit **visit);
// Steps of one visit of each domain, without early ends.
uint64_t curriculum_round_steps(const struct curriculum *curriculum);

// The state as one JSON object, when every step is observed; caller frees.
char *curriculum_print(const struct curriculum *curriculum);
// False after one line that begins with `where`: of another order or other domains (nothing is
// changed), or damaged (it is of no more use).
bool  curriculum_parse(struct curriculum *curriculum, const char *where, const cJSON *json);
