// SPDX-License-Identifier: MIT
// vkmoe watch: a run folder on a terminal. What is looked at, and what its panels share; a frame is
// drawn from this struct and the folder alone, the same for a terminal, a file and a test.
#pragma once

#include "tools/view/history.h"
#include "tools/watch/screen.h"

enum watch_panel {
    WATCH_ALL, WATCH_OVERVIEW, WATCH_EXPERTS, WATCH_TOKENS, WATCH_SPECIALISATION, WATCH_RESIDENCY,
    WATCH_PLAN, WATCH_PANELS
};

struct watch {
    struct history     *history;
    struct history_map *map;
    struct screen       screen;
    const struct theme *theme;
    enum watch_panel    panel;
    uint32_t layer;        // of those with experts, from 0
    uint32_t step;         // of the time slider
    uint32_t first, last;  // steps of the time axes; 0, 0: all
    uint32_t token;        // that the inspector shows
    uint32_t choice;       // 0: tokens are coloured by their first expert, 1: the second ...
    bool     follow;       // the last step, as it comes
    bool     playing, help, all_layers;
    bool     pending;      // the map lacks something that another frame will have
    char     note[200];    // what was just done
    double   note_until, play_at; // os_seconds
    struct arena *arena;   // of a frame
};

void watch_init(struct watch *watch, struct history *history);
void watch_finish(struct watch *watch);
// Takes what has grown; true where something did. ms as history_poll's.
bool watch_poll(struct watch *watch, double ms);
void watch_draw(struct watch *watch, double ms); // ms: most that reading a trace may take; 0: all
// False: the key ends it.
bool watch_key(struct watch *watch, int key);
// One line for people who read a pipe; nothing where nothing is known of the step yet.
bool watch_line(struct watch *watch, char *out, size_t bytes);
// Until a key or a signal ends it; without a terminal lines, until the run ends or its reader does.
// False after one line.
bool watch_terminal(const char *folder);
bool watch_lines(const char *folder, bool once);

// ---- for panels

struct watch_span { uint32_t first, last; };
struct watch_span watch_span(const struct watch *watch);
void watch_go(struct watch *watch, uint32_t step);
double watch_value(const struct watch *watch, const char *series, int layer); // at the step; NAN
// A series over the span as `count` means; where no line has it NAN, or, `held`, what was before.
// *low and *high: of them. NULL: there is no such series.
double *watch_column(struct watch *watch, const char *series, int layer, uint32_t count,
                     bool held, double *low, double *high);
// The ground of a panel with its title; what is left inside.
struct box watch_frame(struct watch *watch, struct box box, const char *title, const char *note);
void watch_empty(struct watch *watch, struct box box, const char *why);
// A marker of the slider's step over a time axis of so many cells, and the axis' ends.
void watch_marker(struct watch *watch, struct box line);
void watch_axis(struct watch *watch, struct box line);
// A number in at most 9 cells: 12, 0.0123, 4.2 k, 3.1 GiB for bytes.
const char *watch_number(struct watch *watch, double value, bool bytes);

typedef void watch_panel_draw(struct watch *watch, struct box box, double ms);
watch_panel_draw watch_overview, watch_loss, watch_experts, watch_tokens, watch_specialisation,
    watch_residency, watch_plan;
