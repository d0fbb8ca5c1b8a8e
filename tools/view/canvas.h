// SPDX-License-Identifier: MIT
// What the viewer draws on: pixels of our own, the same for a window, a PNG and a test. Rectangles,
// smooth lines, images of cells, text from a glyph cache; all of it cut by the clip. Lengths are in
// pixels; canvas_px gives those of a length that is right for a person (96 to the inch at scale 1).
// Not thread-safe.
#pragma once

#include "src/base.h"

struct rect { int x, y, w, h; };

typedef uint32_t colour; // 0xAARRGGBB, not premultiplied

enum canvas_font {
    FONT_SMALL, FONT_TEXT, FONT_BOLD, FONT_TITLE, FONT_MONO, FONT_MONO_SMALL, FONT_COUNT
};
enum canvas_align { ALIGN_LEFT, ALIGN_CENTER, ALIGN_RIGHT };

struct canvas_fonts;
struct canvas {
    colour      *pixels;  // [height][width], opaque
    int          width, height;
    float        scale;
    struct rect  clip;
    // A text must lie within the clip: each that does not is counted, and the first is remembered.
    uint32_t     texts, outside;
    char         first_outside[128];
    struct canvas_fonts *fonts;
};

// `font`: a TrueType file, NULL: DejaVu where the system has it. NULL after one line.
struct canvas *canvas_create(int width, int height, float scale, const char *font);
void           canvas_destroy(struct canvas **canvas);
// Another size or scale; pixels are lost. False after one line (a font that does not open).
bool canvas_resize(struct canvas *canvas, int width, int height, float scale);
int  canvas_px(const struct canvas *canvas, float length);

// Narrows the clip to a part of itself; returns what it was, for canvas_unclip.
struct rect canvas_clip(struct canvas *canvas, struct rect part);
void        canvas_unclip(struct canvas *canvas, struct rect old);

void canvas_fill(struct canvas *canvas, struct rect area, colour colour);
void canvas_round(struct canvas *canvas, struct rect area, float radius, colour colour);
void canvas_frame(struct canvas *canvas, struct rect area, colour colour); // a pixel wide
void canvas_line(struct canvas *canvas, float x0, float y0, float x1, float y1, float width,
                 colour colour);
void canvas_disc(struct canvas *canvas, float x, float y, float radius, colour colour);
void canvas_triangle(struct canvas *canvas, float x, float y, float size, colour colour); // down
// columns x rows colours over an area: cell (i, j) from i * w / columns to (i + 1) * w / columns.
void canvas_cells(struct canvas *canvas, struct rect area, const colour *cells, uint32_t columns,
                  uint32_t rows);

int  canvas_line_height(const struct canvas *canvas, enum canvas_font font);
int  canvas_text_width(struct canvas *canvas, enum canvas_font font, const char *text);
// Text within a box, centred in its height, cut with an ellipsis where it is too wide; nothing
// where not even a letter fits or the box is lower than a letter. Returns its width.
int  canvas_text(struct canvas *canvas, enum canvas_font font, struct rect box,
                 enum canvas_align align, colour colour, const char *text);
int  canvas_print(struct canvas *canvas, enum canvas_font font, struct rect box,
                  enum canvas_align align, colour colour, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

// False after one line.
bool canvas_save_png(const struct canvas *canvas, const char *path);

static inline bool rect_has(struct rect r, int x, int y)
{
    return x >= r.x && y >= r.y && x < r.x + r.w && y < r.y + r.h;
}
struct rect rect_cut(struct rect a, struct rect b); // what both have
static inline struct rect rect_inset(struct rect r, int by)
{
    return (struct rect){r.x + by, r.y + by, r.w - 2 * by, r.h - 2 * by};
}
// A part taken from a side, and what is left of r.
struct rect rect_top(struct rect *r, int h);
struct rect rect_bottom(struct rect *r, int h);
struct rect rect_left(struct rect *r, int w);
struct rect rect_right(struct rect *r, int w);
