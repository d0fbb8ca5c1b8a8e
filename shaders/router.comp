// SPDX-License-Identifier: MIT
// KERNEL_ROUTER (src/kernel.h): softmax over the experts, the K largest, their gates. One workgroup
// a token; one lane a token where there are few experts. Picks go by the logit itself: the next
// pick is the largest key below the last one in the order (logit, then lowest id), so no list of
// what was taken is needed and ties are exact. NaN sorts last.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/group.glsl"
#include "lib/order.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Logits { float logits[]; };
layout(binding = 1) writeonly buffer Probs { float probs[]; };
layout(binding = 2) writeonly buffer Ids { uint ids[]; };
layout(binding = 3) buffer Gates { float gates[]; };
layout(binding = 4) writeonly buffer Lse { float lse[]; };
const uint NONE = 0xffffffffu;

// The largest (key, lowest id) of the row that is below `last` in that order; id NONE when there is
// none.
uvec2 next_pick(uint row, uvec2 last)
{
    uvec2 best = uvec2(0, NONE);
    for (uint base = FIRST; base < experts; base += 4 * STRIDE)
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint e = base + i * STRIDE;
            if (e >= experts) continue;
            const uint key = order_key(logits[row + e]);
            const bool allowed = key < last.x || (key == last.x && e > last.y);
            if (allowed && (key > best.x || best.y == NONE)) best = uvec2(key, e);
        }
    if (NARROW) return best;
    const uint key = reduce_max(best.x);
    return uvec2(key, reduce_min(best.x == key ? best.y : NONE));
}

void main()
{
    const uint own = router_token();
    if (group_index() * (NARROW ? LANES : 1) >= tokens) return;
    // lanes beyond the last token do it once more and write nothing: all lanes stay together
    const uint t = min(own, tokens - 1);
    const bool writes = own < tokens && FIRST == 0;
    const uint row = t * experts, out_row = t * top_k;

    // the first pick is the maximum that the softmax needs
    uvec2 pick = next_pick(row, uvec2(NONE, NONE));
    const float top = order_value(pick.x) * inv_temperature;
    float picked = 0.0;
    for (uint k = 0; k < top_k; k++) {
        if (k > 0) pick = next_pick(row, pick);
        const float part = pick.y == NONE ? 0.0 : exp(order_value(pick.x) * inv_temperature - top);
        picked += part;
        if (writes) {
            ids[out_row + k] = pick.y;
            gates[out_row + k] = part;
        }
    }

    float sum = 0.0;
    for (uint base = FIRST; base < experts; base += 4 * STRIDE) {
        float part = 0.0; // a short sum first: equal terms round the same way each time
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint e = base + i * STRIDE;
            part += e < experts ? exp(logits[row + e] * inv_temperature - top) : 0.0;
        }
        sum += part;
    }
    if (!NARROW) sum = reduce_add(sum);
    for (uint e = own < tokens ? FIRST : experts; e < experts; e += STRIDE)
        probs[row + e] = exp(logits[row + e] * inv_temperature - top) / sum;
    if (!writes) return;
    lse[t] = top + log(sum);
    const float scale = renormalise != 0 ? picked : sum;
    for (uint k = 0; k < top_k; k++) gates[out_row + k] /= scale;
}
