// SPDX-License-Identifier: MIT
// The terminal taken whole: its other screen, no echo, no cursor; and given back on every way out:
// an end, Ctrl-C, a signal that kills, a crash, being stopped (Ctrl-Z) and gone on with. One at a
// time in a process, because signals are the process's.
#pragma once

#include "src/base.h"

enum terminal_colours { TERMINAL_TRUE, TERMINAL_256 };

// What the environment says: COLORTERM, TERM; LC_ALL, LC_CTYPE, LANG for UTF-8.
enum terminal_colours terminal_colours(void);
bool terminal_utf8(void);

bool terminal_take(void);      // stdin and stdout; false after one line
void terminal_give_back(void); // more than once does no harm
void terminal_size(int *columns, int *rows);
// All of it, whatever signals come meanwhile; false where nobody takes it any more.
bool terminal_put(const char *text, size_t bytes);

enum terminal_key { // other keys are their character
    KEY_NONE = 0, KEY_TAB = 9, KEY_ESCAPE = 27,
    KEY_UP = 0x1000, KEY_DOWN, KEY_LEFT, KEY_RIGHT, KEY_SHIFT_LEFT, KEY_SHIFT_RIGHT, KEY_HOME,
    KEY_END, KEY_PAGE_UP, KEY_PAGE_DOWN, KEY_SHIFT_TAB,
    KEY_RESIZED, // the size is another, or the screen was somebody else's meanwhile
    KEY_CLOSED,  // there is no more input
};
// Waits so long at most. KEY_NONE: nothing came.
int terminal_key(int ms);
