// SPDX-License-Identifier: MIT
// The pictures of a report: the run's curves, information against its control, and a panel a layer
// of who is taken for what, and with whom.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/base.h"
#include "tools/inspect.h"
#include "tools/plot.h"

static const char *layer_name(const struct inspect *in, uint32_t index)
{
    return arena_printf(in->arena, "layer %u", in->layer[index].number);
}

// Which layers have a panel: all, or some, evenly.
static uint32_t panels(const struct inspect *in) { return min_u32(in->layers, INSPECT_PANELS); }
static uint32_t panel_layer(const struct inspect *in, uint32_t panel)
{
    const uint32_t count = panels(in);
    return count > 1 ? (uint32_t)((uint64_t)panel * (in->layers - 1) / (count - 1)) : 0;
}

// ---- the run

static void draw_curve(struct plot *plot, const struct inspect *in, const char *title,
                       const char *label, size_t offset)
{
    struct plot_series series[INSPECT_PANELS];
    double x[INSPECT_POINTS];
    for (uint32_t i = 0; i < INSPECT_POINTS; i++) x[i] = (i + 0.5) * in->steps / INSPECT_POINTS;
    for (uint32_t p = 0; p < panels(in); p++) {
        const uint32_t layer = panel_layer(in, p);
        const char *y = (const char *)&in->layer[layer] + offset;
        series[p] = (struct plot_series){layer_name(in, layer), x, (const double *)(const void *)y,
                                         INSPECT_POINTS};
    }
    plot_lines(plot, &(struct plot_chart){title, "step", label}, series, panels(in));
}

static bool draw_run(const struct inspect *in, const char *path)
{
    struct plot *plot = plot_create(2, 2, 720, 440);
    draw_curve(plot, in, "Load entropy over the run", "1: even",
               offsetof(struct inspect_layer, entropies));
    draw_curve(plot, in, "Largest share of an expert", "share of the picks",
               offsetof(struct inspect_layer, shares));
    draw_curve(plot, in, "Experts without a pick in a step", "share of the experts",
               offsetof(struct inspect_layer, idle));
    draw_curve(plot, in, "Experts ever used", "share of the experts",
               offsetof(struct inspect_layer, used));
    return plot_save(&plot, path);
}

// ---- information, saturation

static bool draw_information(const struct inspect *in, const char *path)
{
    struct plot *plot = plot_create(2, 2, 720, 440);
    struct plot_bar *bar = arena_array(in->arena, 3ull * panels(in), sizeof *bar);
    struct plot_series series[INSPECT_PANELS];
    double x[INSPECT_CHECKPOINTS];
    for (int given = 0; given < 2; given++) {
        for (uint32_t p = 0; p < panels(in); p++) {
            const uint32_t layer = panel_layer(in, p);
            const struct routing_information *own = &in->layer[layer].information;
            const struct routing_control *c = given ? &own->given_token : &own->domain;
            bar[3 * p] = (struct plot_bar){layer_name(in, layer), c->value, 0, p};
            bar[3 * p + 1] = (struct plot_bar){"shuffled", c->mean, c->deviation, PLOT_CONTROL};
            bar[3 * p + 2] = (struct plot_bar){"documents", c->documents, c->documents_deviation,
                                               PLOT_CONTROL};
        }
        plot_bars(plot,
                  &(struct plot_chart){given ? "Information on the domain beyond the token"
                                             : "Information of the expert on the domain",
                                       NULL, "bits"},
                  bar, 3 * panels(in));
    }
    for (uint32_t p = 0; p < panels(in); p++) {
        const uint32_t layer = panel_layer(in, p);
        bar[p] = (struct plot_bar){layer_name(in, layer), in->layer[layer].entropy, 0, p};
        series[p] = (struct plot_series){layer_name(in, layer), x, in->layer[layer].saturation,
                                         in->checkpoints};
    }
    plot_bars(plot, &(struct plot_chart){"Load entropy on this text", NULL, "1: even"}, bar,
              panels(in));
    for (uint32_t c = 0; c < in->checkpoints; c++) x[c] = (double)in->checkpoint[c];
    if (in->checkpoints > 1)
        plot_lines(plot, &(struct plot_chart){"Router saturation", "step of the checkpoint",
                                              "picks as at the end"},
                   series, panels(in));
    return plot_save(&plot, path);
}

// ---- a grid a layer

static const char **expert_names(const struct inspect *in, const struct inspect_layer *l)
{
    const char **names = arena_array(in->arena, l->shown, sizeof *names);
    for (uint32_t i = 0; i < l->shown; i++) names[i] = arena_printf(in->arena, "%u", l->show[i]);
    return names;
}

static void domain_grid(struct plot *plot, const struct inspect *in, uint32_t index)
{
    const struct inspect_layer *l = &in->layer[index];
    double *value = arena_array(in->arena, (size_t)l->shown * in->domains, sizeof *value);
    for (uint32_t i = 0; i < l->shown; i++)
        for (uint32_t d = 0; d < in->domains; d++)
            value[i * in->domains + d] =
                l->by_domain[(size_t)l->show[i] * in->domains + d] / fmax(in->domain_tokens[d], 1);
    plot_grid(plot,
              &(struct plot_chart){layer_name(in, index), "domain", "expert: share of the tokens"},
              value, l->shown, in->domains, expert_names(in, l), in->domain_name);
}

static void together_grid(struct plot *plot, const struct inspect *in, uint32_t index)
{
    const struct inspect_layer *l = &in->layer[index];
    const char **names = expert_names(in, l);
    plot_grid(plot, &(struct plot_chart){layer_name(in, index), "taken too", "where taken"},
              l->together, l->shown, l->shown, names, names);
}

static bool draw_grids(const struct inspect *in, const char *path,
                       void (*draw)(struct plot *plot, const struct inspect *in, uint32_t index))
{
    const uint32_t count = panels(in), columns = count > 1 ? 2 : 1;
    const uint32_t shown = min_u32(in->experts, INSPECT_SHOWN);
    struct plot *plot = plot_create(columns, ceil_div(count, columns), 640,
                                    max_u32(320, 120 + 22 * shown));
    for (uint32_t p = 0; p < count; p++) draw(plot, in, panel_layer(in, p));
    return plot_save(&plot, path);
}

bool inspect_pictures(const struct inspect *in, const char *out)
{
    char path[4][4200];
    static const char *const names[] = {"run", "information", "domains", "together"};
    for (int i = 0; i < 4; i++) snprintf(path[i], sizeof path[i], "%.4100s/%s.png", out, names[i]);
    return draw_run(in, path[0]) && draw_information(in, path[1]) &&
           draw_grids(in, path[2], domain_grid) && draw_grids(in, path[3], together_grid);
}
