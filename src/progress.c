// SPDX-License-Identifier: MIT
// The progress line: see progress.h. The text is the same on a terminal and in a pipe; only how
// often it is written and how it ends differ.
#include "src/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "runtime/terminal.h"

#define TERMINAL_SECONDS 0.1
#define PIPE_SECONDS     10.0
#define ERASE_LINE       "\r\033[K"

struct progress {
    struct progress_params params;
    struct progress_state  state;
    struct bytes           line;      // reused
    bool                   terminal;
    bool                   on_screen; // a line without its end is on the terminal
    bool                   pending;   // the state is not shown yet
    double                 begin, shown; // seconds
};

struct progress *progress_create(const struct progress_params *params)
{
    struct progress *progress = os_alloc(sizeof *progress);
    progress->params = *params;
    progress->terminal = terminal_is(params->out);
    progress->begin = os_seconds();
    progress->shown = -INFINITY;
    if (progress->params.pipe_seconds <= 0) progress->params.pipe_seconds = PIPE_SECONDS;
    return progress;
}

static void add_duration(struct bytes *line, double seconds)
{
    const uint64_t s = seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 1000000000;
    if (s >= 3600)
        bytes_printf(line, "%lluh%02llum", (unsigned long long)(s / 3600),
                     (unsigned long long)(s / 60 % 60));
    else if (s >= 60)
        bytes_printf(line, "%llum%02llus", (unsigned long long)(s / 60),
                     (unsigned long long)(s % 60));
    else
        bytes_printf(line, "%llus", (unsigned long long)s);
}

// By the mean speed of this run; nothing while there is none to go by.
static void add_time(struct bytes *line, const struct progress *progress, double now)
{
    const uint64_t first = progress->params.first, total = progress->params.total;
    const uint64_t step = progress->state.step;
    if (step >= total) {
        bytes_printf(line, "  ");
        add_duration(line, now - progress->begin);
        bytes_printf(line, " in all");
    } else if (step > first) {
        bytes_printf(line, "  ");
        const double seconds = (now - progress->begin) / (double)(step - first);
        add_duration(line, seconds * (double)(total - step));
        bytes_printf(line, " left");
    }
}

static void format(struct progress *progress, double now)
{
    const struct progress_state *state = &progress->state;
    struct bytes *line = &progress->line;
    line->count = 0;
    bytes_printf(line, "%s %llu/%llu", progress->params.verb, (unsigned long long)state->step,
                 (unsigned long long)progress->params.total);
    if (state->domain) bytes_printf(line, "  %s", state->domain);
    if (!isnan(state->loss)) bytes_printf(line, "  loss %.4f", state->loss);
    if (!isnan(state->bits_per_byte))
        bytes_printf(line, "  held-out %.3f bits/byte", state->bits_per_byte);
    if (state->tokens_per_s > 0) bytes_printf(line, "  %.0f tokens/s", state->tokens_per_s);
    if (state->experts > 0)
        bytes_printf(line, "  experts %.0f%%",
                     100.0 * (double)state->experts_in_use / (double)state->experts);
    if (state->slots)
        bytes_printf(line, "  slots %.0f%% hit, %.1f ms wait", 100 * state->hit_rate,
                     state->wait_ms);
    if (state->slots && state->load_gbps > 0)
        bytes_printf(line, ", %.2f GB/s", state->load_gbps);
    if (state->slots && state->load_gbps > 0 && state->peak_gbps > 0)
        bytes_printf(line, " of %.2f", state->peak_gbps);
    add_time(line, progress, now);
}

static void show(struct progress *progress)
{
    const double now = os_seconds();
    FILE *out = progress->params.out;
    format(progress, now);
    progress->shown = now;
    progress->pending = false;
    const int length = (int)progress->line.count;
    if (!progress->terminal) {
        fprintf(out, "%s\n", (const char *)progress->line.data);
    } else { // a line that wraps could not be rewritten
        const int columns = terminal_columns(out) - 1, shown = length < columns ? length : columns;
        fprintf(out, ERASE_LINE "%.*s", shown, (const char *)progress->line.data);
        progress->on_screen = true;
    }
    fflush(out);
}

void progress_update(struct progress *progress, const struct progress_state *state)
{
    progress->state = *state;
    progress->pending = true;
    const double wait = progress->terminal ? TERMINAL_SECONDS : progress->params.pipe_seconds;
    if (os_seconds() - progress->shown >= wait) show(progress);
}

void progress_pause(struct progress *progress)
{
    if (!progress->on_screen) return;
    fputs(ERASE_LINE, progress->params.out);
    fflush(progress->params.out);
    progress->on_screen = false;
    progress->pending = true;
    progress->shown = -INFINITY;
}

void progress_destroy(struct progress **progress)
{
    struct progress *p = *progress;
    if (!p) return;
    if (p->pending) show(p);
    if (p->on_screen) fputc('\n', p->params.out);
    fflush(p->params.out);
    bytes_free(&p->line);
    free(p);
    *progress = NULL;
}
