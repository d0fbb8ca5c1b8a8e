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
    // the model of the folder reads these, and its picks are shown in place of the run
    const char *text[16];
    int         texts;
    const char *device;            // that it runs on; NULL: the best
};

// All three: false after one line.
bool view_picture(const struct view_options *options);
bool view_bench(const struct view_options *options);
bool view_window(const struct view_options *options);
// Opens the folder and sets the view as the options say.
bool view_open(struct view *view, const struct view_options *options);
void view_close(struct view *view);
// Runs the model over the options' text; writes a folder of what was picked, and its path. False
// after one line, with nothing left behind.
bool view_read_text(const struct view_options *options, char *folder, size_t bytes);
void view_forget_text(const char *folder);
