// SPDX-License-Identifier: MIT
// What moved between two results of the benchmark. A result is known by name, shape, model and
// storage type (the first word of its variant), so that another kernel variant is a change and not
// another result. It moved where its time changed by more than the noise: the spreads of both
// together, and at least NOISE_LEAST.
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "tools/bench.h"

static const double NOISE_LEAST = 0.02;

struct item {
    const char *name, *shape, *model, *variant;
    double      ms, spread;
};

struct items {
    const char  *device, *driver, *commit;
    struct item *item;
    size_t       count;
    cJSON       *json;
};

// ---- reading

static const char *text_of(const cJSON *json, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

static double number_of(const cJSON *json, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

static bool read_item(const char *file, size_t index, const cJSON *json, struct item *item)
{
    static const char *const keys[] = {"name", "shape", "variant"};
    const char **const texts[] = {&item->name, &item->shape, &item->variant};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (!(*texts[i] = text_of(json, keys[i]))) {
            log_error("%s: results[%zu] has no \"%s\"; vkmoe bench --json writes such a file",
                      file, index, keys[i]);
            return false;
        }
    item->model = text_of(json, "model");
    if (!item->model) item->model = "";
    item->ms = number_of(json, "ms");
    item->spread = number_of(json, "spread");
    if (item->ms > 0 && item->spread >= 0) return true;
    log_error("%s: results[%zu] (%s %s): \"ms\" has to be above 0, \"spread\" 0 or more", file,
              index, item->name, item->shape);
    return false;
}

static bool read_items(const char *file, const char *text, struct items *items)
{
    *items = (struct items){.json = cJSON_Parse(text)};
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(items->json, "results"), *one;
    items->device = text_of(items->json, "device");
    items->driver = text_of(items->json, "driver");
    items->commit = text_of(items->json, "commit");
    if (!items->device || !items->driver || !items->commit || !cJSON_IsArray(results)) {
        log_error("%s: %s; vkmoe bench --json writes such a file", file,
                  !items->json ? "no JSON object"
                               : "lacks one of \"device\", \"driver\", \"commit\", \"results\"");
        return false;
    }
    items->item = calloc((size_t)cJSON_GetArraySize(results) + 1, sizeof *items->item);
    if (!items->item) abort();
    cJSON_ArrayForEach(one, results) {
        if (!read_item(file, items->count, one, &items->item[items->count])) return false;
        items->count++;
    }
    return true;
}

static void free_items(struct items *items)
{
    free(items->item);
    cJSON_Delete(items->json);
}

// ---- comparing

static size_t first_word(const char *text) { return strcspn(text, " "); }

static bool same(const struct item *a, const struct item *b)
{
    const size_t word = first_word(a->variant);
    return strcmp(a->name, b->name) == 0 && strcmp(a->shape, b->shape) == 0 &&
           strcmp(a->model, b->model) == 0 && first_word(b->variant) == word &&
           strncmp(a->variant, b->variant, word) == 0;
}

static const struct item *find(const struct items *items, const struct item *item)
{
    for (size_t i = 0; i < items->count; i++)
        if (same(&items->item[i], item)) return &items->item[i];
    return NULL;
}

static double noise_of(const struct item *a, const struct item *b)
{
    return fmax(a->spread + b->spread, NOISE_LEAST);
}

// How much faster (above 0) or slower: the ratio of the times, less 1, the larger over the smaller.
static double change_of(const struct item *old, const struct item *now)
{
    return old->ms >= now->ms ? old->ms / now->ms - 1 : 1 - now->ms / old->ms;
}

struct counts { uint32_t compared, faster, slower, only_old, only_now; };

struct columns { int name, shape, model, variant; };

static int wider(int width, const char *text)
{
    return (int)strlen(text) > width ? (int)strlen(text) : width;
}

static struct columns columns_of(const struct items *items)
{
    struct columns c = {4, 5, 5, 7};
    for (size_t i = 0; i < items->count; i++) {
        c.name = wider(c.name, items->item[i].name);
        c.shape = wider(c.shape, items->item[i].shape);
        c.model = wider(c.model, items->item[i].model);
        c.variant = wider(c.variant, items->item[i].variant);
    }
    return c;
}

static void print_moved(const struct columns *c, const struct item *old, const struct item *now,
                        FILE *out)
{
    const double change = change_of(old, now);
    const bool other = strcmp(old->variant, now->variant) != 0;
    fprintf(out, "  %-*s  %-*s  %-*s  %-*s  %10.4f  %10.4f  %+7.1f%%  %6.1f%%  %s%s%s\n", c->name,
            now->name, c->shape, now->shape, c->model, now->model, c->variant, now->variant,
            old->ms, now->ms, 100 * change, 100 * noise_of(old, now),
            change > 0 ? "faster" : "slower", other ? ", was " : "", other ? old->variant : "");
}

static struct counts print_rows(const struct items *old, const struct items *now, FILE *out)
{
    const struct columns c = columns_of(now);
    struct counts counts = {0};
    for (size_t i = 0; i < now->count; i++) {
        const struct item *item = &now->item[i], *before = find(old, item);
        if (!before) {
            counts.only_now++;
            continue;
        }
        const double change = change_of(before, item);
        counts.compared++;
        if (fabs(change) <= noise_of(before, item)) continue;
        if (counts.faster + counts.slower == 0)
            fprintf(out, "\n  %-*s  %-*s  %-*s  %-*s  %10s  %10s  %8s  %7s\n", c.name, "name",
                    c.shape, "shape", c.model, "model", c.variant, "variant", "ms before", "ms now",
                    "change", "noise");
        *(change > 0 ? &counts.faster : &counts.slower) += 1;
        print_moved(&c, before, item, out);
    }
    for (size_t i = 0; i < old->count; i++) counts.only_old += !find(now, &old->item[i]);
    return counts;
}

bool bench_compare(const char *old_name, const char *old_json, const char *new_name,
                   const char *new_json, bool filtered, FILE *out)
{
    struct items old = {0}, now = {0};
    const bool ok = read_items(old_name, old_json, &old) && read_items(new_name, new_json, &now);
    if (ok) {
        fprintf(out, "before: %s, %s, %s (%s)\nnow:    %s, %s, %s (%s)\n", old.device, old.driver,
                old.commit, old_name, now.device, now.driver, now.commit, new_name);
        if (strcmp(old.device, now.device) != 0 || strcmp(old.driver, now.driver) != 0)
            log_warn("%s is of another device or driver (%s, %s): its times say little here",
                     old_name, old.device, old.driver);
        const struct counts c = print_rows(&old, &now, out);
        fprintf(out, "\n%u compared: %u faster, %u slower, %u within the noise", c.compared,
                c.faster, c.slower, c.compared - c.faster - c.slower);
        if (c.only_now) fprintf(out, "; %u only now", c.only_now);
        if (c.only_old && !filtered) fprintf(out, "; %u only before", c.only_old);
        putc('\n', out);
    }
    free_items(&old);
    free_items(&now);
    return ok;
}
