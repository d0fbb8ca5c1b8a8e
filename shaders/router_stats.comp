// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_STATS (src/kernel.h): what the losses, the log and the viewers know of each expert.
// A workgroup does LANES experts, one a lane. Loops take TURN tokens a turn: lavapipe ends the
// loops of an invocation after 65,535 turns in all. WITHIN: the rows of an expert's domain.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Scores { float scores[]; };
layout(binding = 1) readonly buffer Offsets { uint offsets[]; };
#ifdef WITHIN
#define STAT_EXPERTS (domains * experts)
layout(binding = 2) readonly buffer Begin { uint begin[]; };
layout(binding = 3) buffer Stats { float stats[]; };
layout(binding = 4) buffer Sums { float sums[]; };
#else
#define STAT_EXPERTS experts
layout(binding = 2) readonly buffer Lse { float lse[]; };
layout(binding = 3) readonly buffer Logits { float logits[]; };
layout(binding = 4) buffer Stats { float stats[]; };
layout(binding = 5) buffer Sums { float sums[]; };
#endif
#include "lib/router_stats.glsl"

const uint TURN = 32;

// the sum over the tokens of q of e; the loops apart, for CPU drivers would take the exponential of
// both
#define COLUMN(name, quotient)                                                      \
    float name(uint e, uint first, uint end)                                        \
    {                                                                               \
        float sum = 0.0;                                                            \
        for (uint t = first; t < end; t += TURN) {                                  \
            float part = 0.0; /* short sums first: the long one stays exact */      \
            [[unroll]] for (uint i = 0; i < TURN; i++)                              \
                if (t + i < end) part += scores[(t + i) * experts + e] * (quotient); \
            sum += part;                                                            \
        }                                                                           \
        return sum;                                                                 \
    }
COLUMN(column, 1.0)
#ifndef WITHIN
COLUMN(divided_column, exp(-lse[t + i]))

float squares(uint e)
{
    float sum = 0.0;
    for (uint t = 0; t < tokens; t += TURN) {
        float part = 0.0;
        [[unroll]] for (uint i = 0; i < TURN; i++)
            if (t + i < tokens) {
                const float z = logits[(t + i) * experts + e] * inv_temperature;
                part += z * z;
            }
        sum += part;
    }
    return sum;
}
#endif

void main()
{
    const uint e = group_index() * LANES + LANE;
    if (e >= STAT_EXPERTS) return;
    const bool adds = accumulate != 0;
#ifdef WITHIN
    const uint d = e / experts;
    const float own = column(e % experts, begin[d], begin[d + 1]);
    const float square = 0.0;
#else
    const float own = sigmoid != 0 ? divided_column(e, 0, tokens) : column(e, 0, tokens);
    const float square = z_square_coef != 0.0 ? squares(e) : 0.0;
#endif
    stats[stat_count(e)] = float(offsets[e + 1] - offsets[e]);
    stats[stat_mean(e)] = own / all_tokens() + (adds ? stats[stat_mean(e)] : 0.0);
    sums[e] = square + (adds ? sums[e] : 0.0);
}
