// SPDX-License-Identifier: MIT
// Four STORE elements as one load: PACK4 is vec4 in f32 and two words in 16 bits, unpack() and
// pack() convert. Element 4 i of a buffer is PACK4 number i, so rows must be of 4 n elements.
// On lavapipe a load costs the same whatever its width, and two words convert in half the steps.
// STORE_IN, STORE_OUT and STORE_IO declare binding b both ways: NAME_1[element], NAME_4[quad].
#if defined(STORE_BF16)
#define PACK4 uvec2
vec4 unpack(uvec2 x)
{
    return uintBitsToFloat(uvec4(x.x << 16, x.x & 0xffff0000u, x.y << 16, x.y & 0xffff0000u));
}
uvec2 pack(vec4 f)
{
    return uvec2(bf16_bits(f.x) | bf16_bits(f.y) << 16, bf16_bits(f.z) | bf16_bits(f.w) << 16);
}
#elif defined(STORE_F16)
#define PACK4 uvec2
vec4  unpack(uvec2 x) { return vec4(unpackHalf2x16(x.x), unpackHalf2x16(x.y)); }
uvec2 pack(vec4 f)
{
    return uvec2(f16_bits(f.x) | f16_bits(f.y) << 16, f16_bits(f.z) | f16_bits(f.w) << 16);
}
#else
#define PACK4 vec4
vec4 unpack(vec4 x) { return x; }
vec4 pack(vec4 f)   { return f; }
#endif

#define STORE_VIEWS(b, name, access)                                                               \
    layout(set = 0, binding = b, scalar) access buffer name##_one { STORE name##_1[]; };           \
    layout(set = 0, binding = b, scalar) access buffer name##_four { PACK4 name##_4[]; };
#define STORE_IN(b, name)  STORE_VIEWS(b, name, readonly)
#define STORE_OUT(b, name) STORE_VIEWS(b, name, writeonly)
#define STORE_IO(b, name)  STORE_VIEWS(b, name, )
// How many vec4s a row of `cols` elements is walked in; what is left goes one element at a time.
// (Loops, not branches: CPU drivers execute both sides of a branch.)
uint quads(uint cols) { return (cols & 3) == 0 ? cols / 4 : 0; }
