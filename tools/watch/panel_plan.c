// SPDX-License-Identifier: MIT
// Where the time of a training step goes (plan.json): a strip of the steps in their order, and the
// kernels with their share, against what the device can do.
#include <stdio.h>

#include "runtime/file.h"
#include "tools/view/plan_file.h"
#include "tools/watch/watch.h"

enum { NAME = 24, RATES = 33 };

// One run of each plan, side by side, each cell in the colour of the kernel that has most of it.
static void draw_strip(struct watch *w, struct box box, const struct plan_file *p)
{
    double *most = arena_array(w->arena, (size_t)box.w + 1, sizeof *most);
    screen_fill(&w->screen, box, w->theme->grid);
    for (uint32_t i = 0; i < p->rows; i++) {
        const double begin = p->row[i].start / p->ms * box.w,
                     end = begin + p->row[i].ms / p->ms * box.w;
        for (int x = (int)begin; x < box.w && x < end; x++) {
            const double own = (end < x + 1 ? end : x + 1) - (begin > x ? begin : x);
            if (x < 0 || own <= most[x]) continue;
            most[x] = own;
            screen_fill(&w->screen, (struct box){box.x + x, box.y, 1, box.h},
                        colour_expert(p->row[i].kind));
        }
    }
}

static void draw_kernel(struct watch *w, struct box line, const struct plan_file *p, uint32_t i)
{
    const struct plan_kernel *k = &p->kernel[i];
    const struct theme *t = w->theme;
    struct screen *s = &w->screen;
    screen_fill(s, box_left(&line, 2), colour_expert(i));
    box_left(&line, 1);
    screen_put(s, box_left(&line, NAME), t->text, k->name);
    screen_print(s, box_left(&line, 6), t->faint, "x%u", k->steps);
    screen_print_right(s, box_left(&line, 10), t->text, "%.2f ms", k->ms);
    screen_print_right(s, box_left(&line, 8), t->dim, "%.1f %%", 100 * k->ms / p->all_ms);
    box_left(&line, 2);
    if (line.w > RATES + 12 && k->ms > 0) {
        const struct box rate = box_right(&line, RATES);
        box_right(&line, 1);
        screen_print_right(s, (struct box){rate.x, rate.y, 18, 1}, t->dim, "%.2f GFLOP/s",
                           1e-6 * k->flop / k->ms);
        screen_print_right(s, (struct box){rate.x + 18, rate.y, 15, 1}, t->dim, "%.2f GB/s",
                           1e-6 * k->bytes / k->ms);
    }
    if (line.w > 3)
        screen_bar(s, line, k->ms / p->kernel[0].ms, colour_expert(i), t->grid);
}

static void draw_plan(struct watch *w, struct box box, const struct plan_file *p)
{
    screen_print(&w->screen, box_top(&box, 1), w->theme->dim,
                 "%.1f ms a step, each kernel alone; %s: %.1f GFLOP/s of f32, copies %.1f GB/s",
                 p->all_ms, p->device, p->fma_gflops, p->copy_gbps);
    box_top(&box, box.h > 12);
    draw_strip(w, box_top(&box, box.h > 12 ? 2 : 1), p);
    box_top(&box, 1);
    for (uint32_t i = 0; i < p->kernels && box.h > 0; i++)
        draw_kernel(w, box_top(&box, 1), p, i);
}

void watch_plan(struct watch *w, struct box box, double ms)
{
    (void)ms;
    char path[4200];
    snprintf(path, sizeof path, "%.4100s/plan.json", w->history->folder);
    box = watch_frame(w, box, "plan", "where the time of a training step goes");
    struct plan_file *p = file_exists(path) ? plan_file_read(path) : NULL;
    if (p && p->ms > 0 && p->kernels) draw_plan(w, box, p);
    else watch_empty(w, box, "no plan.json: not settled yet, or a device without timestamps");
    plan_file_free(&p);
}
