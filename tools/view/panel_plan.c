// SPDX-License-Identifier: MIT
// Plan: one training step as the device's timestamps had it: a timeline of its kernels, below it
// what each kernel takes and how near it comes to the device's own peaks.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/os.h"
#include "tools/view/chart.h"
#include "tools/view/parts.h"
#include "tools/view/plan_file.h"

struct plan_part {
    struct plan_file *file;
    struct timespec   written;
    bool              looked;
    uint32_t          under; // kernel under the mouse in the last frame; HISTORY_NONE
};

void plan_part_free(struct plan_part **part)
{
    if (!*part) return;
    plan_file_free(&(*part)->file);
    free(*part);
    *part = NULL;
}

// Read again where it is newer than what was read.
static struct plan_part *part_of(struct view *v)
{
    char path[4200];
    struct stat info;
    struct plan_part **part = &v->parts->plan;
    if (!*part) *part = os_alloc(sizeof **part), (*part)->under = HISTORY_NONE;
    struct plan_part *p = *part;
    snprintf(path, sizeof path, "%.4000s/plan.json", v->history->folder);
    if (stat(path, &info) != 0) return p;
    if (p->looked && info.st_mtim.tv_sec == p->written.tv_sec &&
        info.st_mtim.tv_nsec == p->written.tv_nsec)
        return p;
    plan_file_free(&p->file);
    p->file = plan_file_read(path);
    p->written = info.st_mtim, p->looked = true;
    return p;
}

static const char *rate_text(char *out, size_t bytes, double per_ms, double peak, const char *unit)
{
    const double rate = per_ms / 1e6; // a giga a second
    if (!(per_ms > 0)) snprintf(out, bytes, "\u2013");
    else if (peak > 0)
        snprintf(out, bytes, "%.3g %s, %.0f %%", rate, unit, fmin(100 * rate / peak, 999));
    else snprintf(out, bytes, "%.3g %s", rate, unit);
    return out;
}

// ---- the timeline

static struct rect span_of(struct rect area, const struct plan_file *f, double start, double ms)
{
    const int x0 = (int)(area.x + start / f->ms * area.w);
    const int x1 = (int)(area.x + (start + ms) / f->ms * area.w);
    return (struct rect){x0, area.y, x1 > x0 ? x1 - x0 : 1, area.h};
}

static void tell_row(struct view *v, const struct plan_file *f, const struct plan_row *row)
{
    char flop[64], bytes[64];
    view_tip(v, "%s (%s)\n%s, plan %s\n%.3f ms, %.1f %% of its plan\n%s\n%s", row->kernel,
             row->variant, row->section, f->plan[row->plan].name, row->ms,
             100 * row->ms / fmax(f->plan[row->plan].ms, 1e-9),
             rate_text(flop, sizeof flop, row->flop / row->ms, f->fma_gflops, "GFLOP/s"),
             rate_text(bytes, sizeof bytes, row->bytes / row->ms, f->copy_gbps, "GB/s"));
}

static void draw_sections(struct view *v, struct canvas *c, struct rect area,
                          const struct plan_file *f)
{
    for (uint32_t i = 0, end; i < f->rows; i = end) {
        const struct plan_row *row = &f->row[i];
        double ms = 0;
        for (end = i; end < f->rows && f->row[end].plan == row->plan &&
                      strcmp(f->row[end].section, row->section) == 0; end++)
            ms += f->row[end].ms;
        const struct rect at = span_of(area, f, row->start, ms);
        const colour ground = row->layer >= 0 && row->layer % 2 ? v->theme->edge : v->theme->grid;
        canvas_fill(c, (struct rect){at.x, at.y, at.w - (at.w > 2), at.h}, ground);
        const struct rect name = rect_inset(at, 2);
        if (canvas_text_width(c, FONT_SMALL, row->section) <= name.w)
            canvas_text(c, FONT_SMALL, name, ALIGN_CENTER, v->theme->dim, row->section);
        if (view_over(v, at))
            view_tip(v, "%s, plan %s\n%u steps, %.3f ms", row->section, f->plan[row->plan].name,
                     end - i, ms);
    }
}

static void draw_kernels(struct view *v, struct canvas *c, struct rect area,
                         const struct plan_file *f, struct plan_part *p, uint32_t *under)
{
    for (uint32_t i = 0; i < f->rows; i++) {
        const struct plan_row *row = &f->row[i];
        const struct rect at = span_of(area, f, row->start, row->ms);
        const bool other = p->under != HISTORY_NONE && p->under != row->kind;
        const colour own = colour_expert(row->kind);
        canvas_fill(c, (struct rect){at.x, at.y, at.w - (at.w > 3), at.h},
                    other ? colour_between(own, v->theme->panel, 0.75f) : own);
        if (!view_over(v, at)) continue;
        tell_row(v, f, row);
        *under = row->kind;
    }
}

// Milliseconds below, and where plans begin.
static void draw_axis(struct view *v, struct canvas *c, struct rect area,
                      const struct plan_file *f)
{
    const double room = canvas_px(c, 70), least = f->ms * room / fmax(area.w, 1);
    const double power = pow(10, floor(log10(least)));
    const double step = power * (least <= power ? 1 : least <= 2 * power ? 2
                                                  : least <= 5 * power ? 5 : 10);
    for (double at = 0; at <= f->ms; at += step) {
        char text[32];
        const int x = (int)(area.x + at / f->ms * area.w);
        snprintf(text, sizeof text, "%.4g ms", at);
        const int width = canvas_text_width(c, FONT_SMALL, text);
        if (x + width > area.x + area.w) break;
        canvas_text(c, FONT_SMALL, (struct rect){x, area.y, width, area.h}, ALIGN_LEFT,
                    v->theme->dim, text);
    }
}

static void draw_plans(struct view *v, struct canvas *c, struct rect area,
                       const struct plan_file *f)
{
    for (uint32_t i = 0; i < f->plans; i++) {
        char text[96];
        const struct rect at = span_of(area, f, f->plan[i].start, f->plan[i].ms);
        canvas_fill(c, (struct rect){at.x, at.y, 1, at.h}, v->theme->faint);
        if (f->plan[i].times > 1)
            snprintf(text, sizeof text, "%s \u00d7 %u", f->plan[i].name, f->plan[i].times);
        else snprintf(text, sizeof text, "%s", f->plan[i].name);
        const struct rect name = {at.x + canvas_px(c, 4), at.y, at.w - canvas_px(c, 4), at.h};
        if (canvas_text_width(c, FONT_SMALL, text) <= name.w)
            canvas_text(c, FONT_SMALL, name, ALIGN_LEFT, v->theme->text, text);
    }
}

// ---- the table

static void draw_share(struct view *v, struct canvas *c, struct rect box, double share, colour own)
{
    const int height = canvas_px(c, 8);
    box.y += (box.h - height) / 2, box.h = height;
    canvas_fill(c, box, v->theme->grid);
    box.w = (int)(box.w * fmin(share, 1));
    canvas_fill(c, box, own);
}

// What the columns of numbers leave, or a part of a wide table.
static int name_width(const struct canvas *c, int width)
{
    const int left = width - canvas_px(c, 44 + 72 + 60);
    return width >= canvas_px(c, 600) ? width * 30 / 100 : left > 0 ? left : 0;
}

static void draw_line(struct view *v, struct canvas *c, struct rect line,
                      const struct plan_file *f, uint32_t kind)
{
    const struct plan_kernel *k = &f->kernel[kind];
    const bool wide = line.w >= canvas_px(c, 640);
    char text[96];
    const struct rect mark = rect_left(&line, canvas_px(c, 16));
    const int side = canvas_px(c, 9);
    canvas_fill(c, (struct rect){mark.x, mark.y + (mark.h - side) / 2, side, side},
                colour_expert(kind));
    const struct rect name = rect_left(&line, name_width(c, line.w));
    canvas_text(c, FONT_TEXT, (struct rect){name.x, name.y, name.w - 4, name.h}, ALIGN_LEFT,
                v->theme->text, k->name);
    canvas_print(c, FONT_TEXT, rect_left(&line, canvas_px(c, 44)), ALIGN_RIGHT, v->theme->dim, "%u",
                 k->steps);
    canvas_print(c, FONT_TEXT, rect_left(&line, canvas_px(c, 72)), ALIGN_RIGHT, v->theme->text,
                 "%.2f", k->ms);
    canvas_print(c, FONT_TEXT, rect_left(&line, canvas_px(c, 60)), ALIGN_RIGHT, v->theme->dim,
                 "%.1f %%", 100 * k->ms / fmax(f->all_ms, 1e-9));
    if (!wide) return;
    rect_left(&line, canvas_px(c, 12));
    draw_share(v, c, rect_left(&line, line.w / 4), k->ms / fmax(f->kernel[0].ms, 1e-9),
               colour_expert(kind));
    const struct rect left = rect_left(&line, line.w / 2);
    canvas_text(c, FONT_TEXT, left, ALIGN_RIGHT, v->theme->text,
                rate_text(text, sizeof text, k->flop / k->ms, f->fma_gflops, "GFLOP/s"));
    canvas_text(c, FONT_TEXT, line, ALIGN_RIGHT, v->theme->text,
                rate_text(text, sizeof text, k->bytes / k->ms, f->copy_gbps, "GB/s"));
}

static void draw_head(struct view *v, struct canvas *c, struct rect line)
{
    const bool wide = line.w >= canvas_px(c, 640);
    rect_left(&line, canvas_px(c, 16));
    const colour own = v->theme->faint;
    canvas_text(c, FONT_SMALL, rect_left(&line, name_width(c, line.w)), ALIGN_LEFT,
                own, "kernel");
    canvas_text(c, FONT_SMALL, rect_left(&line, canvas_px(c, 44)), ALIGN_RIGHT, own, "steps");
    canvas_text(c, FONT_SMALL, rect_left(&line, canvas_px(c, 72)), ALIGN_RIGHT, own, "ms");
    canvas_text(c, FONT_SMALL, rect_left(&line, canvas_px(c, 60)), ALIGN_RIGHT, own, "of all");
    if (!wide) return;
    rect_left(&line, canvas_px(c, 12));
    rect_left(&line, line.w / 4);
    canvas_text(c, FONT_SMALL, rect_left(&line, line.w / 2), ALIGN_RIGHT, own,
                "compute, of the peak");
    canvas_text(c, FONT_SMALL, line, ALIGN_RIGHT, own, "memory, of the peak");
}

static void draw_table(struct view *v, struct canvas *c, struct rect area,
                       const struct plan_file *f, struct plan_part *p, uint32_t *under)
{
    const int line = canvas_line_height(c, FONT_TEXT) + canvas_px(c, 3);
    draw_head(v, c, rect_top(&area, line));
    for (uint32_t i = 0; i < f->kernels && area.h >= line; i++) {
        const struct rect row = rect_top(&area, line);
        if (p->under == i) canvas_fill(c, row, v->theme->grid);
        draw_line(v, c, row, f, i);
        if (view_over(v, row)) *under = i;
    }
}

void panel_plan(struct view *v, struct canvas *c, struct rect area, double ms)
{
    (void)ms;
    struct rect header;
    struct rect in = view_frame(v, c, area, "Plan of a training step", &header);
    struct plan_part *p = part_of(v);
    const struct plan_file *f = p->file;
    const int line = canvas_line_height(c, FONT_SMALL), gap = canvas_px(c, 8);
    uint32_t under = HISTORY_NONE;
    if (!f || !(f->ms > 0) || !f->rows) {
        view_empty(v, c, in, "no plan.json: it is written once a run has settled,\n"
                             "where the device has timestamps");
        return;
    }
    canvas_print(c, FONT_SMALL, header, ALIGN_RIGHT, v->theme->dim,
                 "%s   %.1f ms, %.0f tokens   peaks %.3g GFLOP/s, %.3g GB/s", f->device, f->all_ms,
                 f->tokens, f->fma_gflops, f->copy_gbps);
    const int height = in.h / 6 < canvas_px(c, 56) ? in.h / 6 : canvas_px(c, 56);
    draw_plans(v, c, rect_top(&in, line + 2), f);
    draw_sections(v, c, rect_top(&in, line + canvas_px(c, 4)), f);
    rect_top(&in, 2);
    draw_kernels(v, c, rect_top(&in, height), f, p, &under);
    draw_axis(v, c, rect_top(&in, line + 2), f);
    rect_top(&in, gap);
    draw_table(v, c, in, f, p, &under);
    if (under != p->under) p->under = under, v->again = true;
}
