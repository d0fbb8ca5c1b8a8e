// SPDX-License-Identifier: MIT
// vkmoe-view --bench: how long a run takes to open, what memory it takes, how long frames take.
#pragma once

#include "tools/view/main.h"

struct planted { // a run folder whose numbers are made up
    const char *name;
    uint32_t    steps, layers, experts, top_k, tokens;
    bool        residency;
};
// Writes it. False after one line.
bool bench_plant(const struct planted *planted, const char *folder);
