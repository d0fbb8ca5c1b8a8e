// SPDX-License-Identifier: MIT
// Cells of text on a terminal: see screen.h.
#include "tools/watch/screen.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"

void screen_init(struct screen *s, enum terminal_colours colours, bool utf8)
{
    *s = (struct screen){.colours = colours, .utf8 = utf8};
}

void screen_finish(struct screen *s)
{
    free(s->cell), free(s->shown);
    bytes_free(&s->out);
    *s = (struct screen){0};
}

void screen_resize(struct screen *s, int columns, int rows)
{
    free(s->cell), free(s->shown);
    s->columns = columns, s->rows = rows;
    s->cell = os_alloc(((size_t)columns * (size_t)rows + 1) * sizeof *s->cell);
    s->shown = os_alloc(((size_t)columns * (size_t)rows + 1) * sizeof *s->shown);
    s->anew = true;
}

static struct screen_cell *at(struct screen *s, int x, int y)
{
    return x >= 0 && y >= 0 && x < s->columns && y < s->rows
               ? &s->cell[(size_t)y * (size_t)s->columns + (size_t)x] : NULL;
}

void screen_clear(struct screen *s, colour ground)
{
    screen_fill(s, (struct box){0, 0, s->columns, s->rows}, ground);
}

// ---- boxes

struct box box_top(struct box *b, int h)
{
    const struct box part = {b->x, b->y, b->w, h < b->h ? h : b->h};
    b->y += part.h, b->h -= part.h;
    return part;
}

struct box box_bottom(struct box *b, int h)
{
    const int own = h < b->h ? h : b->h;
    b->h -= own;
    return (struct box){b->x, b->y + b->h, b->w, own};
}

struct box box_left(struct box *b, int w)
{
    const struct box part = {b->x, b->y, w < b->w ? w : b->w, b->h};
    b->x += part.w, b->w -= part.w;
    return part;
}

struct box box_right(struct box *b, int w)
{
    const int own = w < b->w ? w : b->w;
    b->w -= own;
    return (struct box){b->x + b->w, b->y, own, b->h};
}

// ---- cells

void screen_fill(struct screen *s, struct box b, colour ground)
{
    for (int y = b.y; y < b.y + b.h; y++)
        for (int x = b.x; x < b.x + b.w; x++) {
            struct screen_cell *cell = at(s, x, y);
            if (!cell) continue;
            memset(cell, 0, sizeof *cell);
            cell->ground = cell->ink = ground;
        }
}

void screen_ground(struct screen *s, int x, int y, colour ground)
{
    struct screen_cell *cell = at(s, x, y);
    if (cell) cell->ground = ground;
}

void screen_bold(struct screen *s, struct box b)
{
    for (int x = b.x; x < b.x + b.w; x++)
        if (at(s, x, b.y)) at(s, x, b.y)->bold = true;
}

static void set_sign(struct screen *s, int x, int y, const char *sign, colour ink)
{
    struct screen_cell *cell = at(s, x, y);
    if (!cell) return;
    memset(cell->text, 0, sizeof cell->text);
    memcpy(cell->text, sign, strnlen(sign, sizeof cell->text - 1));
    cell->ink = ink;
}

// Bytes of the sign that begins here (what is no UTF-8: one), and the sign's number.
static int sign_bytes(const char *text, uint32_t *number)
{
    const uint8_t first = (uint8_t)*text;
    const int count = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2
                                                                                               : 0;
    *number = count <= 1 ? first : first & (0xffu >> (count + 1));
    if (count == 0) return *number = 0xfffd, 1;
    for (int i = 1; i < count; i++) {
        if (((uint8_t)text[i] & 0xc0) != 0x80) return *number = 0xfffd, 1;
        *number = *number << 6 | ((uint8_t)text[i] & 0x3f);
    }
    return count;
}

// Signs that take no cell, or two: every terminal has its own mind about them.
static bool one_cell(uint32_t n)
{
    static const struct { uint32_t first, last; } others[] = {
        {0x00, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x300, 0x36f}, {0x483, 0x489}, {0x591, 0x5bd},
        {0x610, 0x61a}, {0x64b, 0x65f}, {0x900, 0xdff}, {0xe31, 0xe3a}, {0xe47, 0xe4e},
        {0x1100, 0x11ff}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0x20d0, 0x20ff},
        {0x231a, 0x231b}, {0x23e9, 0x23f3}, {0x25fd, 0x25fe}, {0x2614, 0x2615}, {0x2648, 0x2653},
        {0x26a0, 0x26ff}, {0x2705, 0x2757}, {0x2795, 0x27bf}, {0x2b1b, 0x2b55}, {0x2e80, 0xa4cf},
        {0xa960, 0xa97f}, {0xac00, 0xd7ff}, {0xd800, 0xf8ff}, {0xf900, 0xfaff}, {0xfe00, 0xfe6f},
        {0xfeff, 0xff60}, {0xffe0, 0xfffc}, {0x10000, 0x1ffff}, {0x20000, 0x10ffff}};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (n >= others[i].first && n <= others[i].last) return false;
    return true;
}

int screen_put(struct screen *s, struct box b, colour ink, const char *text)
{
    int x = 0;
    for (; *text && x < b.w && b.h > 0; x++) {
        uint32_t number;
        const int bytes = sign_bytes(text, &number);
        char sign[6] = "";
        memcpy(sign, text, (size_t)bytes);
        const bool plain = one_cell(number) && number != 0xfffd && (s->utf8 || number < 0x80);
        set_sign(s, b.x + x, b.y, plain ? sign : s->utf8 ? "·" : ".", ink);
        text += bytes;
    }
    return x;
}

int screen_print(struct screen *s, struct box b, colour ink, const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return screen_put(s, b, ink, text);
}

int screen_print_right(struct screen *s, struct box b, colour ink, const char *format, ...)
{
    char text[1024];
    int wide = 0;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    uint32_t number;
    for (const char *t = text; *t; wide++) t += sign_bytes(t, &number);
    if (wide < b.w) b.x += b.w - wide, b.w = wide;
    return screen_put(s, b, ink, text);
}

// ---- signs that are pictures

void screen_pixel(struct screen *s, int x, int y, colour own)
{
    struct screen_cell *cell = at(s, x, y / 2);
    if (!cell) return;
    if (!s->utf8) { // the upper one is all there is
        if (y % 2 == 0) cell->ground = own;
        return;
    }
    set_sign(s, x, y / 2, "▀", y % 2 ? cell->ink : own);
    if (y % 2) cell->ground = own;
}

void screen_bar(struct screen *s, struct box b, double share, colour ink, colour ground)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int all = (int)lround(8.0 * b.w * (share > 0 ? fmin(share, 1) : 0));
    for (int x = 0; x < b.w; x++) {
        const int own = all - 8 * x;
        screen_ground(s, b.x + x, b.y, own >= 8 ? ink : ground);
        if (s->utf8 && own > 0 && own < 8) set_sign(s, b.x + x, b.y, eighths[own], ink);
        else if (!s->utf8 && own >= 4) screen_ground(s, b.x + x, b.y, ink);
    }
}

void screen_sparks(struct screen *s, struct box b, const double *value, double low, double high,
                   colour ink)
{
    static const char *const eighths[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {"_", "_", ".", ".", "-", "-", "=", "#"};
    for (int x = 0; x < b.w; x++) {
        if (isnan(value[x])) continue;
        const double share = high > low ? (value[x] - low) / (high - low) : 0.5;
        const int own = (int)fmin(7, fmax(0, floor(8 * share)));
        set_sign(s, b.x + x, b.y, s->utf8 ? eighths[own] : ascii[own], ink);
    }
}

// Dots of a braille sign: two columns of four.
static void dot(struct screen *s, struct box b, int x, int y, colour ink)
{
    static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    if (x < 0 || y < 0 || x >= 2 * b.w || y >= 4 * b.h) return;
    struct screen_cell *cell = at(s, b.x + x / 2, b.y + y / 4);
    if (!cell) return;
    if (!s->utf8) {
        set_sign(s, b.x + x / 2, b.y + y / 4, "*", ink);
        return;
    }
    uint32_t dots = bit[y % 4][x % 2];
    if ((uint8_t)cell->text[0] == 0xe2 && ((uint8_t)cell->text[1] & 0xfc) == 0xa0)
        dots |= ((uint8_t)cell->text[1] & 3u) << 6 | ((uint8_t)cell->text[2] & 0x3fu);
    const char sign[] = {(char)0xe2, (char)(0xa0 | dots >> 6), (char)(0x80 | (dots & 0x3f)), 0};
    set_sign(s, b.x + x / 2, b.y + y / 4, sign, ink);
}

// From dot to dot, both included.
static void stroke(struct screen *s, struct box b, int x0, int y0, int x1, int y1, colour ink)
{
    const int steps = (int)fmax(fmax(abs(x1 - x0), abs(y1 - y0)), 1);
    for (int i = 0; i <= steps; i++)
        dot(s, b, x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps, ink);
}

void screen_curve(struct screen *s, struct box b, const double *value, uint32_t count, double low,
                  double high, colour ink)
{
    int x0 = -1, y0 = 0;
    const int tall = 4 * b.h - 1, wide = 2 * b.w - 1;
    for (uint32_t i = 0; i < count; i++) {
        if (isnan(value[i])) continue;
        const double share = high > low ? (value[i] - low) / (high - low) : 0.5;
        const int x = count > 1 ? (int)((uint64_t)i * (uint64_t)wide / (count - 1)) : 0,
                  y = (int)lround((1 - fmin(1, fmax(0, share))) * tall);
        stroke(s, b, x0 < 0 ? x : x0, x0 < 0 ? y : y0, x, y, ink);
        x0 = x, y0 = y;
    }
}

// ---- to the terminal

// The nearest of xterm's 256: a cube of six levels, and greys.
static int nearest(colour own)
{
    static const int level[] = {0, 95, 135, 175, 215, 255};
    const int rgb[] = {(int)(own >> 16 & 255), (int)(own >> 8 & 255), (int)(own & 255)};
    int place[3], cube = 0, grey_off = 0;
    const int mean = (rgb[0] + rgb[1] + rgb[2]) / 3;
    const int step = mean < 8 ? 0 : mean > 238 ? 23 : (mean - 3) / 10, grey = 8 + 10 * step;
    for (int i = 0; i < 3; i++) {
        place[i] = rgb[i] < 48 ? 0 : rgb[i] < 115 ? 1 : (rgb[i] - 35) / 40;
        cube += (level[place[i]] - rgb[i]) * (level[place[i]] - rgb[i]);
        grey_off += (grey - rgb[i]) * (grey - rgb[i]);
    }
    return grey_off < cube ? 232 + step : 16 + 36 * place[0] + 6 * place[1] + place[2];
}

static void put_colour(struct screen *s, int what, colour own)
{
    if (s->colours == TERMINAL_TRUE)
        bytes_printf(&s->out, "\033[%d;2;%u;%u;%um", what, own >> 16 & 255, own >> 8 & 255,
                     own & 255);
    else
        bytes_printf(&s->out, "\033[%d;5;%dm", what, nearest(own));
}

static void put_cell(struct screen *s, const struct screen_cell *cell,
                     const struct screen_cell **pen)
{
    const struct screen_cell *old = *pen;
    if (!old || old->bold != cell->bold) bytes_printf(&s->out, cell->bold ? "\033[1m" : "\033[22m");
    if (!old || old->ground != cell->ground) put_colour(s, 48, cell->ground);
    // a blank has no ink
    if (cell->text[0] && (!old || old->ink != cell->ink)) put_colour(s, 38, cell->ink);
    bytes_printf(&s->out, "%s", cell->text[0] ? cell->text : " ");
    *pen = cell;
}

static bool same(const struct screen_cell *a, const struct screen_cell *b)
{
    return a->ground == b->ground && a->bold == b->bold && memcmp(a->text, b->text, 6) == 0 &&
           (a->ink == b->ink || !a->text[0]);
}

// Held back by the terminal until it is whole, where it knows how.
void screen_text_of(struct screen *s)
{
    const struct screen_cell *pen = NULL;
    s->out.count = 0;
    bytes_printf(&s->out, "\033[?2026h\033[0m%s", s->anew ? "\033[2J" : "");
    for (int y = 0; y < s->rows; y++) {
        bool here = false;
        for (int x = 0; x < s->columns; x++) {
            struct screen_cell *cell = at(s, x, y);
            const size_t i = (size_t)(cell - s->cell);
            // a blank's ink is what the pen has: the next sign says its own
            if (!cell->text[0]) cell->ink = pen ? pen->ink : cell->ground;
            if (!s->anew && same(cell, &s->shown[i])) {
                here = false;
                continue;
            }
            if (!here) bytes_printf(&s->out, "\033[%d;%dH", y + 1, x + 1);
            if (!pen && !cell->text[0]) put_colour(s, 38, cell->ink);
            put_cell(s, cell, &pen);
            here = true;
        }
    }
    bytes_printf(&s->out, "\033[0m\033[?2026l");
    memcpy(s->shown, s->cell, (size_t)s->columns * (size_t)s->rows * sizeof *s->cell);
    s->anew = false;
}
