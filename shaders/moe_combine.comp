// SPDX-License-Identifier: MIT
// KERNEL_MOE_COMBINE (src/kernel.h): each token gathers its own picks by the inverse permutation,
// in the order of the picks. One workgroup a token, columns over the lanes, four at a time where
// rows are aligned.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"

layout(binding = 0) readonly buffer Y { STORE y[]; };
layout(binding = 0) readonly buffer Y4 { STORE4 y4[]; };
layout(binding = 1) readonly buffer Inverse { uint inverse[]; };
layout(binding = 2) readonly buffer Gates { float gates[]; };
layout(binding = 3) readonly buffer Residual { STORE residual[]; };
layout(binding = 3) readonly buffer Residual4 { STORE4 residual4[]; };
layout(binding = 4) writeonly buffer Out { STORE result[]; };
layout(binding = 4) writeonly buffer Out4 { STORE4 result4[]; };
layout(push_constant) uniform Push { uint tokens, cols, top_k, weighted, add; };

const uint NONE = 0xffffffffu;

float gate(uint pair) { return weighted != 0 ? gates[pair] : 1.0; }

void aligned_row(uint t, uint quads)
{
    for (uint c = LANE; c < quads; c += LANES) {
        vec4 sum = vec4(0.0);
        for (uint p = t * top_k; p < (t + 1) * top_k; p++)
            if (inverse[p] != NONE) sum += gate(p) * LOAD(y4[inverse[p] * quads + c]);
        if (add != 0) sum += LOAD(residual4[t * quads + c]);
        result4[t * quads + c] = SAVE(sum);
    }
}

void main()
{
    const uint t = group_index();
    if (t >= tokens) return;
    if (cols % 4 == 0) {
        aligned_row(t, cols / 4);
        return;
    }
    for (uint c = LANE; c < cols; c += LANES) {
        float sum = 0.0;
        for (uint p = t * top_k; p < (t + 1) * top_k; p++)
            if (inverse[p] != NONE) sum += gate(p) * LOAD(y[inverse[p] * cols + c]);
        if (add != 0) sum += LOAD(residual[t * cols + c]);
        result[t * cols + c] = SAVE(sum);
    }
}
