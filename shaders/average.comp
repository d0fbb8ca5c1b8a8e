// SPDX-License-Identifier: MIT
// KERNEL_AVERAGE (src/kernel.h): a mean of the weights goes a part of the way towards them. A
// workgroup does LANES * 64 elements.
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
    const uint each = LANES * 64, begin = group_index() * each; // OPTIMIZER_PER_LANE
    if (begin >= count) return;
    const uint end = min(begin + each, count);
    const bool whole = way == 1.0; // a copy, whatever mean was
    uint q = begin / 4 + LANE, i = end / 4 * 4 + LANE;
    do { // tested at the bottom: lib/optimizer.glsl
        if (q < end / 4) {
            const vec4 x = p4[q], old = mean4[q];
            mean4[q] = whole ? x : old + way * (x - old);
        }
        q += LANES;
    } while (q < end / 4);
    do {
        if (i < end) mean[i] = whole ? p[i] : mean[i] + way * (p[i] - mean[i]);
        i += LANES;
    } while (i < end);
}
