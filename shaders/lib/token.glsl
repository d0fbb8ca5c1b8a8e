// SPDX-License-Identifier: MIT
// Linear layers of one token, where the time is the reading of weights: a workgroup (one subgroup)
// has COLUMNS rows of a weight, K goes across the lanes, and at the end the sums are folded so that
// each lane holds the sums of its own columns. The norm before the layer costs no pass of its own:
// norm(x) w = rstd (x norm_weight) w, so the squares of x are added up in the same loop.
// Rows are read in quads where k is a multiple of 4 (known before where WHOLE), else by elements.
// (CPU drivers run every loop once, with or without lanes, and both sides of a branch: WHOLE leaves
// one loop.) TEXEL: the operands are texel buffers, see lib/operand.glsl; only with WHOLE.
layout(constant_id = 2) const uint COLUMNS = 8; // a power of two, 8 or more
layout(constant_id = 4) const uint WHOLE = 0;

#define TOKEN_SHARE min(LANES, COLUMNS)       // lanes that end up with columns of their own
#define TOKEN_HELD  (COLUMNS / TOKEN_SHARE)   // so many

float token_dot(vec4 x, vec4 w, float sum)
{
    return fma(x.x, w.x, fma(x.y, w.y, fma(x.z, w.z, fma(x.w, w.w, sum))));
}

#ifdef TEXEL
#define OPERAND(b, name) layout(set = 0, binding = b) uniform usamplerBuffer name##_texels;
#define TOKEN_READ(name, at) LOAD_TEXEL(texelFetch(name##_texels, int(at)))
#else
#define OPERAND(b, name) STORE_IN(b, name)
#define TOKEN_READ(name, at) unpack(name##_4[at])
#endif
uint token_steps(uint count) { return WHOLE != 0 || count % 4 == 0 ? count / 4 : 0; }
// BODY for each quad q of a row of `steps`, REST for each element e where it has none.
#ifdef TEXEL
#define TOKEN_REST(steps, count, REST)
#else
#define TOKEN_REST(steps, count, REST)                                                             \
    if (WHOLE == 0)                                                                                \
        for (uint e = steps > 0 ? count : LANE; e < count; e += LANES) { REST }
#endif
#define TOKEN_WALK(steps, count, BODY, REST)                                                       \
    {                                                                                              \
        uint q = LANE;                                                                             \
        if (q < steps) do {                                                                        \
            BODY                                                                                   \
            q += LANES;                                                                            \
        } while (q < steps);                                                                       \
        TOKEN_REST(steps, count, REST)                                                             \
    }

// The sums of all lanes: values[0 .. TOKEN_HELD - 1] are those of columns token_column(0 ..).
void token_fold(inout float values[COLUMNS])
{
    uint count = COLUMNS;
    [[unroll]] for (uint bit = TOKEN_SHARE / 2; bit > 0; bit /= 2) {
        count /= 2;
        const bool upper = (LANE & bit) != 0;
        [[unroll]] for (uint i = 0; i < COLUMNS / 2; i++) {
            if (i >= count) break;
            const float low = values[i], high = values[i + count];
            values[i] = (upper ? high : low) + subgroupShuffleXor(upper ? low : high, bit);
        }
    }
    [[unroll]] for (uint bit = TOKEN_SHARE; bit < LANES; bit *= 2)
        [[unroll]] for (uint i = 0; i < TOKEN_HELD; i++)
            values[i] += subgroupShuffleXor(values[i], bit);
}

uint token_column(uint held) { return LANE % TOKEN_SHARE * TOKEN_HELD + held; }
bool token_writes() { return LANE < TOKEN_SHARE; }

#define TOKEN_RSTD(squares, cols, eps) (1.0 / sqrt(subgroupAdd(squares) / float(cols) + eps))
