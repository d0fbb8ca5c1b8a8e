// SPDX-License-Identifier: MIT
// What a checkpoint has of a model in training: weights, the optimizer's state, the mean of the
// weights, and in state.json where the loop is. Where experts come and go, theirs lie in the run's
// store, and the checkpoint has its manifest (experts_pack.h): the same files that vkmoe pack and
// init write and vkmoe unpack reads.
#pragma once

#include "checkpoint.h"
#include "curriculum.h"
#include "data.h"
#include "experts.h"
#include "params.h"
#include "routing.h"

// The experts of a run on the disk, open for writing.
struct train_store;

// `from`: the folder of the checkpoint that it goes on from; NULL: nothing is in it yet. The run
// folder `dir` is open for writing (checkpoint_open). NULL after one line.
struct train_store    *train_store_open(const struct model *model, const char *dir,
                                        const char *from);
// One that never came to a checkpoint is removed. NULL: nothing.
void                   train_store_close(struct train_store **store);
// For the trainer, of whom it does not become a part.
struct experts_source  train_store_source(struct train_store *store);
struct store          *train_store_records(struct train_store *store); // NULL: NULL
// After checkpoint_commit: what only checkpoints that are gone named becomes free. NULL: nothing.
bool                   train_store_keep(struct train_store *store);

struct train_values {
    struct params      *params;
    struct train_store *store;    // NULL: all is in params
    bool                averaged; // there is a mean of the weights
};

// Files that are not there leave initial values where the store's format says so.
bool train_values_load(const struct train_values *values, const char *checkpoint);
// Into the checkpoint that was begun. No step may be in flight.
bool train_values_save(const struct train_values *values, struct checkpoint *folder,
                       uint32_t step);

// state.json. The first four are the run's; what routers did is read into `routing`, where the
// curriculum is into `curriculum` (NULL: none).
struct train_state {
    const struct config *config;
    const struct data   *data;
    struct routing      *routing;
    struct curriculum   *curriculum;
    uint32_t             step;
    uint64_t             windows;  // used since the run began
    uint64_t             averaged; // steps that are in the mean of the weights
    double               seconds;  // of training; kept where the config limits them
};

bool train_state_write(const struct train_state *state, struct checkpoint *folder);
// False after one line; of other data, too. What the file does not have stays as it is.
bool train_state_read(struct train_state *state, const char *checkpoint);
