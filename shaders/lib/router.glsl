// SPDX-License-Identifier: MIT
// What the router's kernels share: the push words, and how a workgroup is divided. With few experts
// every lane has a token of its own (no reductions, and an eighth of the workgroups on lavapipe: 5
// times faster at 8 experts); else the workgroup shares one token. The grid in kernel_table.c knows
// the same limit.
layout(push_constant) uniform Push {
    uint tokens, experts, top_k, renormalise;
    float inv_temperature;
    uint total, accumulate, sigmoid, biased, groups, group_picks, pick, least, straight;
    float limit, scale, z_coef, entropy_coef, z_square_coef;
    uint domains;
};
float all_tokens() { return float(total != 0 ? total : tokens); }
#define NARROW (experts <= 32)            // ROUTER_NARROW of src/kernel_table.c
#define FIRST  (NARROW ? 0 : LANE)        // this lane's first expert
#define STRIDE (NARROW ? 1 : LANES)
uint router_token() { return NARROW ? group_index() * LANES + LANE : group_index(); }
