// SPDX-License-Identifier: MIT
// KERNEL_EXPERT_STEPS (src/kernel.h): the step that each touched expert takes, 0 for the others.
// One a lane.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/head.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Norm { float norm[4]; };
layout(binding = 2) buffer Steps { uint steps[]; };
layout(binding = 3) buffer Touched { uint touched[]; };
layout(push_constant) uniform Push { uint count, use_global; };

void main()
{
    const uint i = group_index() * LANES + LANE;
    if (i >= count) return;
    uint t = 0;
    if (touched[i] != 0 && norm[2] != 0.0) {
        t = step.step;
        if (use_global == 0) {
            t = steps[i] + 1;
            steps[i] = t;
        }
    }
    touched[i] = t;
}
