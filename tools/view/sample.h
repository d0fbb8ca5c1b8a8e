// SPDX-License-Identifier: MIT
// Tokens of the last traced steps up to the slider, with what one layer picked for them: what is
// said of experts' tokens and domains is counted over these.
#pragma once

#include "tools/view/view.h"

enum { SAMPLE_STEPS = 64, SAMPLE_TOKENS = 16384 }; // at most

struct sample {
    uint32_t  tokens, top_k, layer, first_step, last_step;
    uint32_t *id, *domain; // [tokens]; domain: HISTORY_NONE where there is none
    uint32_t *pick;        // [tokens][top_k]; HISTORY_NONE: not taken
    float    *gate;        // [tokens][top_k]; NAN where it is not told
    bool      domains;     // some token has one
    uint64_t  version;     // grows with every change
};

// Of the slider's step and layer; NULL: no tokens were traced. Holds until the next frame.
const struct sample *sample_get(struct view *view);
