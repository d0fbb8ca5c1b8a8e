// SPDX-License-Identifier: MIT
// What a sweep came to: means and standard deviations over the seeds as a Markdown table, the same
// as JSON, and one picture.
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "src/base.h"
#include "tools/plot.h"
#include "tools/sweep.h"

struct column {
    const char *key, *title;
    size_t      offset;  // of a double in struct sweep_result
    int         digits;  // behind the point
    enum { OF_ALL, OF_INSPECT, OF_STATE } of; // sweeps
};

#define AT(member) offsetof(struct sweep_result, member)
static const struct column columns[] = {
    {"held_out_loss", "held-out loss", AT(held_out_loss), 4},
    {"bpb", "bits/byte", AT(bpb), 4},
    {"loss", "training loss", AT(loss), 4},
    {"entropy", "load entropy", AT(entropy), 3},
    {"max_share", "largest share", AT(max_share), 3},
    {"dead", "dead experts", AT(dead), 3},
    {"tokens_per_s", "tokens/s", AT(tokens_per_s), 0},
    {"information", "I(expert; domain), bits", AT(information), 4, OF_INSPECT},
    {"shuffled", "shuffled", AT(shuffled), 4, OF_INSPECT},
    {"documents", "documents shuffled", AT(documents), 4, OF_INSPECT},
    {"given_token", "I(expert; domain given the token), bits", AT(given_token), 4, OF_INSPECT},
    {"given_documents", "documents shuffled", AT(given_documents), 4, OF_INSPECT},
    {"touched", "experts in a step", AT(touched), 3, OF_STATE},
    {"ever", "experts ever", AT(ever), 3, OF_STATE},
    {"state_mib", "optimizer MiB", AT(state_mib), 2, OF_STATE},
    {"needed_mib", "of experts ever taken", AT(needed_mib), 2, OF_STATE},
};

static bool is_shown(const struct sweep *sweep, const struct column *column)
{
    if (column->of == OF_INSPECT) return sweep->inspect;
    return column->of != OF_STATE || sweep->optimizer_state;
}

struct spread { double mean, deviation; uint32_t count; };

// Mean and sample standard deviation (0 of one value) over the seeds that are done.
// of: value minus that of run `less` with the same seed and so the same data, where there is one.
static struct spread spread_of(const struct sweep *sweep, const struct sweep_run *run,
                               const struct sweep_run *less, size_t offset)
{
    struct spread s = {0};
    double value[SWEEP_MAX_SEEDS], sum = 0, squares = 0;
    for (uint32_t i = 0; i < sweep->seed_count; i++) {
        const struct sweep_result *r = &run->result[i];
        memcpy(&value[s.count], (const char *)r + offset, sizeof *value);
        if (less) {
            double from = NAN;
            if (less->result[i].done)
                memcpy(&from, (const char *)&less->result[i] + offset, sizeof from);
            value[s.count] -= from;
        }
        if (r->done && !isnan(value[s.count])) sum += value[s.count++];
    }
    s.mean = s.count ? sum / s.count : NAN;
    for (uint32_t i = 0; i < s.count; i++) squares += (value[i] - s.mean) * (value[i] - s.mean);
    s.deviation = s.count > 1 ? sqrt(squares / (s.count - 1)) : 0;
    return s;
}

static struct spread spread(const struct sweep *sweep, const struct sweep_run *run, size_t offset)
{
    return spread_of(sweep, run, NULL, offset);
}

// Seeds differ in data too, more than runs do: what a run is worth shows against the first one,
// seed by seed.
static struct spread against_first(const struct sweep *sweep, const struct sweep_run *run)
{
    const double held_out = spread(sweep, &sweep->run[0], AT(held_out_loss)).mean;
    return spread_of(sweep, run, &sweep->run[0], isnan(held_out) ? AT(loss) : AT(held_out_loss));
}

// ---- table

static void add_cell(struct bytes *out, const struct column *column, const struct spread *s)
{
    if (isnan(s->mean)) bytes_printf(out, " - |");
    else if (s->count > 1)
        bytes_printf(out, " %.*f ± %.*f |", column->digits, s->mean, column->digits, s->deviation);
    else bytes_printf(out, " %.*f |", column->digits, s->mean);
}

// "+0.0123 ± 0.0045"
static void add_against(struct bytes *out, const struct sweep *sweep, const struct sweep_run *run)
{
    const struct spread s = against_first(sweep, run);
    if (run == sweep->run || isnan(s.mean)) bytes_printf(out, " - |");
    else if (s.count > 1) bytes_printf(out, " %+.4f ± %.4f |", s.mean, s.deviation);
    else bytes_printf(out, " %+.4f |", s.mean);
}

static void add_head(struct bytes *out, const struct sweep *sweep)
{
    bytes_printf(out, "# Sweep %s\n\n%s%s", sweep->name, sweep->about,
                 *sweep->about ? "\n\n" : "");
    bytes_printf(out, "`vkmoe sweep %s`: %u steps; data", sweep->path, sweep->steps);
    for (int i = 0; i < sweep->data_count; i++) bytes_printf(out, " `%s`", sweep->data[i]);
    bytes_printf(out, "; mean ± standard deviation over the seeds");
    for (uint32_t i = 0; i < sweep->seed_count; i++)
        bytes_printf(out, "%s %llu", i ? "," : "", (unsigned long long)sweep->seed[i]);
    if (sweep->equal)
        bytes_printf(out, ". Equal: %s, to %.2f %%",
                     sweep->equal == SWEEP_EQUAL_ACTIVE ? "active parameters" : "parameters",
                     100 * sweep_unequal(sweep));
    bytes_printf(out, ".\nLosses in nats a token; training loss, load and experts are means over "
                      "the last tenth of the steps. Loss against the first run: seed by seed, on "
                      "the same data.\n\n| run | parameters | active | loss against the first |");
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        if (is_shown(sweep, &columns[i])) bytes_printf(out, " %s |", columns[i].title);
    bytes_printf(out, "\n|:--|--:|--:|--:|");
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        if (is_shown(sweep, &columns[i])) bytes_printf(out, "--:|");
    bytes_printf(out, "\n");
}

static char *table(const struct sweep *sweep)
{
    struct bytes out = {0};
    add_head(&out, sweep);
    for (uint32_t r = 0; r < sweep->run_count; r++) {
        const struct sweep_run *run = &sweep->run[r];
        bytes_printf(&out, "| %s | %llu | %llu |", run->name, (unsigned long long)run->parameters,
                     (unsigned long long)run->active);
        add_against(&out, sweep, run);
        for (size_t i = 0; i < COUNT_OF(columns); i++) {
            if (!is_shown(sweep, &columns[i])) continue;
            const struct spread s = spread(sweep, run, columns[i].offset);
            add_cell(&out, &columns[i], &s);
        }
        bytes_printf(&out, "\n");
    }
    return (char *)out.data;
}

// ---- JSON

static cJSON *number_or_null(double value)
{
    return isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull();
}

static cJSON *run_json(const struct sweep *sweep, const struct sweep_run *run)
{
    cJSON *json = cJSON_CreateObject(), *seeds;
    cJSON_AddStringToObject(json, "name", run->name);
    cJSON_AddNumberToObject(json, "parameters", (double)run->parameters);
    cJSON_AddNumberToObject(json, "active_parameters", (double)run->active);
    const struct spread against = against_first(sweep, run);
    cJSON *difference = cJSON_AddObjectToObject(json, "against_first");
    cJSON_AddItemToObject(difference, "mean", number_or_null(against.mean));
    cJSON_AddItemToObject(difference, "deviation", number_or_null(against.deviation));
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        if (!is_shown(sweep, &columns[i])) continue;
        const struct spread s = spread(sweep, run, columns[i].offset);
        cJSON *cell = cJSON_AddObjectToObject(json, columns[i].key);
        cJSON_AddItemToObject(cell, "mean", number_or_null(s.mean));
        cJSON_AddItemToObject(cell, "deviation", number_or_null(s.deviation));
        seeds = cJSON_AddArrayToObject(cell, "seeds");
        for (uint32_t n = 0; n < sweep->seed_count; n++) {
            double value;
            memcpy(&value, (const char *)&run->result[n] + columns[i].offset, sizeof value);
            cJSON_AddItemToArray(seeds, number_or_null(run->result[n].done ? value : NAN));
        }
    }
    return json;
}

static char *json_text(const struct sweep *sweep)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "sweep", sweep->name);
    cJSON_AddNumberToObject(json, "steps", sweep->steps);
    cJSON *seeds = cJSON_AddArrayToObject(json, "seeds");
    for (uint32_t i = 0; i < sweep->seed_count; i++)
        cJSON_AddItemToArray(seeds, cJSON_CreateNumber((double)sweep->seed[i]));
    cJSON *runs = cJSON_AddArrayToObject(json, "runs");
    for (uint32_t i = 0; i < sweep->run_count; i++)
        cJSON_AddItemToArray(runs, run_json(sweep, &sweep->run[i]));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text) abort();
    return text;
}

// ---- picture

// A curve's mean over the seeds that are done.
static void mean_curve(const struct sweep *sweep, const struct sweep_run *run, size_t offset,
                       double out[SWEEP_POINTS])
{
    for (uint32_t i = 0; i < SWEEP_POINTS; i++)
        out[i] = spread(sweep, run, offset + i * sizeof(double)).mean;
}

static void draw_curves(struct plot *plot, const struct sweep *sweep, const char *title,
                        const char *label, size_t offset)
{
    struct plot_series series[SWEEP_MAX_RUNS];
    double *y = malloc((sweep->run_count + 1ull) * SWEEP_POINTS * sizeof *y);
    double *x = y + (size_t)sweep->run_count * SWEEP_POINTS;
    for (uint32_t i = 0; i < SWEEP_POINTS; i++) x[i] = (i + 0.5) * sweep->steps / SWEEP_POINTS;
    for (uint32_t r = 0; r < sweep->run_count; r++) {
        mean_curve(sweep, &sweep->run[r], offset, y + (size_t)r * SWEEP_POINTS);
        series[r] = (struct plot_series){sweep->run[r].name, x, y + (size_t)r * SWEEP_POINTS,
                                         SWEEP_POINTS};
    }
    plot_lines(plot, &(struct plot_chart){title, "step", label}, series, sweep->run_count);
    free(y);
}

// Each run beside its control.
static void draw_information(struct plot *plot, const struct sweep *sweep, const char *title,
                             size_t value, size_t control)
{
    struct plot_bar bar[2 * SWEEP_MAX_RUNS];
    for (uint32_t r = 0; r < sweep->run_count; r++) {
        const struct spread own = spread(sweep, &sweep->run[r], value),
                            none = spread(sweep, &sweep->run[r], control);
        bar[2 * r] = (struct plot_bar){sweep->run[r].name, own.mean, own.deviation, r};
        bar[2 * r + 1] = (struct plot_bar){"shuffled", none.mean, none.deviation, PLOT_CONTROL};
    }
    plot_bars(plot, &(struct plot_chart){title, NULL, "bits, beside shuffled documents"}, bar,
              2 * sweep->run_count);
}

// Seed by seed against the first run, as in the table.
static void draw_against(struct plot *plot, const struct sweep *sweep)
{
    struct plot_bar bar[SWEEP_MAX_RUNS];
    char title[160];
    const bool held_out = !isnan(spread(sweep, &sweep->run[0], AT(held_out_loss)).mean);
    snprintf(title, sizeof title, "%s loss at the end, less that of %s",
             held_out ? "Held-out" : "Training", sweep->run[0].name);
    for (uint32_t r = 0; r < sweep->run_count; r++) {
        const struct spread s = against_first(sweep, &sweep->run[r]);
        bar[r] = (struct plot_bar){sweep->run[r].name, s.mean, s.deviation, r};
    }
    plot_bars(plot, &(struct plot_chart){title, NULL, "nats a token, ± deviation over seeds"}, bar,
              sweep->run_count);
}

static bool picture(const struct sweep *sweep, const char *path)
{
    struct plot *plot = plot_create(2, sweep->inspect ? 3 : 2, 720, 440);
    draw_curves(plot, sweep, "Training loss", "nats a token", AT(curve));
    draw_against(plot, sweep);
    draw_curves(plot, sweep, "Load entropy (1: even)", "of its largest value", AT(entropies));
    draw_curves(plot, sweep, "Largest share of an expert", "share of the picks", AT(shares));
    if (sweep->inspect) {
        draw_information(plot, sweep, "Information of the expert on the domain", AT(information),
                         AT(documents));
        draw_information(plot, sweep, "The same beyond the token", AT(given_token),
                         AT(given_documents));
    }
    return plot_save(&plot, path);
}

// ---- all

static bool write_text(const char *path, const char *text)
{
    struct file_writer *writer = file_writer_open(path);
    return writer && file_writer_write(writer, text, strlen(text)) && file_writer_commit(&writer);
}

bool sweep_report(const struct sweep *sweep, const char *folder)
{
    char path[4200], *markdown = table(sweep), *json = json_text(sweep);
    printf("%s", markdown);
    snprintf(path, sizeof path, "%.4100s/table.md", folder);
    bool ok = write_text(path, markdown);
    snprintf(path, sizeof path, "%.4100s/sweep.json", folder);
    ok = write_text(path, json) && ok;
    snprintf(path, sizeof path, "%.4100s/sweep.png", folder);
    ok = picture(sweep, path) && ok;
    printf("\ntable.md, sweep.json and sweep.png in %s\n", folder);
    free(markdown);
    free(json);
    return ok;
}
