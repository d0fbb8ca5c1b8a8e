// SPDX-License-Identifier: MIT
// The codes of src/codes.h, four neighbours at a time. A magnitude code c is 2^e + j, so that the
// float c + 1/2 has the decade in its exponent and the place in the decade in its mantissa; the
// unsigned kind has one more bit of places, so its decade is e - 1.
#define CODES_SIGNED   0u
#define CODES_UNSIGNED 1u
#define CODES_LEAST    1e-30 // of a block's largest value, else all are 0

uvec4 unpack_codes(uint word) { return (uvec4(word) >> uvec4(0, 8, 16, 24)) & 255u; }
uint  pack_codes(uvec4 c) { return c.x | c.y << 8 | c.z << 16 | c.w << 24; }

vec4 power_of_ten(uvec4 i) // below 8
{
    return mix(vec4(1.0), vec4(10.0), notEqual(i & 1u, uvec4(0))) *
           mix(vec4(1.0), vec4(100.0), notEqual(i & 2u, uvec4(0))) *
           mix(vec4(1.0), vec4(10000.0), notEqual(i & 4u, uvec4(0)));
}

// Codes to values between -1e6 and 1e6.
vec4 codes_decode(uvec4 code, uint kind)
{
    const uvec4 c = kind == CODES_SIGNED ? code & 127u : code;
    const uvec4 bits = floatBitsToUint(vec4(c) + 0.5);
    const vec4 place = uintBitsToFloat((bits & 0x7fffffu) | 0x3f800000u); // 1 to 2
    const vec4 size = power_of_ten((bits >> 23) - 127u - kind) * (0.9 * place - 0.8);
    const vec4 value = mix(size, -size, notEqual(code & 128u * (1u - kind), uvec4(0)));
    const vec4 odd = mix(vec4(0.0), vec4(1e6), notEqual(code, uvec4(0))); // 0, and the largest
    return mix(value, odd, lessThanEqual(c, uvec4(kind)));
}

// Values between -1e6 and 1e6 to codes: of the cell that holds the value. The largest cell is
// halved by the code of 1e6 itself, the smallest one by 0 where there are signs.
uvec4 codes_encode(vec4 x, uint kind)
{
    const float least[6] = float[6](1.0, 10.0, 100.0, 1e3, 1e4, 1e5);
    const vec4 y = abs(x);
    vec4 part = vec4(10.0 / 9.0), first = vec4(float(1u << kind));
    [[unroll]] for (uint i = 0; i < 6; i++) {
        const bvec4 above = greaterThanEqual(y, vec4(least[i]));
        part = mix(part, vec4(1.0 / (9.0 * least[i])), above);
        first = mix(first, vec4(float(2u << (i + kind))), above);
    }
    const vec4 place = min(max(floor((y * part + 8.0 / 9.0) * first), first), 2.0 * first - 1.0);
    const bool is_signed = kind == CODES_SIGNED;
    const bvec4 zero = is_signed ? lessThan(y, vec4(0.275)) : lessThanEqual(y, vec4(0.0));
    uvec4 code = uvec4(place);
    if (is_signed) code |= mix(uvec4(0), uvec4(128), lessThan(x, vec4(0.0)));
    code = mix(code, uvec4(0), zero);
    const float top = is_signed ? 996484.375 : 998242.1875;
    return mix(code, uvec4(is_signed ? 128 : 1), greaterThanEqual(x, vec4(top)));
}
