// SPDX-License-Identifier: MIT
// Between canvas.c and canvas_text.c: the fonts of a canvas, and one pixel.
#pragma once

#include "tools/view/canvas.h"

struct canvas_fonts *canvas_fonts_create(const char *font); // NULL after one line
void canvas_fonts_destroy(struct canvas_fonts **fonts);
bool canvas_fonts_scale(struct canvas_fonts *fonts, float scale);
void canvas_blend(struct canvas *canvas, int x, int y, colour over, uint32_t coverage); // of 255
