// SPDX-License-Identifier: MIT
// The window: SDL2 shows the canvas and gives keys and mouse. A frame is drawn when something
// changed: an event, the run, a map that is still being read, time that plays; else it waits.
#include <SDL2/SDL.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "tools/view/main.h"

enum { FRAME_MS = 16, POLL_MS = 200, PLAY_SECONDS = 20 };

struct window {
    struct view     view;
    struct canvas  *canvas;
    SDL_Window     *window;
    float           screen_scale, own_scale; // of the display; by the keys
    bool            quit, dirty, fixed_scale;
    double          polled, played, fraction;
};

// ---- opening

// Texts are as large as 96 to the inch: what the display says, where it says something sensible.
static float scale_of(SDL_Window *window)
{
    float dpi = 0;
    const int display = SDL_GetWindowDisplayIndex(window);
    if (display < 0 || SDL_GetDisplayDPI(display, NULL, &dpi, NULL) != 0) return 1;
    const float scale = roundf(dpi / 96 * 4) / 4;
    return scale < 1 ? 1 : scale > 4 ? 4 : scale;
}

static bool fit(struct window *w)
{
    int width, height;
    SDL_Surface *surface = SDL_GetWindowSurface(w->window);
    if (!surface) {
        log_error("the window has no surface: %s", SDL_GetError());
        return false;
    }
    width = surface->w, height = surface->h;
    w->dirty = true;
    return canvas_resize(w->canvas, width, height, w->screen_scale * w->own_scale);
}

static bool open_window(struct window *w, const struct view_options *o)
{
    char title[600];
    if (SDL_Init(SDL_INIT_VIDEO) != 0) {
        log_error("no window: %s; --png FILE draws without a screen", SDL_GetError());
        return false;
    }
    snprintf(title, sizeof title, "%.500s \u2013 vkmoe-view", o->folder);
    w->window = SDL_CreateWindow(title, SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, o->width,
                                 o->height, SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    if (!w->window) {
        log_error("no window: %s; --png FILE draws without a screen", SDL_GetError());
        return false;
    }
    SDL_SetWindowMinimumSize(w->window, 320, 240);
    w->own_scale = 1;
    w->screen_scale = o->scale > 0 ? o->scale : scale_of(w->window);
    w->canvas = canvas_create(o->width, o->height, w->screen_scale, o->font);
    return w->canvas && fit(w);
}

// ---- keys

static void note(struct view *v, const char *text)
{
    snprintf(v->note, sizeof v->note, "%s", text);
    v->note_until = os_seconds() + 3;
}

// view-PANEL-STEP.png in the folder that the program was called in.
static void save(struct window *w)
{
    char path[200], text[260];
    struct view *v = &w->view;
    snprintf(path, sizeof path, "view-%s-%u.png", panel_name(v->panel), v->step);
    const bool help = v->help;
    v->help = false;
    v->note[0] = 0;
    view_draw(v, w->canvas, 0);
    v->help = help;
    snprintf(text, sizeof text, canvas_save_png(w->canvas, path) ? "saved %s"
                                                                 : "%s could not be written", path);
    note(v, text);
}

static void step_by(struct view *v, int sign, uint16_t mod)
{
    const struct history *h = v->history;
    const uint32_t all = h->last_step - h->first_step + 1;
    const uint32_t by = mod & KMOD_CTRL ? max_u32(all / 100, 1) : mod & KMOD_SHIFT ? 10 : 1;
    v->playing = false;
    if (sign > 0) view_go(v, v->step + min_u32(by, h->last_step - min_u32(v->step, h->last_step)));
    else view_go(v, v->step > by ? v->step - by : 1);
}

static void rescale(struct window *w, float factor)
{
    const float scale = w->own_scale * factor;
    if (scale * w->screen_scale < 0.6f || scale * w->screen_scale > 6) return;
    w->own_scale = scale;
    w->quit |= !fit(w);
}

static bool key_of_time(struct view *v, SDL_Keycode key, uint16_t mod)
{
    switch (key) {
    case SDLK_LEFT: step_by(v, -1, mod); break;
    case SDLK_RIGHT: step_by(v, 1, mod); break;
    case SDLK_HOME: view_go(v, v->history->first_step); break;
    case SDLK_END: view_go(v, v->history->last_step); break;
    case SDLK_PLUS: case SDLK_EQUALS: case SDLK_KP_PLUS: view_zoom(v, v->step, 0.7); break;
    case SDLK_MINUS: case SDLK_KP_MINUS: view_zoom(v, v->step, 1 / 0.7); break;
    case SDLK_x: v->first = v->last = 0; break;
    default: return false;
    }
    return true;
}

static void key_down(struct window *w, SDL_Keycode key, uint16_t mod)
{
    struct view *v = &w->view;
    w->dirty = true;
    if (v->help && key != SDLK_q) {
        v->help = false;
        return;
    }
    if (key >= SDLK_1 && key <= SDLK_6) v->panel = (enum panel)(key - SDLK_1);
    else if (key == SDLK_0) v->panel = PANEL_ALL;
    else if (!key_of_time(v, key, mod))
        switch (key) {
        case SDLK_TAB: v->panel = (enum panel)((v->panel + 1) % (PANEL_COUNT + 1)); break;
        case SDLK_PAGEUP: v->pages--; break;
        case SDLK_PAGEDOWN: v->pages++; break;
        case SDLK_UP: view_layer(v, -1); break;
        case SDLK_DOWN: view_layer(v, 1); break;
        case SDLK_SPACE:
            v->playing = !v->playing;
            if (v->playing && v->step >= v->history->last_step) view_go(v, v->history->first_step);
            break;
        case SDLK_a: v->all_layers = !v->all_layers; break;
        case SDLK_t: v->theme = v->theme->light ? theme_dark() : theme_light(); break;
        case SDLK_LEFTBRACKET: rescale(w, 1 / 1.125f); break;
        case SDLK_RIGHTBRACKET: rescale(w, 1.125f); break;
        case SDLK_s: save(w); break;
        case SDLK_SLASH: case SDLK_QUESTION: case SDLK_h: case SDLK_F1: v->help = true; break;
        case SDLK_ESCAPE: v->expert = HISTORY_NONE; break;
        case SDLK_q: w->quit = true; break;
        default: break;
        }
}

// ---- events

// The mouse in pixels of the canvas: a HiDPI window counts in other units.
static void place_mouse(struct window *w, int x, int y)
{
    int width, height;
    SDL_GetWindowSize(w->window, &width, &height);
    struct view_mouse *m = &w->view.mouse;
    m->x = width ? (int)((int64_t)x * w->canvas->width / width) : x;
    m->y = height ? (int)((int64_t)y * w->canvas->height / height) : y;
    m->here = true;
    w->dirty = true;
}

static void window_event(struct window *w, uint8_t what)
{
    if (what == SDL_WINDOWEVENT_SIZE_CHANGED || what == SDL_WINDOWEVENT_DISPLAY_CHANGED) {
        if (!w->fixed_scale) w->screen_scale = scale_of(w->window);
        w->quit |= !fit(w);
    }
    if (what == SDL_WINDOWEVENT_LEAVE) w->view.mouse.here = false;
    w->dirty = true;
}

static void take_event(struct window *w, const SDL_Event *e)
{
    struct view_mouse *m = &w->view.mouse;
    switch (e->type) {
    case SDL_QUIT: w->quit = true; break;
    case SDL_KEYDOWN: key_down(w, e->key.keysym.sym, e->key.keysym.mod); break;
    case SDL_MOUSEMOTION: place_mouse(w, e->motion.x, e->motion.y); break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        place_mouse(w, e->button.x, e->button.y);
        if (e->button.button != SDL_BUTTON_LEFT) break;
        m->down = e->type == SDL_MOUSEBUTTONDOWN;
        m->clicked |= m->down;
        break;
    case SDL_MOUSEWHEEL:
        m->wheel += e->wheel.y;
        m->control = SDL_GetModState() & KMOD_CTRL;
        w->dirty = true;
        break;
    case SDL_WINDOWEVENT: window_event(w, e->window.event); break;
    default: break;
    }
}

// ---- frames

static void show(struct window *w)
{
    SDL_Surface *surface = SDL_GetWindowSurface(w->window);
    const struct canvas *c = w->canvas;
    if (!surface) return;
    SDL_Surface *own = SDL_CreateRGBSurfaceWithFormatFrom(
        c->pixels, c->width, c->height, 32, c->width * 4, SDL_PIXELFORMAT_RGB888);
    if (own) SDL_BlitSurface(own, NULL, surface, NULL);
    SDL_FreeSurface(own);
    SDL_UpdateWindowSurface(w->window);
}

// The whole run in PLAY_SECONDS, a step a frame at most slowly, ten times a second.
static void play(struct window *w)
{
    struct view *v = &w->view;
    const double now = os_seconds(), passed = fmin(now - w->played, 0.2);
    w->played = now;
    if (!v->playing) return;
    const double all = v->history->last_step - v->history->first_step + 1.0;
    w->fraction += passed * fmax(all / PLAY_SECONDS, 10);
    const uint32_t whole = (uint32_t)w->fraction;
    if (!whole) return;
    w->fraction -= whole;
    view_go(v, v->step + whole);
    if (v->step >= v->history->last_step) v->playing = false;
    w->dirty = true;
}

static void turn(struct window *w)
{
    SDL_Event event;
    struct view *v = &w->view;
    const double start = os_seconds();
    const bool busy = w->dirty || v->playing || view_pending(v);
    if (SDL_WaitEventTimeout(&event, busy ? 1 : POLL_MS))
        do take_event(w, &event);
        while (!w->quit && SDL_PollEvent(&event));
    if (start - w->polled > POLL_MS / 1000.0 || !history_complete(v->history)) {
        w->dirty |= history_poll(v->history, FRAME_MS / 2.0);
        w->polled = start;
    }
    play(w);
    if (v->note[0] && start > v->note_until) v->note[0] = 0, w->dirty = true;
    if (!w->dirty && !view_pending(v)) return;
    w->dirty = false;
    view_draw(v, w->canvas, FRAME_MS / 2.0);
    show(w);
    const double spent = (os_seconds() - start) * 1000;
    if (spent < FRAME_MS) SDL_Delay((uint32_t)(FRAME_MS - spent));
}

bool view_window(const struct view_options *o)
{
    struct window w = {.dirty = true, .fixed_scale = o->scale > 0};
    if (!view_open(&w.view, o)) return false;
    const bool ok = open_window(&w, o);
    while (ok && !w.quit) turn(&w);
    canvas_destroy(&w.canvas);
    if (w.window) SDL_DestroyWindow(w.window);
    SDL_Quit();
    view_close(&w.view);
    return ok;
}
