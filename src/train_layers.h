// SPDX-License-Identifier: MIT
// What a training step tells of each MoE layer: the numbers of a line of metrics.jsonl, what is
// known of routing since the run began, and the routing trace.
#pragma once

#include "data.h"
#include "metrics.h"
#include "routing.h"
#include "trace.h"
#include "trainer.h"

struct train_told { struct experts_counts counts; }; // up to which residency.trace has told

struct train_layers {
    const struct config  *config;
    const struct data    *data;    // that the step's windows are of
    uint64_t              first;   // position in it of the step's first window
    struct metrics_layer *layer;   // [MoE layers] is filled
    struct routing       *routing;
    struct trace_writer  *trace, *residency; // NULL: none is wanted
    struct train_told    *told;
    const struct experts *experts; // NULL: all stay
};

void train_layers_observe(const struct train_layers *to, const struct trainer_result *result);
