// SPDX-License-Identifier: MIT
// Whether rows of a matmul's operands begin anywhere (specialization constant 12, `ragged` of
// struct kernel_shape), and four neighbours out of two vectors.
layout(constant_id = 12) const uint RAGGED = 0;

// Elements shift .. shift + 3 of eight.
vec4 neighbours(vec4 low, vec4 high, uint shift)
{
    const bool two = (shift & 2) != 0, one = (shift & 1) != 0;
    const vec4 x = two ? vec4(low.zw, high.xy) : low;
    const float last = two ? high.z : high.x;
    return one ? vec4(x.yzw, last) : x;
}
