// SPDX-License-Identifier: MIT
// The benchmark as one JSON object for programs: a result a line, so that two of them can be
// compared by eye too.
#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"

// Six digits are more than any of this is worth.
static void add_number(cJSON *json, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    if (isfinite(value)) cJSON_AddRawToObject(json, name, text);
    else cJSON_AddNullToObject(json, name);
}

static void add_rates(cJSON *json, const struct bench *bench, const char *variant, double gflops,
                      double gbps)
{
    add_number(json, "gflops", gflops);
    add_number(json, "gbps", gbps);
    add_number(json, "peak_pct", bench_peak_pct(bench, variant, gflops, gbps));
}

static cJSON *result_json(const struct bench *bench, const struct bench_result *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "family", r->family);
    cJSON_AddStringToObject(json, "name", r->name);
    cJSON_AddStringToObject(json, "shape", r->shape);
    if (r->model[0]) cJSON_AddStringToObject(json, "model", r->model);
    cJSON_AddStringToObject(json, "variant", r->variant);
    add_number(json, "ms", r->time.ms);
    add_number(json, "spread", r->time.spread);
    add_rates(json, bench, r->variant, bench_gflops(r), bench_gbps(r));
    for (uint32_t i = 0; i < r->field_count; i++)
        add_number(json, r->field[i].name, r->field[i].value);
    return json;
}

static cJSON *profile_json(const struct bench *bench, const struct bench_profile *profile)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", profile->name);
    add_number(json, "ms", profile->ms);
    cJSON *rows = cJSON_AddArrayToObject(json, "kernels");
    for (uint32_t i = 0; i < profile->count; i++) {
        const struct bench_profile_row *row = &profile->row[i];
        const double gflops = row->ms > 0 ? 1e-6 * row->flops / row->ms : 0;
        const double gbps = row->ms > 0 ? 1e-6 * row->bytes / row->ms : 0;
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", row->name);
        add_number(one, "count", row->count);
        add_number(one, "ms", row->ms);
        add_number(one, "share", row->ms / profile->ms);
        add_rates(one, bench, NULL, gflops, gbps);
        cJSON_AddItemToArray(rows, one);
    }
    return json;
}

static cJSON *peaks_json(const struct bench_peaks *p)
{
    static const char *const coop[BENCH_COOPS] = {"coop_f16_gflops", "coop_bf16_gflops",
                                                  "coop_i8_gops"};
    cJSON *peaks = cJSON_CreateObject();
    add_number(peaks, "copy_gbps", p->copy_gbps);
    add_number(peaks, "copy_command_gbps", p->copy_command_gbps);
    add_number(peaks, "copy_kernel_gbps", p->copy_kernel_gbps);
    add_number(peaks, "fma_f32_gflops", p->fma_f32_gflops);
    add_number(peaks, "fma_f16_gflops", p->fma_f16_gflops > 0 ? p->fma_f16_gflops : NAN);
    for (int i = 0; i < BENCH_COOPS; i++)
        add_number(peaks, coop[i], p->coop_gflops[i] > 0 ? p->coop_gflops[i] : NAN);
    add_number(peaks, "upload_gbps", p->upload_gbps);
    add_number(peaks, "download_gbps", p->download_gbps);
    return peaks;
}

// ---- text

// `"name": VALUE` and what comes behind it; takes the value.
static void append_member(struct bytes *text, const char *name, cJSON *value, const char *end)
{
    bytes_printf(text, "%s", name);
    bytes_json(text, value);
    bytes_printf(text, "%s", end);
}

char *bench_json(const struct bench *bench, const char *commit)
{
    struct bytes text = {0};
    bytes_printf(&text, "{\n");
    append_member(&text, "\"device\": ", cJSON_CreateString(bench->gpu->caps.name), ",\n");
    append_member(&text, "\"driver\": ", cJSON_CreateString(bench->gpu->caps.driver), ",\n");
    append_member(&text, "\"commit\": ", cJSON_CreateString(commit), ",\n");
    append_member(&text, "\"tuned\": ", cJSON_CreateBool(bench->tuned), ",\n");
    append_member(&text, "\"peaks\": ", peaks_json(&bench->peaks), ",\n\"results\": [");
    for (uint32_t i = 0; i < bench->count; i++)
        append_member(&text, i ? ",\n  " : "\n  ", result_json(bench, &bench->result[i]), "");
    bytes_printf(&text, "\n],\n\"profiles\": [");
    for (uint32_t i = 0; i < bench->profile_count; i++)
        append_member(&text, i ? ",\n  " : "\n  ", profile_json(bench, &bench->profile[i]), "");
    bytes_printf(&text, "\n]\n}");
    return (char *)text.data;
}

// ---- a file's name

// Words of letters, digits and dots, behind `slug`, but those that it holds; what stands in
// brackets is left out.
static void append_words(char *slug, size_t bytes, const char *text)
{
    while (*text) {
        if (*text == '(') text += strcspn(text, ")");
        char word[64];
        size_t n = 0;
        while ((isalnum((unsigned char)*text) || *text == '.') && n < sizeof word - 1)
            word[n++] = (char)tolower((unsigned char)*text++);
        word[n] = 0;
        const size_t length = strlen(slug);
        if (n && !strstr(slug, word) && length + n + 2 < bytes)
            snprintf(slug + length, bytes - length, "%s%s", length ? "-" : "", word);
        if (*text && (!n || !(isalnum((unsigned char)*text) || *text == '.'))) text++;
    }
}

char *bench_slug(const char *device, const char *driver)
{
    char slug[160] = "";
    append_words(slug, sizeof slug, device);
    append_words(slug, sizeof slug, driver);
    char *copy = strdup(slug[0] ? slug : "device");
    if (!copy) abort();
    return copy;
}
