// SPDX-License-Identifier: MIT
// KERNEL_AVERAGE (src/kernel.h): a mean of the weights goes a part of the way towards them. A
// workgroup does LANES * 16 elements.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/step.glsl"

layout(push_constant) uniform Push { uint count; };
layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer P { float p[]; };
layout(binding = 1) readonly buffer P4 { vec4 p4[]; };
layout(binding = 2) buffer Mean { float mean[]; };
layout(binding = 2) buffer Mean4 { vec4 mean4[]; };

void main()
{
    const float way = step.average;
    if (way == 0.0) return;
    const uint each = LANES * 16, begin = group_index() * each; // ELEMENTS_PER_LANE
    if (begin >= count) return;
    const uint end = min(begin + each, count);
    const bool whole = way == 1.0; // a copy, whatever mean was
    for (uint q = begin / 4 + LANE; q < end / 4; q += LANES) {
        const vec4 x = p4[q];
        if (whole) mean4[q] = x;
        else mean4[q] += way * (x - mean4[q]);
    }
    for (uint i = end / 4 * 4 + LANE; i < end; i += LANES)
        mean[i] = whole ? p[i] : mean[i] + way * (p[i] - mean[i]);
}
