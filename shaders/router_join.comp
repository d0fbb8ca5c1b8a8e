// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_JOIN (src/kernel.h), one lane a pair (token, domain).
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"

layout(binding = 0) readonly buffer DomainGates { float domain_gates[]; };
layout(binding = 1) readonly buffer Inverse { uint inverse[]; };
layout(binding = 2) readonly buffer Base { uint base[]; };
layout(binding = 3) readonly buffer RowIds { uint row_ids[]; };
layout(binding = 4) readonly buffer RowGates { float row_gates[]; };
layout(binding = 5) writeonly buffer Ids { uint ids[]; };
layout(binding = 6) writeonly buffer Gates { float gates[]; };
layout(push_constant) uniform Push { uint pairs, picks, size; };

const uint NONE = 0xffffffffu;

void main()
{
    const uint p = group_index() * LANES + LANE;
    if (p >= pairs) return;
    const uint row = inverse[p], first = base[row];
    const float gate = domain_gates[p];
    for (uint k = 0; k < picks; k++) {
        const uint e = row_ids[row * picks + k];
        ids[p * picks + k] = e == NONE ? NONE : first + e;
        gates[p * picks + k] = gate * row_gates[row * picks + k];
    }
}
