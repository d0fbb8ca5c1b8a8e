// SPDX-License-Identifier: MIT
// Pixels: rectangles, lines, cells, clip. See canvas.h; text is in canvas_text.c.
#include "tools/view/canvas.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/canvas_text.h"

enum { MOST_SIDE = 16384 };

// ---- a canvas

bool canvas_resize(struct canvas *c, int width, int height, float scale)
{
    if (width < 1 || height < 1 || width > MOST_SIDE || height > MOST_SIDE) {
        log_error("a picture of %d x %d: wanted 1 to %d pixels a side", width, height, MOST_SIDE);
        return false;
    }
    if (width != c->width || height != c->height) {
        free(c->pixels);
        c->pixels = os_alloc((size_t)width * (size_t)height * sizeof *c->pixels);
    }
    c->width = width, c->height = height;
    c->clip = (struct rect){0, 0, width, height};
    const bool same = c->scale == scale;
    c->scale = scale;
    return same || canvas_fonts_scale(c->fonts, scale);
}

struct canvas *canvas_create(int width, int height, float scale, const char *font)
{
    struct canvas *c = os_alloc(sizeof *c);
    c->fonts = canvas_fonts_create(font);
    if (!c->fonts || !canvas_resize(c, width, height, scale)) canvas_destroy(&c);
    return c;
}

void canvas_destroy(struct canvas **canvas)
{
    if (!*canvas) return;
    canvas_fonts_destroy(&(*canvas)->fonts);
    free((*canvas)->pixels);
    free(*canvas);
    *canvas = NULL;
}

int canvas_px(const struct canvas *c, float length) { return (int)lroundf(length * c->scale); }

// ---- rectangles

struct rect rect_cut(struct rect a, struct rect b)
{
    const int x0 = a.x > b.x ? a.x : b.x, y0 = a.y > b.y ? a.y : b.y;
    const int x1 = a.x + a.w < b.x + b.w ? a.x + a.w : b.x + b.w;
    const int y1 = a.y + a.h < b.y + b.h ? a.y + a.h : b.y + b.h;
    return (struct rect){x0, y0, x1 > x0 ? x1 - x0 : 0, y1 > y0 ? y1 - y0 : 0};
}

static int at_most(int wanted, int there)
{
    const int most = there > 0 ? there : 0;
    return wanted < 0 ? 0 : wanted < most ? wanted : most;
}

struct rect rect_top(struct rect *r, int h)
{
    const struct rect part = {r->x, r->y, r->w, at_most(h, r->h)};
    r->y += part.h, r->h -= part.h;
    return part;
}

struct rect rect_bottom(struct rect *r, int h)
{
    const int own = at_most(h, r->h);
    r->h -= own;
    return (struct rect){r->x, r->y + r->h, r->w, own};
}

struct rect rect_left(struct rect *r, int w)
{
    const struct rect part = {r->x, r->y, at_most(w, r->w), r->h};
    r->x += part.w, r->w -= part.w;
    return part;
}

struct rect rect_right(struct rect *r, int w)
{
    const int own = at_most(w, r->w);
    r->w -= own;
    return (struct rect){r->x + r->w, r->y, own, r->h};
}

struct rect canvas_clip(struct canvas *c, struct rect part)
{
    const struct rect old = c->clip;
    c->clip = rect_cut(old, part);
    return old;
}

void canvas_unclip(struct canvas *c, struct rect old) { c->clip = old; }

// ---- pixels

// `share` of 255 of the colour over what is there, its own alpha aside.
static colour mix(colour under, colour over, uint32_t share)
{
    const uint32_t rest = 255 - share;
    const uint32_t even = (under & 0xff00ff) * rest + (over & 0xff00ff) * share + 0x800080;
    const uint32_t odd = ((under >> 8) & 0xff) * rest + ((over >> 8) & 0xff) * share + 0x80;
    const uint32_t halves = (even + ((even >> 8) & 0xff00ff)) >> 8 & 0xff00ff;
    return 0xff000000u | halves | ((odd + (odd >> 8)) & 0xff00);
}

void canvas_blend(struct canvas *c, int x, int y, colour over, uint32_t coverage)
{
    if (!rect_has(c->clip, x, y)) return;
    colour *at = &c->pixels[(size_t)y * (size_t)c->width + (size_t)x];
    const uint32_t share = (over >> 24) * coverage / 255;
    *at = share == 255 ? over | 0xff000000u : mix(*at, over, share);
}

void canvas_fill(struct canvas *c, struct rect area, colour over)
{
    const struct rect r = rect_cut(area, c->clip);
    const uint32_t share = over >> 24;
    for (int y = r.y; y < r.y + r.h; y++) {
        colour *at = c->pixels + (size_t)y * (size_t)c->width + (size_t)r.x;
        if (share == 255)
            for (int x = 0; x < r.w; x++) at[x] = over;
        else
            for (int x = 0; x < r.w; x++) at[x] = mix(at[x], over, share);
    }
}

void canvas_frame(struct canvas *c, struct rect r, colour over)
{
    canvas_fill(c, (struct rect){r.x, r.y, r.w, 1}, over);
    canvas_fill(c, (struct rect){r.x, r.y + r.h - 1, r.w, 1}, over);
    canvas_fill(c, (struct rect){r.x, r.y + 1, 1, r.h - 2}, over);
    canvas_fill(c, (struct rect){r.x + r.w - 1, r.y + 1, 1, r.h - 2}, over);
}

static uint32_t coverage_of(float distance) // of a pixel from an edge, outwards
{
    const float share = 0.5f - distance;
    return share <= 0 ? 0 : share >= 1 ? 255 : (uint32_t)(share * 255 + 0.5f);
}

void canvas_round(struct canvas *c, struct rect r, float radius, colour over)
{
    const int corner = (int)ceilf(fminf(radius, fminf((float)r.w, (float)r.h) / 2));
    for (int y = 0; y < corner; y++)
        for (int x = 0; x < corner; x++) {
            const float dx = (float)(corner - x) - 0.5f, dy = (float)(corner - y) - 0.5f;
            const uint32_t share = coverage_of(sqrtf(dx * dx + dy * dy) - (float)corner);
            const int right = r.x + r.w - 1 - x, low = r.y + r.h - 1 - y;
            canvas_blend(c, r.x + x, r.y + y, over, share);
            canvas_blend(c, right, r.y + y, over, share);
            canvas_blend(c, r.x + x, low, over, share);
            canvas_blend(c, right, low, over, share);
        }
    canvas_fill(c, (struct rect){r.x + corner, r.y, r.w - 2 * corner, corner}, over);
    canvas_fill(c, (struct rect){r.x, r.y + corner, r.w, r.h - 2 * corner}, over);
    canvas_fill(c, (struct rect){r.x + corner, r.y + r.h - corner, r.w - 2 * corner, corner}, over);
}

// ---- lines

// Covers one pixel line across the way of the line: `middle` and `half` are along it.
static void cross(struct canvas *c, int along, float middle, float half, bool steep, colour over)
{
    const int first = (int)floorf(middle - half - 0.5f), last = (int)ceilf(middle + half + 0.5f);
    for (int i = first; i <= last; i++) {
        const uint32_t share = coverage_of(fabsf((float)i + 0.5f - middle) - half);
        if (!share) continue;
        if (steep) canvas_blend(c, i, along, over, share);
        else canvas_blend(c, along, i, over, share);
    }
}

void canvas_line(struct canvas *c, float x0, float y0, float x1, float y1, float width,
                 colour over)
{
    const bool steep = fabsf(y1 - y0) > fabsf(x1 - x0);
    float a0 = steep ? y0 : x0, a1 = steep ? y1 : x1, b0 = steep ? x0 : y0, b1 = steep ? x1 : y1;
    if (a0 > a1) {
        const float a = a0, b = b0;
        a0 = a1, a1 = a, b0 = b1, b1 = b;
    }
    const float slope = a1 > a0 ? (b1 - b0) / (a1 - a0) : 0;
    const float half = width / 2 * sqrtf(1 + slope * slope);
    const int low = steep ? c->clip.y : c->clip.x;
    const int high = low + (steep ? c->clip.h : c->clip.w);
    // pixels whose middle lies in [a0, a1), so that lines which meet cover none twice
    int first = (int)ceilf(a0 - 0.5f), last = (int)ceilf(a1 - 0.5f);
    if (first < low) first = low;
    if (last > high) last = high;
    for (int a = first; a < last; a++) {
        const float at = fminf(fmaxf((float)a + 0.5f, a0), a1);
        cross(c, a, b0 + (at - a0) * slope, half, steep, over);
    }
}

void canvas_disc(struct canvas *c, float x, float y, float radius, colour over)
{
    for (int j = (int)floorf(y - radius - 1); j <= (int)ceilf(y + radius + 1); j++)
        for (int i = (int)floorf(x - radius - 1); i <= (int)ceilf(x + radius + 1); i++) {
            const float dx = (float)i + 0.5f - x, dy = (float)j + 0.5f - y;
            canvas_blend(c, i, j, over, coverage_of(sqrtf(dx * dx + dy * dy) - radius));
        }
}

void canvas_triangle(struct canvas *c, float x, float y, float size, colour over)
{
    const int rows = (int)ceilf(size);
    for (int j = 0; j < rows; j++) {
        const float half = size * 0.6f * (1 - ((float)j + 0.5f) / size);
        cross(c, (int)floorf(y) + j, x, half, true, over);
    }
}

void canvas_cells(struct canvas *c, struct rect area, const colour *cells, uint32_t columns,
                  uint32_t rows)
{
    const struct rect r = rect_cut(area, c->clip);
    if (!columns || !rows || !r.w || !r.h) return;
    uint32_t *from = os_alloc((size_t)r.w * sizeof *from);
    for (int x = 0; x < r.w; x++)
        from[x] = (uint32_t)((uint64_t)(r.x + x - area.x) * columns / (uint64_t)area.w);
    const colour *last = NULL;
    colour *before = NULL;
    for (int y = r.y; y < r.y + r.h; y++) {
        const uint32_t row = (uint32_t)((uint64_t)(y - area.y) * rows / (uint64_t)area.h);
        const colour *in = cells + (size_t)row * columns;
        colour *at = c->pixels + (size_t)y * (size_t)c->width + (size_t)r.x;
        for (int x = 0; x < r.w; x++) at[x] = in == last ? before[x] : in[from[x]];
        last = in, before = at;
    }
    free(from);
}
