// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_STATS (src/kernel.h): what the log and the viewers show of a router. Every
// workgroup but the last does LANES experts, one a lane: its count and its mean probability. The
// last does the scalars: balance loss = E / T * sum_e f_e sum_t p_te, z loss, entropy; it reads
// everything once more. Loops take TURN tokens a turn: lavapipe ends the loops of an invocation
// after 65,535 turns in all.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Probs { float probs[]; };
layout(binding = 1) readonly buffer Lse { float lse[]; };
layout(binding = 2) readonly buffer Offsets { uint offsets[]; };
layout(binding = 3) writeonly buffer Stats { float stats[]; };

const uint TURN = 32;

float count(uint e) { return float(offsets[e + 1] - offsets[e]); }

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

void scalars()
{
    float load = 0.0, entropy = 0.0, square = 0.0;
    for (uint e = LANE; e < experts; e += LANES) {
        const vec2 sum = column(e);
        load += sum.x * count(e);
        entropy += sum.y;
    }
    for (uint t = LANE; t < tokens; t += LANES) square += lse[t] * lse[t];
    const float mean = 1.0 / float(tokens);
    load = reduce_add(load) * mean * mean * float(experts) / float(top_k);
    square = reduce_add(square) * mean;
    entropy = reduce_add(entropy) * mean / log(float(experts));
    if (LANE != 0) return;
    stats[0] = load;
    stats[1] = square;
    stats[2] = entropy;
    stats[3] = 0.0;
}

void main()
{
    const uint group = group_index(), groups = (experts + LANES - 1) / LANES;
    if (group > groups) return;
    if (group == groups) {
        scalars();
        return;
    }
    const uint e = group * LANES + LANE;
    if (e >= experts) return;
    stats[4 + e] = count(e);
    stats[4 + experts + e] = column(e).x / float(tokens);
}
