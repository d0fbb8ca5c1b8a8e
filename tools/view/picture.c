// SPDX-License-Identifier: MIT
// vkmoe-view --png: a frame without a screen.
#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/main.h"

static bool choose_layer(struct view *v, int number)
{
    if (number < 0) return true;
    for (uint32_t i = 0; i < v->history->layers; i++)
        if (v->history->layer[i].number == (uint32_t)number) return v->layer = i, true;
    log_error("%s: layer %d has no experts in its routing.trace", v->history->folder, number);
    return false;
}

bool view_open(struct view *v, const struct view_options *o)
{
    char folder[4200] = "";
    if (o->texts && !view_read_text(o, folder, sizeof folder)) return false;
    struct history *h = history_open(o->texts ? folder : o->folder);
    if (!h && o->texts) view_forget_text(folder);
    if (!h) return false;
    history_poll(h, o->png ? 0 : 100);
    view_init(v, h);
    v->name = o->folder;
    if (o->texts) v->own_folder = os_strdup(folder);
    v->panel = o->panel;
    v->all_layers = o->all_layers;
    if (o->light) v->theme = theme_light();
    v->first = o->first, v->last = o->last;
    if (o->step) view_go(v, o->step);
    if (choose_layer(v, o->layer)) return true;
    view_close(v);
    return false;
}

void view_close(struct view *v)
{
    struct history *h = v->history;
    view_finish(v);
    history_close(&h);
    if (v->own_folder) view_forget_text(v->own_folder);
    free(v->own_folder);
    v->own_folder = NULL;
}

bool view_picture(const struct view_options *o)
{
    struct view v;
    if (!view_open(&v, o)) return false;
    struct canvas *c = canvas_create(o->width, o->height, o->scale > 0 ? o->scale : 1, o->font);
    if (c) {
        if (o->hover) v.mouse = (struct view_mouse){.x = o->hover_x, .y = o->hover_y, .here = true};
        view_draw(&v, c, 0);
    }
    const bool ok = c && canvas_save_png(c, o->png);
    canvas_destroy(&c);
    view_close(&v);
    return ok;
}
