// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_JOIN_BACK (src/kernel.h), one lane a pair (token, domain).
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer DomainGates { float domain_gates[]; };
layout(binding = 1) readonly buffer Inverse { uint inverse[]; };
layout(binding = 2) readonly buffer RowGates { float row_gates[]; };
layout(binding = 3) readonly buffer Dgates { float dgates[]; };
layout(binding = 4) writeonly buffer Ddomain { float ddomain[]; };
layout(binding = 5) writeonly buffer Drow { float drow[]; };
layout(push_constant) uniform Push { uint pairs, picks, size; };

void main()
{
    const uint p = group_index() * LANES + LANE;
    if (p >= pairs) return;
    const uint row = inverse[p];
    const float gate = domain_gates[p];
    float sum = 0.0;
    for (uint k = 0; k < picks; k++) {
        const float d = dgates[p * picks + k];
        sum += d * row_gates[row * picks + k];
        drow[row * picks + k] = d * gate;
    }
    ddomain[p] = sum;
}
