// SPDX-License-Identifier: MIT
// Stochastic rounding to bf16 (Gupta et al. 2015, 1502.02551): KERNEL_ADAMW_STOCHASTIC of
// src/kernel.h says which bits. The includer binds `step` and pushes `nearest`. Eight neighbours
// are a uvec4 in memory, and so are the halves that are added to them.
#include "rng.glsl"

#define ROUNDING 0x80000001u // KERNEL_ROUNDING

// Of eight elements of a part, from a multiple of eight on.
uvec4 random_halves(uint block)
{
    return rng_philox(uvec2(step.seed_low, step.seed_high), uvec4(block, 0, step.step, ROUNDING));
}

// The bits of the values with what is added; their upper halves are the result.
uvec4 round_bits(vec4 value, uvec4 add)
{
    const uvec4 u = floatBitsToUint(value);
    if (nearest != 0) add = 0x7fffu + (u >> 16 & 1u);
    return mix(u + add, u | 0x400000u, greaterThan(u & 0x7fffffffu, uvec4(0x7f800000u)));
}

uvec2 round_four(vec4 value, uvec2 halves)
{
    const uvec4 u = round_bits(value, uvec4(halves.x & 0xffffu, halves.x >> 16,
                                            halves.y & 0xffffu, halves.y >> 16)) >> 16;
    return u.xz | u.yw << 16;
}

// Element i % 8 of eight.
uint round_one(float value, uvec4 halves, uint i)
{
    return round_bits(vec4(value), uvec4(halves[i >> 1 & 3] >> 16 * (i & 1) & 0xffffu)).x >> 16;
}

vec4 four_of(uvec2 words) { return LOAD_TEXEL(uvec4(words, 0, 0)); }
