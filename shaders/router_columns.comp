// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_COLUMNS (src/kernel.h): one workgroup an expert, its column of the scores over the
// lanes. The key of its last token is found two bits at a time, by counting; then it takes what is
// above, and of what is equal the first tokens. Loops take many tokens a turn: lavapipe ends the
// loops of an invocation after 65,535 turns in all (2^18 tokens take 41,000 with 4 lanes).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/group.glsl"
#include "lib/order.glsl"

layout(binding = 0) readonly buffer Scores { float scores[]; };
layout(binding = 1) writeonly buffer Ids { uint ids[]; };
layout(binding = 2) writeonly buffer Gates { float gates[]; };
layout(push_constant) uniform Push { uint tokens, experts, capacity; float scale; };

const uint NONE = 0xffffffffu, COUNT_TURN = 32, WRITE_TURN = 8;

// How many keys of the column are at least each of three bounds, which are above 0.
uvec3 at_least(uint e, uvec3 bound)
{
    uvec3 count = uvec3(0);
    for (uint base = LANE; base < tokens; base += COUNT_TURN * LANES)
        [[unroll]] for (uint i = 0; i < COUNT_TURN; i++) {
            const uint t = base + i * LANES;
            const uint key = t < tokens ? order_key(scores[t * experts + e]) : 0;
            count += uvec3(greaterThanEqual(uvec3(key), bound));
        }
    return uvec3(reduce_add(count.x), reduce_add(count.y), reduce_add(count.z));
}

// The largest key that at least `capacity` of them reach: of the last token that is taken.
uint last_key(uint e)
{
    uint key = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        const uvec3 count = at_least(e, key + (uvec3(1, 2, 3) << shift));
        const uvec3 reached = uvec3(greaterThanEqual(count, uvec3(capacity)));
        key += (reached.x + reached.y + reached.z) << shift;
    }
    return key;
}

void main()
{
    const uint e = group_index();
    if (e >= experts) return;
    const uint last = last_key(e), equal = capacity - at_least(e, uvec3(last + 1)).x;
    uint before = 0; // equal ones so far
    for (uint base = 0; base < tokens; base += WRITE_TURN * LANES)
        [[unroll]] for (uint i = 0; i < WRITE_TURN; i++) {
            const uint t = base + i * LANES + LANE;
            const float score = t < tokens ? scores[t * experts + e] : 0.0;
            const uint key = order_key(score);
            uint all;
            const uint own = before + scan_add(uint(t < tokens && key == last), all);
            const bool taken = key > last || (key == last && own < equal);
            before += all;
            if (t >= tokens) continue;
            ids[t * experts + e] = taken ? e : NONE;
            gates[t * experts + e] = taken ? scale * score : 0.0;
        }
}
