// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_HASH (src/kernel.h): one workgroup a token.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Ids { uint ids[]; };
layout(binding = 1) writeonly buffer Scores { float scores[]; };
layout(binding = 2) writeonly buffer Picks { uint picks[]; };
layout(binding = 3) writeonly buffer Gates { float gates[]; };
layout(binding = 4) writeonly buffer Lse { float lse[]; };
layout(push_constant) uniform Push { uint tokens, experts, top_k, layer; };

uint mixed(uint x) // MurmurHash3's finalizer
{
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    const uint apart = experts / top_k, first = mixed(ids[t] + layer * 0x9e3779b9u) % experts;
    for (uint e = LANE; e < experts; e += LANES) {
        const uint ahead = (e + experts - first) % experts; // of the first pick
        const bool picked = ahead % apart == 0 && ahead / apart < top_k;
        scores[t * experts + e] = picked ? 1.0 / float(top_k) : 0.0;
    }
    for (uint k = LANE; k < top_k; k += LANES) {
        picks[t * top_k + k] = (first + k * apart) % experts;
        gates[t * top_k + k] = 1.0 / float(top_k);
    }
    if (LANE == 0) lse[t] = 0.0;
}
