// SPDX-License-Identifier: MIT
// Themes and maps of colours: see colours.h.
#include "tools/view/colours.h"

#include <math.h>

#define OPAQUE(rgb) (0xff000000u | (rgb))

static const struct theme dark = {
    .page = OPAQUE(0x101217), .panel = OPAQUE(0x181b22), .edge = OPAQUE(0x2b303b),
    .grid = OPAQUE(0x262a34), .text = OPAQUE(0xe8eaee), .dim = OPAQUE(0x9aa3b2),
    .faint = OPAQUE(0x5c6473), .accent = OPAQUE(0x6cb6ff), .alarm = OPAQUE(0xff7a45),
    .series = {OPAQUE(0x6cb6ff), OPAQUE(0xf2b24c), OPAQUE(0x4fd1a5), OPAQUE(0xe58fc0),
               OPAQUE(0xf0e442), OPAQUE(0xff7a45)},
    .idle = OPAQUE(0x0b0d11), .dead = OPAQUE(0xd8430f), .nothing = OPAQUE(0x181b22),
    .place = {OPAQUE(0x22262f), OPAQUE(0x4a5160), OPAQUE(0x3f78b5), OPAQUE(0x35c08d),
              OPAQUE(0xf2a13c), OPAQUE(0xf5f7fa)},
};

static const struct theme light = {
    .page = OPAQUE(0xeef0f4), .panel = OPAQUE(0xffffff), .edge = OPAQUE(0xd3d8e0),
    .grid = OPAQUE(0xe7eaef), .text = OPAQUE(0x1a1e26), .dim = OPAQUE(0x5d6675),
    .faint = OPAQUE(0xa3abb8), .accent = OPAQUE(0x0b68c8), .alarm = OPAQUE(0xc8410b),
    .series = {OPAQUE(0x0b68c8), OPAQUE(0xb86e00), OPAQUE(0x00805c), OPAQUE(0xa8457f),
               OPAQUE(0x7a6a00), OPAQUE(0xc8410b)},
    .idle = OPAQUE(0xf4f5f8), .dead = OPAQUE(0xd8430f), .nothing = OPAQUE(0xffffff),
    .place = {OPAQUE(0xe9ebf0), OPAQUE(0xb4bac5), OPAQUE(0x4f8fd0), OPAQUE(0x12a071),
              OPAQUE(0xe08a12), OPAQUE(0x1a1e26)},
    .light = true,
};

const struct theme *theme_dark(void) { return &dark; }
const struct theme *theme_light(void) { return &light; }

static uint32_t byte_of(float value)
{
    return value <= 0 ? 0 : value >= 255 ? 255 : (uint32_t)(value + 0.5f);
}

// A polynomial through cividis, at most two of 255 off (d3-scale-chromatic's).
colour colour_map(float share)
{
    const float t = share >= 0 ? fminf(share, 1) : 0;
    const float r =
        -4.54f - t * (35.34f - t * (2381.73f - t * (6402.7f - t * (7024.72f - t * 2710.57f))));
    const float g =
        32.49f + t * (170.73f + t * (52.82f - t * (131.46f - t * (176.58f - t * 67.37f))));
    const float b =
        81.24f + t * (442.36f - t * (2482.43f - t * (6167.24f - t * (6614.94f - t * 2475.67f))));
    return OPAQUE(byte_of(r) << 16 | byte_of(g) << 8 | byte_of(b));
}

float colour_load_share(float load) { return load > 0 ? (log2f(load) + 2) / 4 : 0; }
colour colour_load(float load) { return colour_map(colour_load_share(load)); }

// ---- experts

// Ottosson's OKLab: equal steps look equal.
static colour from_oklch(float lightness, float chroma, float hue)
{
    const float a = chroma * cosf(hue), b = chroma * sinf(hue);
    const float l = powf(lightness + 0.3963377774f * a + 0.2158037573f * b, 3);
    const float m = powf(lightness - 0.1055613458f * a - 0.0638541728f * b, 3);
    const float s = powf(lightness - 0.0894841775f * a - 1.2914855480f * b, 3);
    const float linear[3] = {4.0767416621f * l - 3.3077115913f * m + 0.2309699292f * s,
                             -1.2684380046f * l + 2.6097574011f * m - 0.3413193965f * s,
                             -0.0041960863f * l - 0.7034186147f * m + 1.7076147010f * s};
    colour out = 0xff;
    for (int i = 0; i < 3; i++) {
        const float v = fmaxf(linear[i], 0);
        out = out << 8 | byte_of(255 * (v <= 0.0031308f ? 12.92f * v
                                                         : 1.055f * powf(v, 1 / 2.4f) - 0.055f));
    }
    return out;
}

colour colour_expert(uint32_t expert)
{
    static const colour first[] = {OPAQUE(0x56b4e9), OPAQUE(0xe69f00), OPAQUE(0x009e73),
                                   OPAQUE(0xcc79a7), OPAQUE(0xf0e442), OPAQUE(0x2f6fd0),
                                   OPAQUE(0xd55e00), OPAQUE(0xa9b0bb)};
    if (expert < COUNT_OF(first)) return first[expert];
    // by golden angles, in three lightnesses
    static const float lightness[] = {0.62f, 0.84f, 0.73f};
    const uint32_t turn = expert % 4096;
    return from_oklch(lightness[turn % 3], 0.115f, (float)turn * 2.3999632f);
}

// ---- arithmetic

static float luminance(colour own)
{
    return 0.299f * (float)(own >> 16 & 255) + 0.587f * (float)(own >> 8 & 255) +
           0.114f * (float)(own & 255);
}

colour colour_on(colour background)
{
    return luminance(background) > 120 ? OPAQUE(0x0c0e12) : OPAQUE(0xffffff);
}

colour colour_with(colour own, uint32_t alpha) { return (own & 0xffffff) | alpha << 24; }

colour colour_between(colour a, colour b, float share)
{
    colour out = 0xff;
    for (int shift = 16; shift >= 0; shift -= 8) {
        const float from = (float)(a >> shift & 255), to = (float)(b >> shift & 255);
        out = out << 8 | byte_of(from + (to - from) * share);
    }
    return out;
}
