// SPDX-License-Identifier: MIT
// Loss and bits per byte of a text under an open model, as `eval` and `export` print them.
#pragma once

#include "src/evaluator.h"
#include "src/vkmoe_internal.h"
#include "tools/cli.h"

// Of --data, with --stride. False after one line.
bool eval_model(const struct cli *cli, struct vkmoe_device *device, struct vkmoe_model *model,
                struct evaluation *out);
