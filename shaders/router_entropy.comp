// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_ENTROPY (src/kernel.h): one workgroup or one lane a token, as in router.comp. Four
// sums, so that a lane alone does not wait for each addition.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Scores { float scores[]; };
layout(binding = 1) readonly buffer Lse { float lse[]; };
layout(binding = 2) writeonly buffer Entropy { float entropy[]; };

void main()
{
    const uint own = router_token();
    if (group_index() * (NARROW ? LANES : 1) >= tokens) return;
    const uint t = min(own, tokens - 1), row = t * experts;
    const float to_q = sigmoid != 0 ? exp(-lse[t]) : 1.0;
    vec4 sum = vec4(0.0);
    for (uint base = FIRST; base < experts; base += 4 * STRIDE)
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint e = base + i * STRIDE;
            const float q = e < experts ? scores[row + e] * to_q : 0.0;
            sum[i] += q > 0.0 ? -q * log(q) : q;
        }
    const float part = (sum.x + sum.y) + (sum.z + sum.w);
    const float all = NARROW ? part : reduce_add(part);
    if (own < tokens && FIRST == 0) entropy[t] = all;
}
