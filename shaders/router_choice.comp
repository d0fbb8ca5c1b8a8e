// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_CHOICE (src/kernel.h): what picks go by. One workgroup a token. With groups, each
// lane finds the two largest of its groups, then how many groups come before each of them, in the
// order (sum of the two, then lowest group).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/order.glsl"
#include "lib/router.glsl"

layout(binding = 0) readonly buffer Scores { float scores[]; };
layout(binding = 1) readonly buffer Bias { STORE bias[]; };
layout(binding = 2) writeonly buffer Choice { float choice[]; };

const uint MOST_GROUPS = 256; // CONFIG_MAX_GROUPS of src/config.h
shared uint group_key[MOST_GROUPS];
shared uint inside[MOST_GROUPS];

float biased_score(uint row, uint e)
{
    return scores[row + e] + (biased != 0 ? LOAD(bias[e]) : 0.0);
}

// Of the sum of its two largest; of the one where groups are single experts.
uint key_of(uint row, uint group, uint size)
{
    uint first = 0, second = 0;
    for (uint i = 0; i < size; i++) {
        const uint key = order_key(biased_score(row, group * size + i));
        second = max(second, min(first, key));
        first = max(first, key);
    }
    return order_key(order_value(first) + (size > 1 ? order_value(second) : 0.0));
}

void pick_groups(uint row, uint size)
{
    for (uint g = LANE; g < groups; g += LANES) group_key[g] = key_of(row, g, size);
    barrier();
    for (uint g = LANE; g < groups; g += LANES) {
        uint before = 0;
        for (uint i = 0; i < groups; i++)
            before += uint(group_key[i] > group_key[g] || (group_key[i] == group_key[g] && i < g));
        inside[g] = uint(before < group_picks);
    }
    barrier();
}

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    const uint row = t * experts, size = experts / max(groups, 1);
    if (groups > 1) pick_groups(row, size);
    for (uint e = LANE; e < experts; e += LANES) {
        const bool open = groups <= 1 || inside[e / size] != 0;
        choice[row + e] = open ? biased_score(row, e) : uintBitsToFloat(0xff800000u);
    }
}
