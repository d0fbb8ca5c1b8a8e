// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_PICK (src/kernel.h): picks and gates from scores. The next pick is the largest key
// below the last one in the order (choice, then lowest id), as in router.comp; once one is not
// taken, none is after it.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/group.glsl"
#include "lib/order.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Choice { float choice[]; };
layout(binding = 1) readonly buffer Scores { float scores[]; };
layout(binding = 2) writeonly buffer Ids { uint ids[]; };
layout(binding = 3) buffer Gates { float gates[]; };
const uint NONE = 0xffffffffu;
const uint THRESHOLD = 1, MASS = 2, ALL = 3; // enum kernel_pick

uvec2 next_pick(uint row, uvec2 last)
{
    uvec2 best = uvec2(0, NONE);
    for (uint base = FIRST; base < experts; base += 4 * STRIDE)
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint e = base + i * STRIDE;
            if (e >= experts) continue;
            const uint key = order_key(choice[row + e]);
            const bool allowed = key < last.x || (key == last.x && e > last.y) || last.y == NONE;
            if (allowed && (key > best.x || best.y == NONE)) best = uvec2(key, e);
        }
    if (NARROW) return best;
    const uint key = reduce_max(best.x);
    return uvec2(key, reduce_min(best.x == key ? best.y : NONE));
}

// Whether the k-th pick is taken, where those before it were and have this sum.
bool takes(uint k, float score, float before)
{
    if (k < least) return true;
    if (pick == THRESHOLD) return score > limit;
    return pick != MASS || before < limit;
}

void main()
{
    const uint own = router_token();
    if (group_index() * (NARROW ? LANES : 1) >= tokens) return;
    const uint t = min(own, tokens - 1), row = t * experts, out_row = t * top_k;
    const bool writes = own < tokens && FIRST == 0;
    uvec2 last = uvec2(NONE, NONE);
    float sum = 0.0;
    bool taking = true;
    for (uint k = 0; k < top_k; k++) {
        if (pick == ALL) last = uvec2(0, k);
        else if (taking) last = next_pick(row, last);
        const bool found = taking && last.y != NONE;
        const float score = found ? scores[row + last.y] : 0.0;
        taking = found && takes(k, score, sum);
        if (taking) sum += score;
        if (!writes) continue;
        ids[out_row + k] = taking ? last.y : NONE;
        gates[out_row + k] = !taking ? 0.0 : straight != 0 ? 1.0 : score;
    }
    if (!writes || straight != 0) return;
    const float factor = renormalise != 0 ? scale / (sum + 1e-20) : scale; // as DeepSeek's
    for (uint k = 0; k < top_k; k++) gates[out_row + k] *= factor;
}
