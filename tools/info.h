// SPDX-License-Identifier: MIT
// vkmoe info --plan: the steps of training, what they keep where, and what a prompt keeps.
#pragma once

#include "src/model.h"
#include "tools/cli.h"

int info_plans(const struct cli *cli, const struct model *model);
