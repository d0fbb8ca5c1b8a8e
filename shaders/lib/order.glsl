// SPDX-License-Identifier: MIT
// Floats as unsigned keys in the same order: NaN below everything (0), -0 equal to +0.
uint order_key(float x)
{
    const uint bits = floatBitsToUint(x), size = bits & 0x7fffffffu;
    if (size == 0) return 0x80000000u;
    if (size > 0x7f800000u) return 0;
    return bits == size ? bits | 0x80000000u : ~bits;
}

float order_value(uint key)
{
    return uintBitsToFloat((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
