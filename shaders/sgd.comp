// SPDX-License-Identifier: MIT
// KERNEL_SGD (src/kernel.h): momentum as torch.optim.SGD's without dampening, decoupled weight
// decay. Where norm[2] is 0 nothing moves, but the copy is written.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Norm { float norm[4]; };
layout(binding = 2) buffer P { float p[]; };
layout(binding = 2) buffer P4 { vec4 p4[]; };
layout(binding = 3) readonly buffer G { float g[]; };
layout(binding = 3) readonly buffer G4 { vec4 g4[]; };
layout(binding = 4) buffer M { float m[]; };
layout(binding = 4) buffer M4 { vec4 m4[]; };
layout(binding = 5) writeonly buffer Copy { STORE copy[]; };
layout(binding = 5) writeonly buffer Copy4 { STORE4 copy4[]; };
layout(binding = 6) readonly buffer Moves { uint moves[]; };
#include "lib/optimizer.glsl"

bool  goes;   // norm[2], read once: no store can be between
float factor; // norm[1]
float pace;

void update(inout vec4 x, vec4 gradient, inout vec4 mean)
{
    gradient *= factor;
    mean = beta1 * mean + gradient;
    const vec4 direction = nesterov != 0 ? gradient + beta1 * mean : mean;
    x = x * (1.0 - pace * weight_decay) - pace * direction;
}

void four(uint i)
{
    vec4 x = p4[i];
    if (goes) {
        vec4 mean = m4[i];
        update(x, g4[i], mean);
        p4[i] = x;
        m4[i] = mean;
    }
    if (write_copy != 0) copy4[i] = SAVE(x);
}

void one(uint i)
{
    vec4 x = vec4(p[i]);
    if (goes) {
        vec4 mean = vec4(m[i]);
        update(x, vec4(g[i]), mean);
        p[i] = x.x;
        m[i] = mean.x;
    }
    if (write_copy != 0) copy[i] = SAVE(x.x);
}

void main()
{
    const piece own = piece_of_group(1);
    if (own.t == 0) return;
    goes = norm[2] != 0.0;
    factor = norm[1];
    pace = step.learning_rate * rate;
    EACH_ELEMENT(own, four, one)
}
