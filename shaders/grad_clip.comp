// SPDX-License-Identifier: MIT
// KERNEL_GRAD_CLIP (src/kernel.h): from sums of squares to the norm, the factor that every gradient
// is multiplied by, and whether the step may be taken. A sum of squares that overflows f32 counts
// as not finite.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Partial { float partial[]; };
layout(binding = 2) writeonly buffer Norm { vec4 norm; };
layout(push_constant) uniform Push { uint count, index, block, accumulate; };

void main()
{
    float sum = 0.0;
    for (uint i = LANE; i < count; i += LANES) sum += partial[i];
    sum = reduce_add(sum);
    if (LANE != 0) return;
    const float scaled = sqrt(sum) * step.unscale;
    const bool finite = (floatBitsToUint(scaled) & 0x7f800000u) != 0x7f800000u;
    float factor = step.unscale;
    if (step.max_grad_norm > 0.0) factor *= min(1.0, step.max_grad_norm / (scaled + 1e-6));
    norm = vec4(scaled, finite ? factor : 0.0, finite ? 1.0 : 0.0, 0.0);
}
