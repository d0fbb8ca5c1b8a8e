// SPDX-License-Identifier: MIT
// The two themes, and colours that stand for numbers: cividis (Nunez, Anderton and Renslow 2018),
// blue over grey to yellow, which people with any kind of colour vision read alike, and a palette
// of experts that begins with Okabe and Ito's.
#pragma once

#include "tools/view/canvas.h"

struct theme {
    colour page, panel, edge, grid, text, dim, faint, accent, alarm;
    colour series[6];
    colour idle;       // an expert without a pick in few steps of few picks
    colour dead;       // without one where every fair expert has some
    colour nothing;    // not traced
    colour place[6];   // by enum trace_place
    bool   light;
};
const struct theme *theme_dark(void);
const struct theme *theme_light(void);

colour colour_map(float share);            // cividis, 0..1, cut
// Load over the ideal, a quarter to four times of it: fair is the grey in the middle.
colour colour_load(float load);
float  colour_load_share(float load);      // where on the map that is
colour colour_expert(uint32_t expert);
colour colour_on(colour background);       // black or white, what is read better on it
colour colour_with(colour own, uint32_t alpha);
colour colour_between(colour a, colour b, float share);
