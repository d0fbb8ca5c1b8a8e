// SPDX-License-Identifier: MIT
// What the command line of vkmoe-view asks for, and the three things that can be done with it.
#pragma once

#include "tools/view/view.h"

struct view_options {
    const char *folder, *png, *font;
    enum panel  panel;
    uint32_t    step, first, last; // 0: the last, all
    int         layer;             // its number in the model; -1: the first with experts
    int         width, height;
    float       scale;             // 0: the screen's
    bool        light, bench, all_layers, hover;
    int         hover_x, hover_y;
};

// All three: false after one line.
bool view_picture(const struct view_options *options);
bool view_bench(const struct view_options *options);
bool view_window(const struct view_options *options);
// Opens the folder and sets the view as the options say.
bool view_open(struct view *view, const struct view_options *options);
void view_close(struct view *view);
