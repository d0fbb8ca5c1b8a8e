// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_STATS (src/kernel.h): what the log and the viewers show of each expert. A workgroup
// does LANES experts, one a lane. Loops take TURN tokens a turn: lavapipe ends the loops of an
// invocation after 65,535 turns in all.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Probs { float probs[]; };
layout(binding = 1) readonly buffer Offsets { uint offsets[]; };
layout(binding = 2) buffer Stats { float stats[]; };
layout(binding = 3) buffer Entropy { float entropy[]; };

const uint TURN = 32;

// sums over the tokens of the probability of e, and of its part of the entropy
vec2 column(uint e)
{
    vec2 sum = vec2(0.0);
    for (uint t = 0; t < tokens; t += TURN) {
        vec2 part = vec2(0.0); // short sums first: the long one stays exact
        [[unroll]] for (uint i = 0; i < TURN; i++)
            if (t + i < tokens) {
                const float p = probs[(t + i) * experts + e];
                part += vec2(p, p > 0.0 ? -p * log(p) : p);
            }
        sum += part;
    }
    return sum;
}

void main()
{
    const uint e = group_index() * LANES + LANE, mean = 4 + experts + e;
    if (e >= experts) return;
    vec2 sum = column(e);
    sum.x /= all_tokens();
    if (accumulate != 0) sum += vec2(stats[mean], entropy[e]);
    stats[4 + e] = float(offsets[e + 1] - offsets[e]);
    stats[mean] = sum.x;
    entropy[e] = sum.y;
}
