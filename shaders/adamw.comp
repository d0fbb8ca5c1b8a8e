// SPDX-License-Identifier: MIT
// KERNEL_ADAMW (src/kernel.h): AdamW (Loshchilov & Hutter 2019) in the order of torch.optim.AdamW.
// Where norm[2] is 0 nothing moves, but the copy is written, so that it always is the parameter
// rounded to the storage type. A workgroup does LANES * 16 elements of one part; those of
// experts that do not move end at once.
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
layout(binding = 5) buffer V { float v[]; };
layout(binding = 5) buffer V4 { vec4 v4[]; };
layout(binding = 6) writeonly buffer Copy { STORE copy[]; };
layout(binding = 6) writeonly buffer Copy4 { STORE4 copy4[]; };
layout(binding = 7) readonly buffer Moves { uint moves[]; };
#include "lib/optimizer.glsl"

bool  goes;   // norm[2], read once: no store can be between
float factor; // norm[1]

float decay, speed, root_inverse; // of this part: 1 - rate * weight_decay, rate / correction1, ...

void update(inout vec4 x, vec4 gradient, inout vec4 mean, inout vec4 square)
{
    gradient *= factor;
    mean += (1.0 - beta1) * (gradient - mean);
    square = beta2 * square + (1.0 - beta2) * gradient * gradient;
    x = x * decay - speed * mean / (sqrt(square) * root_inverse + eps);
}

void four(uint i)
{
    vec4 x = p4[i];
    if (goes) {
        vec4 mean = m4[i], square = v4[i];
        update(x, g4[i], mean, square);
        p4[i] = x;
        m4[i] = mean;
        v4[i] = square;
    }
    if (write_copy != 0) copy4[i] = SAVE(x);
}

void one(uint i)
{
    vec4 x = vec4(p[i]);
    if (goes) {
        vec4 mean = vec4(m[i]), square = vec4(v[i]);
        update(x, vec4(g[i]), mean, square);
        p[i] = x.x;
        m[i] = mean.x;
        v[i] = square.x;
    }
    if (write_copy != 0) copy[i] = SAVE(x.x);
}

void main()
{
    const piece own = piece_of_group(step.step);
    if (own.t == 0) return;
    goes = norm[2] != 0.0;
    factor = norm[1];
    const float pace = step.learning_rate * rate;
    decay = 1.0 - pace * weight_decay;
    speed = pace / correction(own.t, log_beta1);
    root_inverse = inversesqrt(correction(own.t, log_beta2));
    EACH_ELEMENT(own, four, one)
}
