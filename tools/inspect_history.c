// SPDX-License-Identifier: MIT
// metrics.jsonl of the run -> curves of its MoE layers by hundredths, and its alarms.
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/base.h"
#include "tools/inspect.h"

struct history {
    struct inspect *inspect;
    uint32_t        count[INSPECT_POINTS]; // steps
};

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static void take_layer(struct inspect *in, struct inspect_layer *l, uint32_t step, uint32_t point,
                       const cJSON *json)
{
    l->entropies[point] += number(json, "entropy");
    l->shares[point] += number(json, "max_share");
    l->idle[point] += number(json, "dead") / in->experts;
    l->used[point] += number(json, "used") / in->experts;
    if (number(json, "used") > 0) l->ever = (uint32_t)number(json, "used");
    if (!cJSON_HasObjectItem(json, "alarm") || in->alarms == INSPECT_ALARMS) return;
    in->alarm[in->alarms++] =
        (struct inspect_alarm){step, l->number, (uint32_t)fmax(number(json, "max_expert"), 0)};
}

static void take_step(struct history *h, const cJSON *line)
{
    struct inspect *in = h->inspect;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(line, "layers"), *layer;
    const double step = number(line, "step");
    uint32_t index = 0;
    if (!layers || !(step >= 1 && step <= in->steps)) return;
    const uint32_t point = (uint32_t)((step - 1) * INSPECT_POINTS / in->steps);
    h->count[point]++;
    in->losses[point] += number(line, "loss");
    cJSON_ArrayForEach(layer, layers)
        if (index < in->layers) take_layer(in, &in->layer[index++], (uint32_t)step, point, layer);
}

static void last_step(struct history *h, const cJSON *line)
{
    const double step = number(line, "step");
    if (step >= 1 && step < 4e9) h->inspect->steps = max_u32(h->inspect->steps, (uint32_t)step);
}

static void each_line(struct history *h, const char *text, uint64_t bytes,
                      void (*take)(struct history *h, const cJSON *line))
{
    for (const char *at = text, *end = at + bytes, *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) break;
        cJSON *line = cJSON_ParseWithLength(at, (size_t)(stop - at));
        take(h, line);
        cJSON_Delete(line);
    }
}

static void divide(struct history *h)
{
    struct inspect *in = h->inspect;
    for (uint32_t p = 0; p < INSPECT_POINTS; p++) {
        const double count = h->count[p] ? h->count[p] : NAN;
        in->losses[p] /= count;
        for (uint32_t i = 0; i < in->layers; i++) {
            struct inspect_layer *l = &in->layer[i];
            l->entropies[p] /= count, l->shares[p] /= count;
            l->idle[p] /= count, l->used[p] /= count;
        }
    }
}

bool inspect_history(struct inspect *in)
{
    struct history h = {.inspect = in};
    char path[4200];
    void *text;
    uint64_t bytes;
    snprintf(path, sizeof path, "%.4100s/metrics.jsonl", in->folder);
    if (!file_read(path, 0, &text, &bytes)) return false;
    each_line(&h, text, bytes, last_step);
    if (in->steps) each_line(&h, text, bytes, take_step);
    free(text);
    divide(&h);
    if (in->steps) return true;
    log_error("%s: no step in it; wanted a run that has been trained", path);
    return false;
}
