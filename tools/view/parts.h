// SPDX-License-Identifier: MIT
// What panels remember from frame to frame: what is dear to compute and changes seldom.
#pragma once

#include "tools/view/view.h"

struct experts_part; // panel_experts.c
struct plan_part;    // panel_plan.c
struct sample_part;  // sample.c
struct special_part; // panel_specialisation.c
struct tokens_part;  // panel_tokens.c

struct view_parts {
    struct experts_part *experts;
    struct plan_part    *plan;
    struct sample_part  *sample;
    struct special_part *special;
    struct tokens_part  *tokens;
    bool                 pending; // a part will have more in the next frame
};
void experts_part_free(struct experts_part **part);
void plan_part_free(struct plan_part **part);
void sample_part_free(struct sample_part **part);
void special_part_free(struct special_part **part);
void tokens_part_free(struct tokens_part **part);
