// SPDX-License-Identifier: MIT
// The random numbers of a router: one Philox block for a token of the step and an expert.
#include "rng.glsl"
#include "step.glsl"
layout(binding = 0) readonly buffer Step { step_words step; };
layout(push_constant) uniform Push {
    uint tokens, experts, total, first, layer, noisy, learned;
    float jitter;
};

uvec4 noise_block(uint t, uint e)
{
    const uint token = step.micro * total + first + t;
    return rng_philox(uvec2(step.seed_low, step.seed_high), uvec4(e, token, layer, step.step));
}

float noise_normal(uvec4 block) // Box-Muller
{
    return sqrt(-2.0 * log(rng_unit(block.x))) * cos(6.283185307179586 * rng_unit(block.y));
}

float noise_factor(uvec4 block) { return 1.0 + jitter * (2.0 * rng_unit(block.z) - 1.0); }

float softplus(float x) { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }
float logistic(float x) { return 1.0 / (1.0 + exp(-x)); }
