// SPDX-License-Identifier: MIT
// One operand of a matmul, read four neighbours at a time: QUAD(e) is elements e .. e + 3 as f32.
// Included once for each operand, which defines BINDING and the names QUAD, TEXELS, SCALARS,
// VECTORS, BLOCK and BLOCK4 (undefined again at the end).
//
// TEXEL reads a texel buffer: CPU drivers gather a texel for all lanes in a third of the time that
// they take for a vector of a storage buffer, whose bounds they test lane by lane and component by
// component. Where RAGGED, e is any number: two texels are shifted into one (what lies behind the
// end of the operand is not used); else a multiple of 4.
#ifdef TEXEL
layout(binding = BINDING) uniform usamplerBuffer TEXELS;
vec4 QUAD(uint e)
{
    const vec4 low = LOAD_TEXEL(texelFetch(TEXELS, int(e / 4)));
    if (RAGGED == 0) return low;
    return neighbours(low, LOAD_TEXEL(texelFetch(TEXELS, int(e / 4 + 1))), e % 4);
}
#else
layout(binding = BINDING) readonly buffer BLOCK { STORE SCALARS[]; };
layout(binding = BINDING) readonly buffer BLOCK4 { STORE4 VECTORS[]; };
vec4 QUAD(uint e)
{
    if (RAGGED == 0) return LOAD(VECTORS[e / 4]);
    const uint last = SCALARS.length() - 1;
    return vec4(LOAD(SCALARS[min(e, last)]), LOAD(SCALARS[min(e + 1, last)]),
                LOAD(SCALARS[min(e + 2, last)]), LOAD(SCALARS[min(e + 3, last)]));
}
#endif
#undef BINDING
#undef QUAD
#undef TEXELS
#undef SCALARS
#undef VECTORS
#undef BLOCK
#undef BLOCK4
