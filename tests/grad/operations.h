// SPDX-License-Identifier: MIT
// What the files of this program share: operations.c with its main, routers.c, experts.c.
#pragma once

#include "grad.h"

// What the forward and the objective of the case under way need: its arrays by role.
struct operation {
    int x, w, y, aux, r, v, k, q, lse, ids, gates, probs, logits, offsets, order, inverse, tiles,
        ranges, loss, step, counts, indirect;
    int weight; // of the objective
    int begins; // where documents begin; -1: the operations that know of none
    union {
        struct push_norm norm;
        struct push_matmul matmul;
        struct push_rope rope;
        struct push_attention attention;
        struct push_activate activate;
        struct push_router router;
        struct push_router_noise router_noise;
        struct push_moe_combine combine;
        struct push_loss loss;
        struct push_embed embed;
        struct push_column_scale scale;
        struct push_router_join join;
        struct push_mix mix;
        struct push_smear smear;
    } push;
    struct push_moe_sort sort;
};
extern struct operation s;

void   tally(bool ok); // of what main prints
double weighted(struct grad_case *c); // an objective: y times the weights
int    step_array(struct grad_case *c, const struct step_words *step);
int    copy_of(struct grad_case *c, const char *name, int array);
// The slope of relu2 has a corner at 0: differences are off by what the step crosses there.
void   corner(struct grad_case *c);

void router_cases(void); // routers.c
void expert_cases(void); // experts.c
