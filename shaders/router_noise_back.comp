// SPDX-License-Identifier: MIT
// KERNEL_ROUTER_NOISE_BACK (src/kernel.h): one workgroup a token. With z = h / s, s =
// softplus(temperature): dh = dz / s, ds = -sum dz z / s.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/router_noise.glsl"

layout(binding = 1) readonly buffer Noise { float noise[]; };
layout(binding = 2) readonly buffer Temperature { STORE temperature[]; };
layout(binding = 3) readonly buffer Logits { float logits[]; };
layout(binding = 4) buffer Dlogits { STORE dlogits[]; };
layout(binding = 5) writeonly buffer Dnoise { STORE dnoise[]; };
layout(binding = 6) writeonly buffer Partial { float part[]; };

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    const float theta = learned != 0 ? LOAD(temperature[0]) : 0.0;
    const float scale = learned != 0 ? 1.0 / softplus(theta) : 1.0;
    float sum = 0.0;
    for (uint e = LANE; e < experts; e += LANES) {
        const uint i = t * experts + e;
        const float dz = LOAD(dlogits[i]);
        float dh = dz * scale;
        if (learned != 0) sum += dz * logits[i];
        if (noisy != 0 || jitter != 0.0) {
            const uvec4 block = noise_block(t, e);
            if (noisy != 0) dnoise[i] = SAVE(dh * noise_normal(block) * logistic(noise[i]));
            dh *= noise_factor(block);
        }
        dlogits[i] = SAVE(dh);
    }
    if (learned == 0) return;
    sum = reduce_add(sum);
    if (LANE == 0) part[t] = -sum * scale * logistic(theta);
}
