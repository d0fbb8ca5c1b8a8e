// SPDX-License-Identifier: MIT
// What tune.c, tune_measure.c and tune_layer.c share: a tuner, the sizes that it looks at, and the
// measurement of one candidate.
#pragma once

#include "src/base.h"
#include "src/kernel_shape.h"
#include "src/tune.h"

enum { TUNE_MOST_REPEATS = 32, TUNE_MOST_DROPPED = 256 };
#define TUNE_LOST  1.5  // a variant that loses so twice, and never wins, is not tried again
#define TUNE_WORTH 0.95 // of the default's time: what a winner must stay below

// A size of an operation.
struct tuner_item {
    struct kernel_use   use;
    struct kernel_size  size;          // use.size, cut down to a run of milliseconds
    struct kernel_shape base, best;
    struct trial       *trial;         // of the base, while its unit is measured
    double              base_ms, best_ms, weight; // weight: ms of all uses
    uint32_t            repeats, parts;
};

// What is chosen together: one item, or the grouped matmuls of a layer.
struct tuner_unit {
    uint32_t item[TRIAL_MAX_PARTS], count;
    double   weight;
};

// A shape, or all of its variant, that lost; rows 0: for every size, else for about so many rows.
struct tuner_dropped { enum kernel_op op; struct kernel_shape shape; bool variant; uint32_t rows; };

struct tuner {
    struct kernels           *kernels;
    const struct tune_params *params;
    struct tune_report       *report;
    struct gpu               *gpu;
    double                    began, weight;
    uint32_t                  done, total;
    struct tuner_item        *item;
    struct tuner_unit        *unit;
    uint32_t                  item_count, unit_count;
    struct tuner_dropped      dropped[TUNE_MOST_DROPPED];
    uint32_t                  dropped_count;
    uint32_t                  lost[KERNEL_VARIANTS], won[KERNEL_VARIANTS];
    struct kernel_choice     *choice;
    uint32_t                  choice_count;
};

static inline bool tuner_is_cpu(const struct tuner *t)
{
    return t->gpu->caps.type == GPU_TYPE_CPU;
}

// ---- one measurement (tune_measure.c)

// An item in a shape, its sum split into `parts` where they are more than 1. NULL: there is none.
struct trial *tuner_trial(struct tuner *t, const struct tuner_item *item,
                          const struct kernel_shape *shape, uint32_t parts);
void tuner_get_ready(struct tuner *t, struct trial *trial, uint32_t repeats);
// item->trial becomes the default's, to be destroyed by the caller.
bool tuner_open_base(struct tuner *t, struct tuner_item *item);
// How long the default takes: what tells where to look first.
void tuner_time_base(struct tuner *t, struct tuner_item *item);
// What lost: a shape or all of its variant, for sizes of about so many rows or, 0, for every size.
void tuner_drop(struct tuner *t, enum kernel_op op, const struct kernel_shape *shape, bool variant,
                uint32_t rows);
// What need not be compiled to know that it loses.
bool tuner_is_hopeless(const struct tuner *t, const struct tuner_item *item,
                       const struct kernel_shape *shape);
// Least of some runs of a candidate over that of the default, in turn: neighbours only ever make a
// run longer. INFINITY: wrong, or out of time.
double tuner_screen(struct tuner *t, struct tuner_item *item, const struct kernel_shape *shape,
                    uint32_t parts);
// Whether a winner wins again, run in turn with the default.
bool tuner_confirm(struct trial *base, struct trial *winner, double *ratio);

// ---- the grouped matmuls of a layer (tune_layer.c)

void tuner_layer(struct tuner *t, const struct tuner_unit *unit);
// The rows that a layer's tile table may have: those of moe_matmul_up, which stands for the layer
// (kernels_shape), the default's first.
uint32_t tuner_layer_rows(const struct tuner *t, const struct tuner_item *item,
                          struct kernel_shape list[KERNEL_MAX_CANDIDATES]);
