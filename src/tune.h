// SPDX-License-Identifier: MIT
// The choice of kernels by measurement: at first use on a device every candidate of the matmul
// family is checked against its reference and timed at a few sizes; what is wrong or slow is
// dropped. The result is kept by device and driver, beside the pipeline cache, and written into the
// run folder so that a resumed run computes the same bytes.
#pragma once

#include "kernel.h"

struct tune_params {
    enum dtype  store;      // of the model that is about to run
    const char *cache_dir;  // NULL: the user's cache folder; "": nothing is kept
    bool        again;      // measure though a result is kept
    double      seconds;    // stop after; 0: 20. What was not measured takes its default.
    // Called before each measurement, may be NULL.
    void (*progress)(void *user, const char *kernel, uint32_t done, uint32_t total);
    void *user;
};

struct tune_report {
    bool     kept;                 // nothing was measured: the kept result was taken
    uint32_t measured, wrong, late; // candidates: timed, dropped by the self-test, left out of time
    double   seconds;
    char     path[4096];           // where the result is kept; "" where nowhere
};

// Gives `kernels` the choices for this storage type. False only where the device failed (logged): a
// kept result that cannot be read or written costs a new measurement and one warning.
bool tune(struct kernels *kernels, const struct tune_params *params, struct tune_report *report);
bool     tune_is_kept(struct kernels *kernels, const struct tune_params *params);
uint32_t tune_count(struct kernels *kernels, enum dtype store); // measurements it would make
// tune() at the start of a run, with a progress line and what it found in the log.
bool tune_at_start(struct kernels *kernels, enum dtype store, bool quiet);

// The choices in force, as JSON for the run folder (to be freed), and back. tune_take returns false
// without a line where the text is of another device, driver or set of kernels.
char *tune_print(const struct kernels *kernels);
bool  tune_take(struct kernels *kernels, const char *text, uint64_t bytes);
