// SPDX-License-Identifier: MIT
// KERNEL_ADAMW_8BIT and, STOCHASTIC, KERNEL_ADAMW_8BIT_STOCHASTIC (src/kernel.h): AdamW whose
// moments are codes of 8 bits, a workgroup a block of 256 elements. The parameters go by the
// moments before they are rounded. A lane has neighbouring quads of elements, so that its codes are
// one load.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_16bit_storage : enable
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#include "lib/head.glsl"
#include "lib/reduce.glsl"
#include "lib/step.glsl"
#include "lib/codes.glsl"

layout(binding = 0) readonly buffer Step { step_words step; };
layout(binding = 1) readonly buffer Norm { float norm[4]; };
#ifdef STOCHASTIC
layout(binding = 2) buffer P { STORE p[]; };
layout(binding = 2) buffer P4 { uvec2 p4[]; };
#else
layout(binding = 2) buffer P { float p[]; };
layout(binding = 2) buffer P4 { vec4 p4[]; };
#endif
layout(binding = 3) readonly buffer G { float g[]; };
layout(binding = 3) readonly buffer G4 { vec4 g4[]; };
layout(binding = 4) buffer R { uint r[]; };
layout(binding = 4) buffer R4 { uvec4 r4[]; };
#define EACH 256u // CODES_ELEMENTS of src/codes.h
#ifdef STOCHASTIC
layout(binding = 5) readonly buffer Moves { uint moves[]; };
layout(binding = 6) readonly buffer Places { uint places[]; };
#define MORE_PUSH uint record, draw, mapped, nearest;
#include "lib/optimizer.glsl"
#include "lib/draws.glsl"
#include "lib/stochastic.glsl"
#else
layout(binding = 5) writeonly buffer Copy { STORE copy[]; };
layout(binding = 5) writeonly buffer Copy4 { STORE4 copy4[]; };
layout(binding = 6) readonly buffer Moves { uint moves[]; };
#define MORE_PUSH uint record;
#include "lib/optimizer.glsl"
#endif

bool  goes;   // norm[2], read once: no store can be between
float factor; // norm[1]

#define CODES_WORDS 132u
#define QUADS ((64 + LANES - 1) / LANES) // of a lane: 16 where there are 4 lanes

vec4 mean[16], square[16];

vec4 gradient_at(uint i, uint end, bool quads)
{
    if (quads && i + 4 <= end) return g4[i / 4];
    vec4 x = vec4(0.0);
    [[unroll]] for (uint j = 0; j < 4; j++)
        if (i + j < end) x[j] = g[i + j];
    return x;
}

#ifdef STOCHASTIC
uvec4 eight_halves; // of two quads
uvec2 halves;       // of the quad at hand, the lane's k-th

void draw_halves(uint k, uint quad, uint draws)
{
    if (QUADS == 1 || (k & 1) == 0) eight_halves = random_halves(draws + quad / 2);
    halves = (quad & 1) == 0 ? eight_halves.xy : eight_halves.zw;
}

// Elements i to i + 3 go by `move`.
void go(uint i, uint end, bool quads, float decay, vec4 move)
{
    if (quads && i + 4 <= end) {
        p4[i / 4] = round_four(four_of(p4[i / 4]) * decay - move, halves);
        return;
    }
    [[unroll]] for (uint j = 0; j < 4; j++) {
        if (i + j >= end) break;
        p[i + j] = STORE(round_one(LOAD(p[i + j]) * decay - move[j], halves.xyxy, j));
    }
}
#else
// Elements i to i + 3 go by `move`.
void go(uint i, uint end, bool quads, float decay, vec4 move)
{
    if (quads && i + 4 <= end) {
        vec4 x = p4[i / 4];
        if (goes) p4[i / 4] = x = x * decay - move;
        if (write_copy != 0) copy4[i / 4] = SAVE(x);
        return;
    }
    [[unroll]] for (uint j = 0; j < 4; j++) {
        if (i + j >= end) break;
        float x = p[i + j];
        if (goes) p[i + j] = x = x * decay - move[j];
        if (write_copy != 0) copy[i + j] = SAVE(x);
    }
}
#endif

float largest(vec4 x) { return max(max(x.x, x.y), max(x.z, x.w)); }

// Four words of codes from word `at` on, or where a lane has fewer, one.
uvec4 load(uint at) { return QUADS < 4 ? uvec4(r[at], 0, 0, 0) : r4[at / 4]; }

void save(uint at, uvec4 words)
{
    if (QUADS < 4) r[at] = words.x;
    else r4[at / 4] = words;
}

// The new moments of the lane's elements, unrounded; returns the largest of each kind.
vec2 new_moments(piece own, uint base, uint first)
{
    const vec2 scale = 1e-6 * uintBitsToFloat(uvec2(r[base + 128], r[base + 129]));
    const uint each = QUADS < 4 ? 1 : 4;
    vec2 most = vec2(0.0);
    [[unroll]] for (uint k = 0; k < QUADS; k += each) {
        const uvec4 m_words = load(base + first + k), v_words = load(base + 64 + first + k);
        [[unroll]] for (uint j = 0; j < each; j++) {
            const vec4 gradient =
                gradient_at(own.begin + 4 * (first + k + j), own.end, own.quads) * factor;
            vec4 m = codes_decode(unpack_codes(m_words[j]), CODES_SIGNED) * scale.x;
            m += (1.0 - beta1) * (gradient - m);
            vec4 v = codes_decode(unpack_codes(v_words[j]), CODES_UNSIGNED) * scale.y;
            v = beta2 * v + (1.0 - beta2) * gradient * gradient;
            most = max(most, vec2(largest(abs(m)), largest(v)));
            mean[k + j] = m;
            square[k + j] = v;
        }
    }
    return most;
}

void main()
{
    const piece own = piece_of_group(step.step);
    if (own.t == 0) return;
    goes = norm[2] != 0.0;
    factor = norm[1];
    const uint base = (record + group_index()) * CODES_WORDS;
    const uint first = LANE * QUADS; // quad of the block
    const float pace = step.learning_rate * rate;
    const float decay = 1.0 - pace * weight_decay;
    const float speed = pace / correction(own.t, log_beta1);
    const float root_inverse = inversesqrt(correction(own.t, log_beta2));
    const bool idle = LANES > 64 && LANE >= 64;
    vec2 most = idle ? vec2(0.0) : new_moments(own, base, first);
    most = vec2(reduce_max(most.x), reduce_max(most.y));
    if (idle) return;
    most = mix(vec2(0.0), most, greaterThan(most, vec2(CODES_LEAST)));
#ifdef STOCHASTIC
    if (!goes) return;
    const uint draws = first_draw(own.matrix) + own.part * (EACH / 8);
#endif
    [[unroll]] for (uint k = 0; k < QUADS; k++) {
#ifdef STOCHASTIC
        draw_halves(k, first + k, draws);
#endif
        go(own.begin + 4 * (first + k), own.end, own.quads, decay,
           speed * mean[k] / (sqrt(square[k]) * root_inverse + eps));
    }
    if (!goes) return;
    const vec2 inverse = mix(vec2(0.0), 1e6 / most, greaterThan(most, vec2(0.0)));
    const uint each = QUADS < 4 ? 1 : 4;
    [[unroll]] for (uint k = 0; k < QUADS; k += each) {
        uvec4 m_words = uvec4(0), v_words = uvec4(0);
        [[unroll]] for (uint j = 0; j < each; j++) {
            m_words[j] = pack_codes(codes_encode(mean[k + j] * inverse.x, CODES_SIGNED));
            v_words[j] = pack_codes(codes_encode(square[k + j] * inverse.y, CODES_UNSIGNED));
        }
        save(base + first + k, m_words);
        save(base + 64 + first + k, v_words);
    }
    if (LANE == 0) r4[(base + 128) / 4] = uvec4(floatBitsToUint(most), 0, 0);
}
