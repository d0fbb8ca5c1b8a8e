// SPDX-License-Identifier: MIT
// metrics.jsonl of a finished run -> what a sweep compares (sweep.h).
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "src/base.h"
#include "src/checkpoint.h"
#include "tools/inspect.h"
#include "tools/sweep.h"

// Sums by hundredths of the run, and over its last tenth.
struct sums {
    struct sweep_result *result;
    uint32_t experts;
    uint32_t steps, count[SWEEP_POINTS], last_count;
    double  *speeds;
    uint32_t speed_count;
};

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

// Means over the MoE layers; NAN in a dense model.
static void layers_of(const cJSON *line, double *entropy, double *share, double *dead)
{
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(line, "layers"), *layer;
    const int count = cJSON_GetArraySize(layers);
    *entropy = *share = *dead = count ? 0 : NAN;
    cJSON_ArrayForEach(layer, layers)
    {
        *entropy += number(layer, "entropy") / count;
        *share += number(layer, "max_share") / count;
        *dead += (1 - number(layer, "active")) / count;
    }
}

static double ever_of(const cJSON *line, uint32_t experts)
{
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(line, "layers"), *layer;
    double ever = 0;
    cJSON_ArrayForEach(layer, layers) ever += number(layer, "used") / experts;
    return ever / cJSON_GetArraySize(layers); // of a dense model NAN
}

static void take_step(struct sums *s, uint32_t step, const cJSON *line)
{
    struct sweep_result *r = s->result;
    double entropy, share, dead;
    const uint32_t point = (uint32_t)((uint64_t)(step - 1) * SWEEP_POINTS / s->steps);
    const double loss = number(line, "loss");
    layers_of(line, &entropy, &share, &dead);
    r->touched += (1 - dead) / s->steps;
    if (step == s->steps) r->ever = ever_of(line, s->experts);
    s->speeds[s->speed_count++] = number(line, "tokens_per_s");
    r->device_bytes = max_u64(r->device_bytes, (uint64_t)fmax(number(line, "device_bytes"), 0));
    s->count[point]++;
    r->curve[point] += loss;
    r->entropies[point] += entropy;
    r->shares[point] += share;
    if (step <= s->steps - s->steps / 10 && s->steps >= 10) return;
    s->last_count++;
    r->loss += loss, r->entropy += entropy, r->max_share += share, r->dead += dead;
}

static void take_line(struct sums *s, const char *text, size_t bytes)
{
    cJSON *line = cJSON_ParseWithLength(text, bytes);
    const double step = number(line, "step");
    if (step >= 1 && step <= s->steps) {
        if (!isnan(number(line, "loss")) || cJSON_HasObjectItem(line, "layers")) {
            if (s->speed_count < s->steps) take_step(s, (uint32_t)step, line);
        } else if (step == s->steps && cJSON_HasObjectItem(line, "eval_loss")) {
            s->result->held_out_loss = number(line, "eval_loss");
            s->result->bpb = number(line, "bpb");
        }
    }
    cJSON_Delete(line);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void divide(struct sums *s)
{
    struct sweep_result *r = s->result;
    for (uint32_t i = 0; i < SWEEP_POINTS; i++) {
        const double count = s->count[i] ? s->count[i] : NAN;
        r->curve[i] /= count, r->entropies[i] /= count, r->shares[i] /= count;
    }
    const double last = s->last_count ? s->last_count : NAN;
    r->loss /= last, r->entropy /= last, r->max_share /= last, r->dead /= last;
    qsort(s->speeds, s->speed_count, sizeof *s->speeds, by_value);
    r->tokens_per_s = s->speed_count ? s->speeds[s->speed_count / 2] : NAN;
}

static void take_inspected(const char *folder, struct sweep_result *r)
{
    char path[4200];
    struct inspect_summary s;
    snprintf(path, sizeof path, "%.4100s/" SWEEP_INSPECTED, folder);
    const bool there = inspect_read(path, &s);
    r->information = there ? s.information : NAN;
    r->shuffled = there ? s.shuffled : NAN;
    r->documents = there ? s.documents : NAN;
    r->given_token = there ? s.given_token : NAN;
    r->given_documents = there ? s.given_documents : NAN;
}

// Two moments in f32 for each parameter of an expert that never had a token.
static void take_state(const char *folder, const struct sweep_run *run, struct sweep_result *r)
{
    struct checkpoint_found found;
    char path[4200];
    uint64_t bytes;
    r->state_mib = r->needed_mib = NAN;
    if (!checkpoint_find(folder, &found)) return;
    snprintf(path, sizeof path, "%.4100s/optimizer.safetensors", found.path);
    if (!file_exists(path) || !file_size(path, &bytes)) return;
    r->state_mib = (double)bytes / (1 << 20);
    r->needed_mib = r->state_mib - (1 - r->ever) * 8.0 * (double)run->expert_parameters / (1 << 20);
}

bool sweep_result_read(const char *folder, const struct sweep_run *run, uint32_t steps,
                       struct sweep_result *result)
{
    char path[4200];
    void *text;
    uint64_t bytes;
    *result = (struct sweep_result){.held_out_loss = NAN, .bpb = NAN};
    take_inspected(folder, result);
    snprintf(path, sizeof path, "%.4100s/metrics.jsonl", folder);
    if (!file_exists(path) || !file_read(path, 0, &text, &bytes)) return false;
    struct sums sums = {.result = result, .steps = steps, .experts = run->experts};
    sums.speeds = malloc(steps * sizeof *sums.speeds);
    for (const char *at = text, *end = at + bytes, *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) break;
        take_line(&sums, at, (size_t)(stop - at));
    }
    result->done = sums.speed_count == steps;
    divide(&sums);
    take_state(folder, run, result);
    free(sums.speeds);
    free(text);
    return true;
}
