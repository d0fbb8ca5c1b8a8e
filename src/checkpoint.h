// SPDX-License-Identifier: MIT
// A run is a folder: config.json, tokenizer.json, metrics.jsonl, model.safetensors, and the newest
// checkpoint to resume from, in a folder of its own:
//
//     DIR/checkpoint-00000120/   whole: written as DIR/checkpoint.tmp, synced, then renamed
//     DIR/model.safetensors      a second name of the newest checkpoint's
//     DIR/.lock                  held by the one process that writes here
//
// At any moment (a crash, a full disk, kill -9) the last committed checkpoint is there and is the
// one that checkpoint_find names. What a crash left is cleaned up when the folder is opened next.
#pragma once

#include "base.h"

struct checkpoint; // a run folder open for writing

// Makes the folder, takes the lock, cleans up. NULL after one line (unwritable, in use by another
// process).
struct checkpoint *checkpoint_open(const char *dir);
// The same for a run that keeps its newest `keep` checkpoints (0: all), not only the last.
struct checkpoint *checkpoint_open_keeping(const char *dir, uint32_t keep);
void               checkpoint_close(struct checkpoint **checkpoint); // drops an unfinished one

// Begins the checkpoint of a step. A step below the newest one's is refused: that is another run's
// folder.
bool checkpoint_begin(struct checkpoint *checkpoint, uint64_t step);
// Where the files of the checkpoint being written go; valid until the next call with this object.
const char *checkpoint_path(struct checkpoint *checkpoint, const char *name);
// A small file of it, such as state.json.
bool checkpoint_write(struct checkpoint *checkpoint, const char *name, const char *text);
// Makes it the newest one and removes those that are not kept. False: one line was logged, and
// the previous one stays usable.
bool checkpoint_commit(struct checkpoint *checkpoint);
void checkpoint_abort(struct checkpoint *checkpoint); // NULL or nothing begun: fine

// Files of the run itself, beside the checkpoints: written beside and renamed.
const char *checkpoint_run_path(struct checkpoint *checkpoint, const char *name);
bool        checkpoint_run_write(struct checkpoint *checkpoint, const char *name, const char *text);
bool        checkpoint_run_copy(struct checkpoint *checkpoint, const char *from, const char *name);

// The newest checkpoint of a folder, for readers too (no lock). False without a line where there is
// none.
struct checkpoint_found {
    uint64_t step;
    char     path[4096]; // the checkpoint's folder
};
bool checkpoint_find(const char *dir, struct checkpoint_found *out);
// Where weights_load finds one of the sets of weights of a folder, by name: "model" (NULL: the
// same); "average", the mean that training kept (ema_decay, swa_every), of the newest checkpoint.
// Caller frees; NULL after one line.
char *checkpoint_weights(const char *dir, const char *weights);
bool  checkpoint_is_model(const char *weights); // NULL or "model"
// Steps of the checkpoints that a folder keeps, ascending, at most `capacity`; each lies in
// DIR/checkpoint-NNNNNNNN, eight digits or more.
uint32_t checkpoint_list(const char *dir, uint64_t *step, uint32_t capacity);
