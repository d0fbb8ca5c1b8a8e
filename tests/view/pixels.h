// SPDX-License-Identifier: MIT
// Pictures looked at pixel by pixel: a canvas to draw on, and the place of a text in one.
#pragma once

#include "tests/unit.h"
#include "tools/view/canvas.h"

UNIT_HELPER struct canvas *canvas_of(int width, int height, float scale)
{
    struct canvas *c = canvas_create(width, height, scale, NULL);
    assert_non_null(c);
    return c;
}

// Whether a text stands somewhere in a picture, pixel by pixel.
UNIT_HELPER bool is_written(struct canvas *c, enum canvas_font font, colour ground, colour ink,
                            const char *text)
{
    struct canvas *own = canvas_of(canvas_text_width(c, font, text) + 1,
                                   canvas_line_height(c, font), c->scale);
    const struct rect all = {0, 0, own->width, own->height};
    bool found = false;
    canvas_fill(own, all, ground);
    assert_true(canvas_text(own, font, all, ALIGN_LEFT, ink, text) > 0);
    for (int y = 0; y + all.h <= c->height && !found; y++)
        for (int x = 0; x + all.w <= c->width && !found; x++) {
            int row = 0;
            while (row < all.h && !memcmp(own->pixels + row * all.w,
                                          c->pixels + (y + row) * c->width + x,
                                          (size_t)all.w * sizeof *own->pixels))
                row++;
            found = row == all.h;
        }
    canvas_destroy(&own);
    return found;
}
