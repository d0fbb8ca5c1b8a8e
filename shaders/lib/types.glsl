// SPDX-License-Identifier: MIT
// The storage type of weights and activations: STORE, chosen by -DSTORE_F32, -DSTORE_BF16 or
// -DSTORE_F16.
// LOAD(x) gives float, SAVE(f) rounds to nearest even. bf16 and f16 are u16 by bits: nothing
// but 16-bit storage is needed, and every driver rounds alike (packHalf2x16 truncates on some).
// LOAD_TEXEL(t) is four neighbours out of a texel buffer (lib/operand.glsl).
#if defined(STORE_BF16)
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#define STORE  uint16_t
#define STORE4 u16vec4
float LOAD(uint16_t x) { return uintBitsToFloat(uint(x) << 16); }
vec4  LOAD(u16vec4 x)  { return uintBitsToFloat(uvec4(x) << 16); }
vec4  LOAD_TEXEL(uvec4 t)
{
    return uintBitsToFloat(uvec4(t.x << 16, t.x & 0xffff0000u, t.y << 16, t.y & 0xffff0000u));
}
uint  bf16_bits(float f)
{
    const uint u = floatBitsToUint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (u >> 16) | 0x40u; // keep NaN a NaN
    return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}
uint16_t SAVE(float f) { return uint16_t(bf16_bits(f)); }
u16vec4  SAVE(vec4 f)
{
    return u16vec4(uvec4(bf16_bits(f.x), bf16_bits(f.y), bf16_bits(f.z), bf16_bits(f.w)));
}
#elif defined(STORE_F16)
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#define STORE  uint16_t
#define STORE4 u16vec4
float LOAD(uint16_t x) { return unpackHalf2x16(uint(x)).x; }
vec4  LOAD(u16vec4 x)
{
    return vec4(unpackHalf2x16(uint(x.x) | uint(x.y) << 16),
                unpackHalf2x16(uint(x.z) | uint(x.w) << 16));
}
vec4 LOAD_TEXEL(uvec4 t) { return vec4(unpackHalf2x16(t.x), unpackHalf2x16(t.y)); }
uint f16_bits(float f)
{
    const uint u = floatBitsToUint(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return sign | 0x7e00u;                  // NaN
    if (a >= 0x477ff000u) return sign | 0x7c00u;                 // rounds to infinity
    if (a < 0x38800000u)                                         // subnormal: the addition rounds
        return sign | (floatBitsToUint(uintBitsToFloat(a) + 0.5) - 0x3f000000u);
    return sign | ((a + 0xc8000fffu + ((a >> 13) & 1u)) >> 13);
}
uint16_t SAVE(float f) { return uint16_t(f16_bits(f)); }
u16vec4  SAVE(vec4 f)
{
    return u16vec4(uvec4(f16_bits(f.x), f16_bits(f.y), f16_bits(f.z), f16_bits(f.w)));
}
#else
#define STORE  float
#define STORE4 vec4
float LOAD(float x) { return x; }
vec4  LOAD(vec4 x)  { return x; }
vec4  LOAD_TEXEL(uvec4 t) { return uintBitsToFloat(t); }
float SAVE(float f) { return f; }
vec4  SAVE(vec4 f)  { return f; }
#endif
