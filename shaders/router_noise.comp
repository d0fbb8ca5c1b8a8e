// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_NOISE (src/kernel.h): one workgroup a token.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/router_noise.glsl"

layout(binding = 1) readonly buffer Noise { float noise[]; };
layout(binding = 2) readonly buffer Temperature { STORE temperature[]; };
layout(binding = 3) buffer Logits { float logits[]; };

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    const float scale = learned != 0 ? 1.0 / softplus(LOAD(temperature[0])) : 1.0;
    for (uint e = LANE; e < experts; e += LANES) {
        const uint i = t * experts + e;
        float z = logits[i];
        if (noisy != 0 || jitter != 0.0) {
            const uvec4 block = noise_block(t, e);
            z *= noise_factor(block);
            if (noisy != 0) z += noise_normal(block) * softplus(noise[i]);
        }
        logits[i] = z * scale;
    }
}
