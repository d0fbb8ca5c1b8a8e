// SPDX-License-Identifier: MIT
// The viewer: what is looked at, and its pictures. A frame is drawn from this struct and the run
// folder alone (view_draw), the same in a window, a PNG and a test. Drawing answers the mouse too:
// what lies under it says so (view_tip) and takes the click; a frame that changed something asks
// for another (`again`).
#pragma once

#include "tools/view/canvas.h"
#include "tools/view/colours.h"
#include "tools/view/history.h"

enum panel {
    PANEL_OVERVIEW, PANEL_EXPERTS, PANEL_TOKENS, PANEL_SPECIALISATION, PANEL_RESIDENCY, PANEL_PLAN,
    PANEL_COUNT,
    PANEL_ALL = PANEL_COUNT, // those that have something to show, side by side
};

struct view_mouse {
    int  x, y;
    bool here;           // over the window
    bool down, clicked;  // the left button: is held, went down since the last frame
    int  wheel;          // turns up since the last frame
    bool control;
};

struct view {
    struct history     *history;
    const char         *name;        // in the header; NULL: the history's folder
    const struct theme *theme;
    enum panel          panel;
    uint32_t            layer;       // of those with experts, from 0
    uint32_t            step;        // of the time slider
    bool                follow;      // the last step, as it comes
    uint32_t            first, last; // steps of the time axes; 0, 0: all
    uint32_t            expert;      // that was clicked; HISTORY_NONE
    bool                playing, help, all_layers;
    int                 scroll;      // pixels of the tokens' text above what is seen
    int                 pages;       // of it, asked for since the last frame; down
    struct view_mouse   mouse;
    // of a frame
    bool                again;
    const void         *held;        // what the button went down on
    char                tip[1024];   // lines
    char                note[300];   // what was just done
    double              note_until;  // os_seconds
    struct view_parts  *parts;       // what panels remember from frame to frame
    char               *own_folder;  // of a text that the model read; goes away with the view
};

bool view_init(struct view *view, struct history *history);
void view_finish(struct view *view);
// One frame. ms: how long reading of a trace may take (0: until all of it is there).
void view_draw(struct view *view, struct canvas *canvas, double ms);
// Whether the last frame lacked something that another will have.
bool view_pending(const struct view *view);

const char *panel_name(enum panel panel);        // "overview" ...: of --panel
bool        panel_find(const char *name, enum panel *out);

// ---- for panels

struct view_span { uint32_t first, last; };
struct view_span view_span(const struct view *view);          // steps of the time axes
void  view_tip(struct view *view, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool  view_over(const struct view *view, struct rect area);   // the mouse, with nothing held
bool  view_click(struct view *view, struct rect area);        // and it went down there
void  view_go(struct view *view, uint32_t step);
void  view_layer(struct view *view, int by);
void  view_zoom(struct view *view, uint32_t around, double factor);
// Steps along an area: a click or drag moves the slider, a wheel zooms; `key` tells areas apart.
void  view_time(struct view *view, struct rect area, const void *key, bool wheel);
float view_x(const struct view *view, struct rect area, uint32_t step);
uint32_t view_step_at(const struct view *view, struct rect area, int x);
// A panel's ground with its title; returns what is left inside.
struct rect view_frame(struct view *view, struct canvas *canvas, struct rect area,
                       const char *title, struct rect *header);
void view_empty(struct view *view, struct canvas *canvas, struct rect area, const char *why);
// The load map's legend; returns its width.
int  view_load_legend(struct view *view, struct canvas *canvas, struct rect box);
// Chips to choose a layer by, from the left of a box.
void view_layers(struct view *view, struct canvas *canvas, struct rect *box);

typedef void panel_draw(struct view *view, struct canvas *canvas, struct rect area, double ms);
panel_draw panel_overview, panel_experts, panel_tokens, panel_specialisation, panel_residency,
    panel_plan;
