// SPDX-License-Identifier: MIT
// KERNEL_ADAMW_STOCHASTIC (src/kernel.h): AdamW on weights in bf16. A workgroup does LANES * 64
// elements of one part, a lane eight neighbours at a time: one load of weights, one block of random
// numbers.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/step.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Norm { float norm[4]; };
layout(binding = 2) buffer P { STORE p[]; };
layout(binding = 2) buffer P8 { uvec4 p8[]; };
layout(binding = 3) readonly buffer G { float g[]; };
layout(binding = 3) readonly buffer G4 { vec4 g4[]; };
layout(binding = 4) buffer M { float m[]; };
layout(binding = 4) buffer M4 { vec4 m4[]; };
layout(binding = 5) buffer V { float v[]; };
layout(binding = 5) buffer V4 { vec4 v4[]; };
layout(binding = 6) readonly buffer Moves { uint moves[]; };
layout(binding = 7) readonly buffer Places { uint places[]; };
#define MORE_PUSH uint record, draw, mapped, nearest;
#include "lib/optimizer.glsl"
#include "lib/draws.glsl"
#include "lib/stochastic.glsl"

float factor;                     // norm[1]
float decay, speed, root_inverse; // of this part: 1 - rate * weight_decay, rate / correction1, ...

void update(inout vec4 x, vec4 gradient, inout vec4 mean, inout vec4 square)
{
    gradient *= factor;
    mean += (1.0 - beta1) * (gradient - mean);
    square = beta2 * square + (1.0 - beta2) * gradient * gradient;
    x = x * decay - speed * mean / (sqrt(square) * root_inverse + eps);
}

// Eight elements, the first of them a multiple of eight.
void eight(uint i, uint block)
{
    const uvec4 halves = random_halves(block), old = p8[i];
    uvec2 new[2];
    [[unroll]] for (uint k = 0; k < 2; k++) {
        vec4 x = four_of(k == 0 ? old.xy : old.zw), mean = m4[2 * i + k], square = v4[2 * i + k];
        update(x, g4[2 * i + k], mean, square);
        m4[2 * i + k] = mean;
        v4[2 * i + k] = square;
        new[k] = round_four(x, k == 0 ? halves.xy : halves.zw);
    }
    p8[i] = uvec4(new[0], new[1]);
}

void one(uint i, uint draws, uint in_part)
{
    vec4 x = vec4(LOAD(p[i])), mean = vec4(m[i]), square = vec4(v[i]);
    update(x, vec4(g[i]), mean, square);
    m[i] = mean.x;
    v[i] = square.x;
    p[i] = STORE(round_one(x.x, random_halves(draws + in_part / 8), in_part));
}

void main()
{
    const piece own = piece_of_group(step.step);
    if (own.t == 0 || norm[2] == 0.0) return;
    factor = norm[1];
    const float pace = step.learning_rate * rate;
    decay = 1.0 - pace * weight_decay;
    speed = pace / correction(own.t, log_beta1);
    root_inverse = inversesqrt(correction(own.t, log_beta2));
    const uint base = own.matrix * count, draws = first_draw(own.matrix);
    const uint rest = base % 8 == 0 ? own.end / 8 * 8 : own.begin;
    uint q = own.begin / 8 + LANE, i = rest + LANE;
    do { // tested at the bottom: lib/optimizer.glsl
        if (q < rest / 8) eight(q, draws + q - base / 8);
        q += LANES;
    } while (q < rest / 8);
    do {
        if (i < own.end) one(i, draws, i - base);
        i += LANES;
    } while (i < own.end);
}
