// SPDX-License-Identifier: MIT
// Cells of text on a terminal. A frame is drawn into cells; screen_text_of writes what is other
// than what the terminal shows. Colours are 24-bit; where the terminal has 256, the nearest of
// these. Without UTF-8, signs of ASCII stand for blocks and lines.
#pragma once

#include "tools/view/colours.h"
#include "tools/watch/terminal.h"

struct screen_cell {
    char   text[6]; // one sign, UTF-8; empty: a blank
    bool   bold;
    colour ink, ground;
};

struct screen {
    int  columns, rows;
    enum terminal_colours colours;
    bool utf8;
    struct screen_cell *cell, *shown; // [rows][columns]; shown: what the terminal has
    bool anew;                        // it has nothing
    struct bytes out;
};

void screen_init(struct screen *screen, enum terminal_colours colours, bool utf8);
void screen_finish(struct screen *screen);
void screen_resize(struct screen *screen, int columns, int rows); // and draws anew
void screen_clear(struct screen *screen, colour ground);
// What has to be written to the terminal, in screen->out; the cells are shown then.
void screen_text_of(struct screen *screen);

struct box { int x, y, w, h; };
struct box box_top(struct box *box, int h);    // taken away from it
struct box box_bottom(struct box *box, int h);
struct box box_left(struct box *box, int w);
struct box box_right(struct box *box, int w);

void screen_fill(struct screen *screen, struct box box, colour ground);
// On the ground that is there, cut at the end of the box's first line; a sign that is not one cell
// wide becomes a dot. Returns the cells it took.
int screen_put(struct screen *screen, struct box box, colour ink, const char *text);
int screen_print(struct screen *screen, struct box box, colour ink, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int screen_print_right(struct screen *screen, struct box box, colour ink, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void screen_bold(struct screen *screen, struct box box);
void screen_ground(struct screen *screen, int x, int y, colour ground);
// A pixel of two that a cell has, one above the other; y counts pixels.
void screen_pixel(struct screen *screen, int x, int y, colour colour);
// A bar of eighths from the left of a line; share 0..1.
void screen_bar(struct screen *screen, struct box box, double share, colour ink, colour ground);
// A line through values [count] over the box's width, past those that are NAN; low and high at the
// box's edges. By dots of 2 x 4 a cell.
void screen_curve(struct screen *screen, struct box box, const double *value, uint32_t count,
                  double low, double high, colour ink);
// The same in one row of cells by bars of eighths: [box.w] values.
void screen_sparks(struct screen *screen, struct box box, const double *value, double low,
                   double high, colour ink);
