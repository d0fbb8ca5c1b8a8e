// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_SCORE (src/kernel.h): softmax or sigmoid of a token's logits, and the logarithm of
// what it was, or would be, divided by. One workgroup a token; one lane a token where there are few
// experts.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Logits { float logits[]; };
layout(binding = 1) writeonly buffer Scores { float scores[]; };
layout(binding = 2) writeonly buffer Lse { float lse[]; };

float largest(uint row)
{
    float top = -3.4e38;
    for (uint e = FIRST; e < experts; e += STRIDE)
        top = max(top, logits[row + e] * inv_temperature);
    return NARROW ? top : reduce_max(top);
}

float score(uint i, float top)
{
    const float z = logits[i] * inv_temperature;
    return sigmoid != 0 ? 1.0 / (1.0 + exp(-z)) : exp(z - top);
}

void main()
{
    const uint own = router_token();
    if (group_index() * (NARROW ? LANES : 1) >= tokens) return;
    // lanes beyond the last token do it once more and write nothing: all lanes stay together
    const uint t = min(own, tokens - 1), row = t * experts;
    const float top = sigmoid != 0 ? 0.0 : largest(row);
    float sum = 0.0;
    for (uint base = FIRST; base < experts; base += 4 * STRIDE) {
        float part = 0.0; // a short sum first: equal terms round the same way each time
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint e = base + i * STRIDE;
            part += e < experts ? score(row + e, top) : 0.0;
        }
        sum += part;
    }
    if (!NARROW) sum = reduce_add(sum);
    const float divisor = sigmoid != 0 ? 1.0 : sum;
    if (own >= tokens) return;
    for (uint e = FIRST; e < experts; e += STRIDE)
        scores[row + e] = score(row + e, top) / divisor;
    if (FIRST == 0) lse[t] = top + log(sum);
}
