// SPDX-License-Identifier: MIT
// Runs -> groups of the same order and control -> tables: see fct_report.h.
#include "tools/fct_report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/base.h"
#include "src/config.h"
#include "src/stats_spread.h"

enum { MOST_DOMAINS = 64, PLACES = 5 };

// Of a domain in one run; NAN where it was not measured.
struct domain {
    char     name[64];
    uint32_t place;      // of its first visit among those of all, from 1; 0: never visited
    double   start, end; // of its first visit, of its last
    double   last, exchanged, exchanged_all; // when the run was over
    double   unseen, unseen_last; // of one that is held out: before the first step, at the end
    double   targets;
};

struct run {
    const char             *folder;
    enum config_curriculum  order;
    enum config_fct_control control;
    uint64_t                seed;
    struct domain           domain[MOST_DOMAINS];
    uint32_t                domains, visited;
    double                  held_out; // of all domains, when the run was over
};

static const char *const order_names[] = {"none", "fixed", "random", "interleaved", "dopamine"};
static const char *const control_names[] = {"patterns", "shuffle", "shuffle_all", "tags"};

// ---- reading

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static struct domain *domain_of(struct run *run, const char *name)
{
    for (uint32_t i = 0; i < run->domains; i++)
        if (strcmp(run->domain[i].name, name) == 0) return &run->domain[i];
    if (run->domains == MOST_DOMAINS) return NULL;
    struct domain *domain = &run->domain[run->domains++];
    *domain = (struct domain){.start = NAN, .end = NAN, .last = NAN, .exchanged = NAN,
                              .exchanged_all = NAN, .unseen = NAN, .unseen_last = NAN};
    snprintf(domain->name, sizeof domain->name, "%s", name);
    return domain;
}

// A run that went on may have written a line twice: the later one is like the first.
static void take_domain(struct run *run, const cJSON *line)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "domain")),
               *at = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "at"));
    const double loss = number(line, "domain_loss");
    struct domain *d = name && at ? domain_of(run, name) : NULL;
    if (!d) return;
    if (strcmp(at, "start") == 0 && !d->place) {
        d->place = ++run->visited;
        d->start = loss;
    }
    if (strcmp(at, "end") == 0) d->end = loss;
    if (strcmp(at, "final") == 0) d->last = loss, d->targets = number(line, "targets");
    if (strcmp(at, "exchanged") == 0) d->exchanged = loss;
    if (strcmp(at, "exchanged_all") == 0) d->exchanged_all = loss;
    if (strcmp(at, "held_out") == 0) {
        if (isnan(d->unseen)) d->unseen = loss;
        d->unseen_last = loss;
    }
}

static void take_lines(struct run *run, const char *text, uint64_t bytes)
{
    const char *end = text + bytes, *stop;
    for (const char *line = text; line < end; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) break;
        cJSON *json = cJSON_ParseWithLength(line, (size_t)(stop - line));
        take_domain(run, json);
        const double loss = number(json, "eval_loss");
        if (!isnan(loss)) run->held_out = loss;
        cJSON_Delete(json);
    }
}

static bool read_run(const char *folder, struct run *run)
{
    char path[4200];
    struct config config;
    void *text;
    uint64_t bytes;
    snprintf(path, sizeof path, "%.4100s/config.json", folder);
    if (!config_read(&config, path, NULL, 0)) return false;
    *run = (struct run){.folder = folder, .order = config.curriculum,
                        .control = config.fct_control, .seed = config.seed, .held_out = NAN};
    snprintf(path, sizeof path, "%.4100s/metrics.jsonl", folder);
    if (!file_read(path, 0, &text, &bytes)) return false;
    take_lines(run, text, bytes);
    free(text);
    if (run->visited) return true;
    log_error("%s: no domain was measured in this run; wanted one with a curriculum and held-out "
              "text", folder);
    return false;
}

// ---- groups of runs

struct group { const struct run *const *run; uint32_t count; };

// A number of each run -> its spread; runs without are left out.
typedef double value_fn(const struct run *run, const void *what);

static struct spread over(const struct group *group, value_fn *value, const void *what)
{
    double *values = malloc((group->count + 1) * sizeof *values);
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->count; i++) {
        values[count] = value(group->run[i], what);
        count += !isnan(values[count]);
    }
    const struct spread s = spread_of(values, count);
    free(values);
    return s;
}

struct part { const char *domain; size_t offset; };

static double of_domain(const struct run *run, const void *what)
{
    const struct part *part = what;
    for (uint32_t i = 0; i < run->domains; i++) {
        double value;
        if (strcmp(run->domain[i].name, part->domain) != 0) continue;
        memcpy(&value, (const char *)&run->domain[i] + part->offset, sizeof value);
        return value;
    }
    return NAN;
}

static double of_run(const struct run *run, const void *what)
{
    (void)what;
    return run->held_out;
}

struct places { uint32_t from, to; };
static const struct places places[PLACES] = {{1, 1}, {2, 2}, {3, 4}, {5, 8}, {9, MOST_DOMAINS}};

// The mean start of the domains that were first visited at these places.
static double of_places(const struct run *run, const void *what)
{
    const struct places *p = what;
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < run->domains; i++) {
        const struct domain *d = &run->domain[i];
        if (d->place < p->from || d->place > p->to || !d->place || isnan(d->start)) continue;
        sum += d->start;
        count++;
    }
    return count ? sum / count : NAN;
}

// Of what is seen at the run's end: a mean over domains, by their targets, of one measure less
// another.
struct difference { size_t value, less; };

static double of_exchange(const struct run *run, const void *what)
{
    const struct difference *of = what;
    double sum = 0, targets = 0;
    for (uint32_t i = 0; i < run->domains; i++) {
        const struct domain *d = &run->domain[i];
        double value, less;
        memcpy(&value, (const char *)d + of->value, sizeof value);
        memcpy(&less, (const char *)d + of->less, sizeof less);
        if (isnan(value) || isnan(less) || !(d->targets > 0)) continue;
        sum += d->targets * (value - less);
        targets += d->targets;
    }
    return targets > 0 ? sum / targets : NAN;
}

static double of_unseen(const struct run *run, const void *what)
{
    double sum = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < run->domains; i++) {
        double value;
        memcpy(&value, (const char *)&run->domain[i] + *(const size_t *)what, sizeof value);
        if (isnan(value)) continue;
        sum += value;
        count++;
    }
    return count ? sum / count : NAN;
}

// ---- controls: the run of the same order and seed on patterns as they are

struct all_runs { const struct run *run; uint32_t count; };
struct paired { const struct all_runs *all; value_fn *value; const void *what; };

static double less_patterns(const struct run *run, const void *what)
{
    const struct paired *pair = what;
    for (uint32_t i = 0; i < pair->all->count; i++) {
        const struct run *other = &pair->all->run[i];
        if (other->order == run->order && other->seed == run->seed &&
            other->control == CONFIG_FCT_AS_IT_IS)
            return pair->value(run, pair->what) - pair->value(other, pair->what);
    }
    return NAN;
}

static double share_of_drop(const struct run *run, const void *what)
{
    static const struct places first = {1, 1}, later = {2, MOST_DOMAINS};
    const struct all_runs *all = what;
    for (uint32_t i = 0; i < all->count; i++) {
        const struct run *other = &all->run[i];
        if (other->order == run->order && other->seed == run->seed &&
            other->control == CONFIG_FCT_AS_IT_IS)
            return (of_places(run, &first) - of_places(run, &later)) /
                   (of_places(other, &first) - of_places(other, &later));
    }
    return NAN;
}

// ---- what is printed: rows of spreads, as Markdown and as JSON

static void put(cJSON *object, const char *key, struct spread s)
{
    if (!s.count) return;
    cJSON *own = cJSON_AddObjectToObject(object, key);
    cJSON_AddNumberToObject(own, "mean", s.mean);
    if (s.count > 1) cJSON_AddNumberToObject(own, "deviation", s.deviation);
    if (s.count > 1) cJSON_AddNumberToObject(own, "half_95", s.half);
    cJSON_AddNumberToObject(own, "runs", s.count);
}

static void cell(bool json, struct spread s)
{
    if (json) return;
    if (!s.count) printf(" - |");
    else if (s.count == 1) printf(" %.4f |", s.mean);
    else printf(" %.4f +- %.4f |", s.mean, s.half);
}

#define AT(member) offsetof(struct domain, member)
static const struct { const char *key, *title; size_t offset; } columns[] = {
    {"start", "start", AT(start)}, {"end", "end of its last visit", AT(end)},
    {"final", "end of the run", AT(last)}, {"exchanged", "exchanged payloads", AT(exchanged)},
};

static void domain_tables(const struct group *group, bool json, cJSON *out)
{
    const struct run *first = group->run[0];
    cJSON *list = cJSON_AddArrayToObject(out, "domains");
    if (!json) {
        printf("\n| domain | start of its first visit | end of its last | end of the run | there, "
               "payloads exchanged |\n|---|---|---|---|---|\n");
    }
    for (uint32_t i = 0; i < first->domains; i++) {
        cJSON *own = cJSON_CreateObject();
        cJSON_AddItemToArray(list, own);
        cJSON_AddStringToObject(own, "name", first->domain[i].name);
        if (!json) printf("| %s |", first->domain[i].name);
        for (size_t c = 0; c < COUNT_OF(columns); c++) {
            const struct part part = {first->domain[i].name, columns[c].offset};
            const struct spread s = over(group, of_domain, &part);
            cell(json, s);
            put(own, columns[c].key, s);
        }
        if (!json) printf("\n");
    }
}

static const size_t unseen_first = AT(unseen), unseen_last = AT(unseen_last);
static const struct difference in_domain = {AT(exchanged), AT(last)},
                               of_all = {AT(exchanged_all), AT(last)};

static void place_row(const struct group *group, bool json, cJSON *out)
{
    cJSON *list = cJSON_AddArrayToObject(out, "starts_by_place");
    for (uint32_t p = 0; p < PLACES; p++) {
        const struct spread s = over(group, of_places, &places[p]);
        cJSON *own = cJSON_CreateObject();
        cJSON_AddItemToArray(list, own);
        cJSON_AddNumberToObject(own, "from", places[p].from);
        put(own, "start", s);
        cell(json, s);
    }
}

static void use_cells(const struct group *group, bool json, cJSON *out)
{
    const struct { const char *key; value_fn *value; const void *what; } cells[] = {
        {"held_out_loss", of_run, NULL},
        {"held_out_domains_before", of_unseen, &unseen_first},
        {"held_out_domains_after", of_unseen, &unseen_last},
        {"exchanged_in_domain", of_exchange, &in_domain},
        {"exchanged_in_all", of_exchange, &of_all},
    };
    for (size_t i = 0; i < COUNT_OF(cells); i++) {
        const struct spread s = over(group, cells[i].value, cells[i].what);
        put(out, cells[i].key, s);
        cell(json, s);
    }
}

static void control_cells(const struct group *group, const struct all_runs *all, bool json,
                          cJSON *out)
{
    static const struct places later = {2, MOST_DOMAINS};
    const struct paired starts = {all, of_places, &later}, unseen = {all, of_unseen, &unseen_last};
    const struct { const char *key; value_fn *value; const void *what; } cells[] = {
        {"starts_less_those_of_patterns", less_patterns, &starts},
        {"share_of_the_fall", share_of_drop, all},
        {"held_out_domains_less_those_of_patterns", less_patterns, &unseen},
    };
    for (size_t i = 0; i < COUNT_OF(cells); i++) {
        const struct spread s = over(group, cells[i].value, cells[i].what);
        put(out, cells[i].key, s);
        cell(json, s);
    }
}

static void name_cell(const struct group *group, bool json)
{
    if (!json)
        printf("| %s, %s |", order_names[group->run[0]->order],
               control_names[group->run[0]->control]);
}

// "0.0009 +- 0.0021 (not distinguishable from 0)"; of one run without an interval.
static void say_spread(struct spread s, const char *format, double null, const char *is_null)
{
    printf(format, s.mean);
    if (s.count < 2) printf(" (one run)");
    else printf(" +- "), printf(format, s.half);
    if (s.count > 1 && is_null && fabs(s.mean - null) <= s.half) printf(" (%s)", is_null);
}

static void say(const struct group *group, const struct all_runs *all)
{
    const char *order = order_names[group->run[0]->order],
               *control = control_names[group->run[0]->control];
    const struct spread use = over(group, of_exchange, &in_domain),
                        share = over(group, share_of_drop, all);
    if (group->run[0]->control != CONFIG_FCT_AS_IT_IS && share.count) {
        printf("- %s, %s: of the fall of the starts, ", order, control);
        say_spread(share, "%.3f", 1, "not distinguishable from all of it");
        printf(" is there without the patterns\n");
    } else if (use.count) {
        printf("- %s, %s: payloads behind the inputs of other patterns cost ", order, control);
        say_spread(use, "%.4f", 0, "not distinguishable from 0");
        printf(" nats more: so much is read from the inputs\n");
    }
}

static void print_tables(const struct group *group, uint32_t groups, const struct all_runs *all,
                         bool json, cJSON **out)
{
    if (!json)
        printf("Held-out loss, nats a token of payload; means over seeds +- half a 95 %% interval."
               "\n\n| order, trained on | all domains at the end | held-out domains before | after "
               "| more, payloads exchanged in the domain | in all |\n|---|---|---|---|---|---|\n");
    for (uint32_t g = 0; g < groups; g++) {
        name_cell(&group[g], json);
        use_cells(&group[g], json, out[g]);
        if (!json) printf("\n");
    }
    if (!json)
        printf("\nStart of a domain's first visit, by its place in the order:\n\n| order, trained "
               "on | 1st | 2nd | 3rd-4th | 5th-8th | later |\n|---|---|---|---|---|---|\n");
    for (uint32_t g = 0; g < groups; g++) {
        name_cell(&group[g], json);
        place_row(&group[g], json, out[g]);
        if (!json) printf("\n");
    }
    if (!json)
        printf("\nControls against patterns as they are, same order and seed:\n\n| order, trained "
               "on | starts, 2nd and later, less those | share of the fall of the starts | "
               "held-out domains at the end, less those |\n|---|---|---|---|\n");
    for (uint32_t g = 0; g < groups; g++) {
        if (group[g].run[0]->control == CONFIG_FCT_AS_IT_IS) continue;
        name_cell(&group[g], json);
        control_cells(&group[g], all, json, out[g]);
        if (!json) printf("\n");
    }
    if (!json) printf("\n");
    for (uint32_t g = 0; !json && g < groups; g++) say(&group[g], all);
    for (uint32_t g = 0; g < groups; g++) {
        if (!json)
            printf("\n%s, %s, %u runs:\n", order_names[group[g].run[0]->order],
                   control_names[group[g].run[0]->control], group[g].count);
        domain_tables(&group[g], json, out[g]);
    }
}

static void report(const struct all_runs *all, bool json)
{
    enum { MOST_GROUPS = COUNT_OF(order_names) * COUNT_OF(control_names) };
    const struct run **member = malloc(all->count * sizeof *member);
    struct group group[MOST_GROUPS];
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "groups"),
          *out[MOST_GROUPS];
    uint32_t groups = 0, used = 0;
    for (size_t k = 0; k < MOST_GROUPS; k++) {
        struct group own = {.run = member + used};
        for (uint32_t i = 0; i < all->count; i++)
            if (all->run[i].order == k / COUNT_OF(control_names) &&
                all->run[i].control == k % COUNT_OF(control_names))
                member[used + own.count++] = &all->run[i];
        if (!own.count) continue;
        used += own.count;
        out[groups] = cJSON_CreateObject();
        cJSON_AddItemToArray(list, out[groups]);
        cJSON_AddStringToObject(out[groups], "order", order_names[own.run[0]->order]);
        cJSON_AddStringToObject(out[groups], "trained_on", control_names[own.run[0]->control]);
        cJSON_AddNumberToObject(out[groups], "runs", own.count);
        group[groups++] = own;
    }
    print_tables(group, groups, all, json, out);
    char *text = json ? cJSON_Print(root) : NULL;
    if (json) puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
    free(member);
}

bool fct_report(const char *const *folder, int count, bool json)
{
    struct run *run = malloc((size_t)count * sizeof *run);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) ok = read_run(folder[i], &run[i]);
    if (ok) report(&(struct all_runs){run, (uint32_t)count}, json);
    free(run);
    return ok;
}
