// SPDX-License-Identifier: MIT
// The storage type of weights and activations: STORE, chosen by -DSTORE_F32, -DSTORE_BF16 or -DSTORE_F16.
// LOAD(x) gives float, SAVE(f) rounds to nearest even. bf16 is a u16 by bits: no extension but storage.
#if defined(STORE_BF16)
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : enable
#define STORE  uint16_t
#define STORE4 u16vec4
float LOAD(uint16_t x) { return uintBitsToFloat(uint(x) << 16); }
vec4  LOAD(u16vec4 x)  { return uintBitsToFloat(uvec4(x) << 16); }
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
#define STORE  float16_t
#define STORE4 f16vec4
float     LOAD(float16_t x) { return float(x); }
vec4      LOAD(f16vec4 x)   { return vec4(x); }
float16_t SAVE(float f)     { return float16_t(f); }
f16vec4   SAVE(vec4 f)      { return f16vec4(f); }
#else
#define STORE  float
#define STORE4 vec4
float LOAD(float x) { return x; }
vec4  LOAD(vec4 x)  { return x; }
float SAVE(float f) { return f; }
vec4  SAVE(vec4 f)  { return f; }
#endif
