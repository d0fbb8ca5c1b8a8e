// SPDX-License-Identifier: MIT
// plan.json -> arrays: see plan_file.h.
#include "tools/view/plan_file.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"

enum { MOST_BYTES = 256 << 20, MOST_PLANS = 64, MOST_ROWS = 1 << 20 };

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const double value = cJSON_IsNumber(item) ? item->valuedouble : 0;
    return isfinite(value) && value > 0 ? value : 0;
}

static const char *text(struct plan_file *f, const cJSON *object, const char *key)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return arena_strdup(f->arena, value ? value : "");
}

// The kernel of a row, found or added.
static uint32_t kind_of(struct plan_file *f, const struct plan_row *row)
{
    for (uint32_t i = 0; i < f->kernels; i++)
        if (strcmp(f->kernel[i].name, row->kernel) == 0 &&
            strcmp(f->kernel[i].variant, row->variant) == 0)
            return i;
    f->kernel[f->kernels] = (struct plan_kernel){.name = row->kernel, .variant = row->variant};
    return f->kernels++;
}

static void take_row(struct plan_file *f, const cJSON *json)
{
    const struct plan_part_of *plan = &f->plan[f->plans];
    struct plan_row *row = &f->row[f->rows++];
    const cJSON *layer = cJSON_GetObjectItemCaseSensitive(json, "layer");
    *row = (struct plan_row){.kernel = text(f, json, "kernel"), .variant = text(f, json, "variant"),
                             .section = text(f, json, "section"), .plan = f->plans,
                             .layer = cJSON_IsNumber(layer) ? layer->valueint : -1,
                             .start = f->ms, .ms = number(json, "ms"),
                             .flop = number(json, "flop"), .bytes = number(json, "bytes")};
    row->kind = kind_of(f, row);
    struct plan_kernel *kernel = &f->kernel[row->kind];
    kernel->steps += plan->times;
    kernel->ms += row->ms * plan->times;
    kernel->flop += row->flop * plan->times;
    kernel->bytes += row->bytes * plan->times;
    f->ms += row->ms;
    f->all_ms += row->ms * plan->times;
}

static uint64_t count_rows(const cJSON *plans)
{
    const cJSON *plan;
    uint64_t rows = 0;
    cJSON_ArrayForEach(plan, plans)
        rows += (uint64_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(plan, "steps"));
    return rows;
}

// Kernels by time; rows keep theirs.
static void sort_kernels(struct plan_file *f)
{
    uint32_t *order = arena_array(f->arena, f->kernels + 1, sizeof *order);
    uint32_t *place = arena_array(f->arena, f->kernels + 1, sizeof *place);
    struct plan_kernel *sorted = arena_array(f->arena, f->kernels + 1, sizeof *sorted);
    for (uint32_t i = 0; i < f->kernels; i++) {
        uint32_t at = i;
        for (; at > 0 && f->kernel[order[at - 1]].ms < f->kernel[i].ms; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (uint32_t i = 0; i < f->kernels; i++) sorted[i] = f->kernel[order[i]], place[order[i]] = i;
    for (uint32_t i = 0; i < f->rows; i++) f->row[i].kind = place[f->row[i].kind];
    f->kernel = sorted;
}

static bool take_all(struct plan_file *f, const cJSON *json)
{
    const cJSON *plans = cJSON_GetObjectItemCaseSensitive(json, "plans"), *plan, *step;
    const cJSON *peaks = cJSON_GetObjectItemCaseSensitive(json, "peaks");
    const uint64_t rows = count_rows(plans);
    if (!cJSON_IsArray(plans) || cJSON_GetArraySize(plans) > MOST_PLANS || rows > MOST_ROWS)
        return false;
    f->device = text(f, json, "device"), f->driver = text(f, json, "driver");
    f->tokens = number(json, "tokens");
    f->copy_gbps = number(peaks, "copy_gbps"), f->fma_gflops = number(peaks, "fma_gflops");
    f->plan = arena_array(f->arena, MOST_PLANS, sizeof *f->plan);
    f->row = arena_array(f->arena, rows + 1, sizeof *f->row);
    f->kernel = arena_array(f->arena, rows + 1, sizeof *f->kernel);
    cJSON_ArrayForEach(plan, plans) {
        const double times = fmin(fmax(number(plan, "times"), 1), 1e6);
        f->plan[f->plans] = (struct plan_part_of){text(f, plan, "name"), (uint32_t)times, f->ms, 0};
        cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(plan, "steps")) take_row(f, step);
        f->plan[f->plans].ms = f->ms - f->plan[f->plans].start;
        f->plans++;
    }
    sort_kernels(f);
    return true;
}

struct plan_file *plan_file_read(const char *path)
{
    void *data;
    uint64_t bytes;
    if (!file_exists(path) || !file_read(path, MOST_BYTES, &data, &bytes)) return NULL;
    struct arena *arena = arena_create("plan.json");
    struct plan_file *f = arena_alloc(arena, sizeof *f);
    f->arena = arena;
    cJSON *json = cJSON_ParseWithLength(data, bytes);
    if (!json || !take_all(f, json)) {
        log_error("%s: not the plans of a training step as vkmoe train writes them", path);
        plan_file_free(&f);
    }
    cJSON_Delete(json);
    free(data);
    return f;
}

void plan_file_free(struct plan_file **file)
{
    if (!*file) return;
    struct arena *arena = (*file)->arena;
    arena_destroy(&arena);
    *file = NULL;
}
