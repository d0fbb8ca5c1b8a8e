// SPDX-License-Identifier: MIT
// vkmoe-view --bench: a run is opened and every panel drawn while time plays and the mouse moves,
// with the copy to a window's surface; CPU time of each frame. Without a folder it plants its own.
#include "tools/view/bench.h"

#include <SDL2/SDL.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"

enum { FRAMES = 120, FRAME_MS = 16, SETTLE = 2000 };

static const struct planted planted[] = {
    {"100,000 steps x 12 layers x 64 experts", 100000, 12, 64, 4, 96, false},
    {"2,000 steps x 20,480 experts, streamed", 2000, 1, 20480, 8, 256, true},
};

static double cpu_ms(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e3 +
           (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-3;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void show(struct canvas *c, SDL_Surface *window)
{
    SDL_Surface *own = SDL_CreateRGBSurfaceWithFormatFrom(
        c->pixels, c->width, c->height, 32, c->width * 4, SDL_PIXELFORMAT_RGB888);
    SDL_BlitSurface(own, NULL, window, NULL);
    SDL_FreeSurface(own);
}

// The same frame until nothing is missing from it: how many that took, and the longest.
static uint32_t settle(struct view *v, struct canvas *c, double *longest)
{
    uint32_t frames = 0;
    *longest = 0;
    do {
        const double start = cpu_ms();
        view_draw(v, c, FRAME_MS / 2.0);
        const double spent = cpu_ms() - start;
        *longest = spent > *longest ? spent : *longest;
    } while (++frames < SETTLE && view_pending(v));
    return frames;
}

static void bench_panel(struct view *v, struct canvas *c, SDL_Surface *window, enum panel panel)
{
    const struct history *h = v->history;
    double frame[FRAMES], longest;
    v->panel = panel;
    v->playing = false;
    view_go(v, h->first_step);
    const uint32_t frames = settle(v, c, &longest);
    v->playing = true;
    for (uint32_t i = 0; i < FRAMES; i++) {
        const double start = cpu_ms();
        v->mouse = (struct view_mouse){.x = 20 + (int)i * (c->width - 40) / FRAMES,
                                       .y = 80 + (int)i * (c->height - 160) / FRAMES,
                                       .here = true};
        view_go(v, h->first_step + (uint32_t)((uint64_t)(h->last_step - h->first_step) * i /
                                              (FRAMES - 1)));
        view_draw(v, c, FRAME_MS / 2.0);
        show(c, window);
        frame[i] = cpu_ms() - start;
    }
    qsort(frame, FRAMES, sizeof *frame, by_size);
    printf("  %-16s %6.2f ms  95 %% %6.2f ms  most %6.2f ms   whole after %u frame%s (most %.1f ms)"
           "\n", panel_name(panel), frame[FRAMES / 2], frame[FRAMES * 95 / 100],
           frame[FRAMES - 1], frames, frames == 1 ? "" : "s", longest);
}

static uint64_t size_of(const char *folder, const char *name)
{
    char path[4200];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%.4000s/%s", folder, name);
    return file_exists(path) && file_size(path, &bytes) ? bytes : 0;
}

static bool bench_folder(const struct view_options *o, const char *folder)
{
    struct view_options own = *o;
    struct view v;
    own.folder = folder, own.bench = false;
    const double start = os_seconds();
    if (!view_open(&v, &own)) return false;
    struct canvas *c = canvas_create(o->width, o->height, o->scale > 0 ? o->scale : 1, o->font);
    SDL_Surface *window = SDL_CreateRGBSurfaceWithFormat(0, o->width, o->height, 32,
                                                         SDL_PIXELFORMAT_ARGB8888);
    if (!c || !window) return canvas_destroy(&c), view_close(&v), false;
    view_draw(&v, c, FRAME_MS / 2.0);
    const double opened = os_seconds(), cpu = cpu_ms();
    history_poll(v.history, 0);
    const double whole = (cpu_ms() - cpu) / 1000;
    printf("%s: routing.trace %.0f MB, metrics.jsonl %.0f MB\n", folder,
           (double)size_of(folder, "routing.trace") / 1e6,
           (double)size_of(folder, "metrics.jsonl") / 1e6);
    printf("  first frame after %.2f s, the rest of the metrics %.2f s of CPU, %.0f MB of memory "
           "(most %.0f)\n", opened - start, whole, (double)os_resident_bytes() / 1e6,
           (double)os_resident_peak() / 1e6);
    printf("  CPU of a frame of %d x %d, median of %d:\n", o->width, o->height, FRAMES);
    for (uint32_t p = 0; p <= PANEL_COUNT; p++) bench_panel(&v, c, window, (enum panel)p);
    v.all_layers = true;
    printf("  with all layers:\n");
    bench_panel(&v, c, window, PANEL_EXPERTS);
    printf("  %.0f MB of memory, most %.0f MB\n", (double)os_resident_bytes() / 1e6,
           (double)os_resident_peak() / 1e6);
    SDL_FreeSurface(window);
    canvas_destroy(&c);
    view_close(&v);
    return true;
}

static void remove_planted(const char *folder)
{
    static const char *const names[] = {"routing.trace", "residency.trace", "metrics.jsonl"};
    char path[4200];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%.4000s/%s", folder, names[i]);
        remove(path);
    }
    rmdir(folder);
}

bool view_bench(const struct view_options *o)
{
    const char *base = getenv("TMPDIR");
    char folder[4096];
    bool ok = true;
    if (o->folder) return bench_folder(o, o->folder);
    for (size_t i = 0; i < COUNT_OF(planted) && ok; i++) {
        snprintf(folder, sizeof folder, "%.4000s/vkmoe-view-bench-%d", base ? base : "/tmp",
                 (int)getpid());
        printf("%s\n", planted[i].name);
        ok = bench_plant(&planted[i], folder) && bench_folder(o, folder);
        remove_planted(folder);
    }
    return ok;
}
