// SPDX-License-Identifier: MIT
// Memory of the host that a training run takes: what the process has by the time that all is open,
// measured, and what steps and checkpoints will add, by account. A budget is kept, or refused
// before the first step with the smallest that would do.
#pragma once

#include "data.h"
#include "params.h"

struct train_host {
    struct gpu          *gpu;
    const struct params *params;
    const struct data   *data;
    struct store        *store;  // of the experts that come and go; NULL: all stay
    uint64_t             budget; // bytes; 0: what this process may use at all, where that is known
    bool                 given;  // else it is only warned
};

// Bytes that the run needs at most, each part of it told to the log (debug). Nothing is in flight.
uint64_t train_host_need(const struct train_host *host);
// False after one line.
bool     train_host_fits(const struct train_host *host);
// The most that it took up to now, without the device's memory where that is the host's own.
uint64_t train_host_peak(const struct gpu *gpu);
