// SPDX-License-Identifier: MIT
// vkmoe watch in a pipe: a line for each step that is new, few enough to be read.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/os.h"
#include "tools/watch/watch.h"

#define LINE_SECONDS 2.0

// Dead experts and the largest share, over all layers.
static void add_layers(const struct watch *w, char *out, size_t bytes)
{
    const struct history *h = w->history;
    double dead = 0, share = 0, entropy = 0;
    for (uint32_t i = 0; i < h->layers; i++) {
        const int number = (int)h->layer[i].number;
        dead += fmax(0, watch_value(w, "dead", number));
        share = fmax(share, watch_value(w, "max_share", number));
        entropy += watch_value(w, "entropy", number) / h->layers;
    }
    if (h->layers)
        snprintf(out, bytes, "  experts %.0f of %u idle, largest share %.1f %%, entropy %.3f", dead,
                 h->layers * h->experts, 100 * share, entropy);
}

bool watch_line(struct watch *w, char *out, size_t bytes)
{
    static const struct { const char *series, *format; } parts[] = {
        {"loss", "  loss %.4f"}, {"bpb", "  held-out %.3f bits/byte"},
        {"grad_norm", "  norm %.3g"}, {"tokens_per_s", "  %.0f tokens/s"}};
    int at = snprintf(out, bytes, "step %u", w->step);
    if (w->step == 0) return false;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        const double value = watch_value(w, parts[i].series, -1);
        char text[64] = "";
        if (!isnan(value)) snprintf(text, sizeof text, parts[i].format, value);
        at += snprintf(out + at, bytes - (size_t)at, "%s", text);
    }
    char layers[160] = "";
    add_layers(w, layers, sizeof layers);
    at += snprintf(out + at, bytes - (size_t)at, "%s", layers);
    for (uint32_t i = 0; i < w->history->alarms; i++)
        if (w->history->alarm[i].step == w->step)
            at += snprintf(out + at, bytes - (size_t)at, "  ALARM layer %u",
                           w->history->alarm[i].layer);
    return true;
}

static bool say(struct watch *w)
{
    char line[2048];
    if (!watch_line(w, line, sizeof line)) return true;
    return printf("%s\n", line) > 0 && fflush(stdout) == 0;
}

bool watch_lines(const char *folder, bool once)
{
    struct watch w;
    struct history *history = history_open(folder);
    if (!history) return false;
    watch_init(&w, history);
    os_interrupt_catch();
    bool on = true;
    uint32_t said = HISTORY_NONE;
    while (on && !os_interrupted()) {
        watch_poll(&w, 0);
        if (w.step != said) on = say(&w);
        said = w.step;
        if (once) break;
        for (double until = os_seconds() + LINE_SECONDS;
             on && os_seconds() < until && !os_interrupted();)
            usleep(50000);
    }
    watch_finish(&w);
    return true; // a reader that has enough is no failure
}
