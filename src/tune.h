// SPDX-License-Identifier: MIT
// The choice of kernels by measurement: for the sizes that a model's plans ask for, what takes most
// of their time first, candidates are compared with the default, in what they write and in time,
// and one that is right and faster for sure takes its place. The result is kept by device and
// driver, beside the pipeline cache, and written into the run folder so that a resumed run computes
// the same bytes.
#pragma once

#include "tune_trial.h"

struct tune_params {
    enum dtype  store;      // of the model that is about to run
    const char *cache_dir;  // NULL: the user's cache folder; "": nothing is kept
    bool        again;      // forget what is kept of these sizes (without `use`: of this type)
    double      seconds;    // stop after; 0: 15. What was not measured takes its default.
    // What to measure (kernels_uses), but what is known already; NULL: a general grid of sizes.
    const struct kernel_use *use;
    uint32_t                 use_count;
    // Called before each candidate, may be NULL.
    void (*progress)(void *user, const char *kernel, uint32_t done, uint32_t total);
    void *user;
    trial_pretend *pretend; // for tests
    void          *pretend_user;
};

struct tune_report {
    uint32_t sizes;    // (operation, size) pairs that were not known before
    uint32_t measured, wrong, late; // candidates: timed, found wrong, left out of time
    uint32_t changed;  // sizes that took another than their default
    double   seconds;
    char     path[4096]; // where the result is kept; "" where nowhere
};

// Gives `kernels` the choices for this storage type. False only where the device failed (logged): a
// kept result that cannot be read or written costs a new measurement and one warning.
bool tune(struct kernels *kernels, const struct tune_params *params, struct tune_report *report);
// Reads what is kept, of all types; whether something is of this type.
bool tune_is_kept(struct kernels *kernels, const struct tune_params *params);
// tune() for the plans that were just built, behind tune_is_kept(), so that a kept result that is
// of no use is told once; with a progress line and what it found in the log. `changed`: they have
// to be built again to gain from it.
bool tune_at_start(struct kernels *kernels, enum dtype store, bool quiet, bool *changed);

// The choices in force, as JSON for the run folder (to be freed), and back. tune_take returns false
// without a line where the text is of another device, driver or set of kernels.
char *tune_print(const struct kernels *kernels);
bool  tune_take(struct kernels *kernels, const char *text, uint64_t bytes);

// ---- shared by tune*.c
bool tune_path(const struct tune_params *params, const struct gpu_caps *caps, char *path,
               size_t size);
void tune_read(struct kernels *kernels, const char *path);
void tune_write(const struct kernels *kernels, const char *path);
