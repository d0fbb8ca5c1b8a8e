// SPDX-License-Identifier: MIT
// The benchmark's table for people and its one JSON object for programs.
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "tools/bench.h"

static double rate(double work, double ms) { return ms > 0 ? 1e-6 * work / ms : 0; }

double bench_gflops(const struct bench_result *result)
{
    return rate(result->flops, result->time.ms);
}
double bench_gbps(const struct bench_result *result)
{
    return rate(result->bytes, result->time.ms);
}

double bench_peak_pct(const struct bench *bench, double gflops, double gbps)
{
    const double flops = bench->peaks.fma_f32_gflops, copy = bench->peaks.copy_gbps;
    return 100 * fmax(flops > 0 ? gflops / flops : 0, copy > 0 ? gbps / copy : 0);
}

// ---- text

static int longest(const struct bench *bench, const char *title,
                   const char *(*text)(const struct bench_result *result))
{
    size_t most = strlen(title);
    for (uint32_t i = 0; i < bench->count; i++)
        if (strlen(text(&bench->result[i])) > most) most = strlen(text(&bench->result[i]));
    return (int)most;
}

static const char *name_of(const struct bench_result *result) { return result->name; }
static const char *shape_of(const struct bench_result *result) { return result->shape; }
static const char *variant_of(const struct bench_result *result) { return result->variant; }

static double field_of(const struct bench_result *result, const char *name)
{
    for (uint32_t i = 0; i < result->field_count; i++)
        if (strcmp(result->field[i].name, name) == 0) return result->field[i].value;
    return NAN;
}

// What a whole step has to say beside its line.
static void print_step(const struct bench_result *r, FILE *out)
{
    fprintf(out, "    %.1f tokens/s", field_of(r, "tokens_per_s"));
    if (!isnan(field_of(r, "kernel_share")))
        fprintf(out, ", %.1f %% of the wall time in kernels (%.3f ms)",
                100 * field_of(r, "kernel_share"), field_of(r, "kernel_ms"));
    fprintf(out, ", %.0f dispatches in %.0f submits\n", field_of(r, "dispatches"),
            field_of(r, "submits"));
    if (isnan(field_of(r, "steps"))) return;
    fprintf(out,
            "    over %.0f steps %+.0f bytes on the device (%.1f MiB), %+.0f on the heap, driver "
            "included\n",
            field_of(r, "steps"), field_of(r, "device_growth_bytes"),
            field_of(r, "device_bytes") / 1048576, field_of(r, "host_growth_bytes"));
}

static void print_results(const struct bench *bench, FILE *out)
{
    const int name = longest(bench, "attention", name_of),
              shape = longest(bench, "shape", shape_of);
    const int variant = longest(bench, "variant", variant_of);
    const char *family = "";
    for (uint32_t i = 0; i < bench->count; i++) {
        const struct bench_result *r = &bench->result[i];
        if (strcmp(family, r->family) != 0)
            fprintf(out, "\n%-*s  %-*s  %-*s  %10s  %6s  %9s  %8s  %6s\n", name + 2, r->family,
                    shape, "shape", variant, "variant", "ms", "spread", "GFLOP/s", "GB/s",
                    "% peak");
        family = r->family;
        fprintf(out, "  %-*s  %-*s  %-*s  %10.4f  %5.1f%%  %9.2f  %8.2f  %6.1f\n", name, r->name,
                shape, r->shape, variant, r->variant, r->time.ms, 100 * r->time.spread,
                bench_gflops(r), bench_gbps(r),
                bench_peak_pct(bench, bench_gflops(r), bench_gbps(r)));
        if (r->field_count) print_step(r, out);
    }
}

static void print_profile(const struct bench *bench, const struct bench_profile *profile, FILE *out)
{
    fprintf(out, "\n%-26s  %6s  %10s  %6s  %9s  %8s  %6s\n", profile->name, "count", "ms", "share",
            "GFLOP/s", "GB/s", "% peak");
    for (uint32_t i = 0; i < profile->count; i++) {
        const struct bench_profile_row *row = &profile->row[i];
        const double gflops = rate(row->flops, row->ms), gbps = rate(row->bytes, row->ms);
        fprintf(out, "  %-24s  %6u  %10.4f  %5.1f%%  %9.2f  %8.2f  %6.1f\n", row->name, row->count,
                row->ms, 100 * row->ms / profile->ms, gflops, gbps,
                bench_peak_pct(bench, gflops, gbps));
    }
    fprintf(out, "  %-24s  %6s  %10.4f\n", "all, one after the other", "", profile->ms);
}

void bench_print(const struct bench *bench, FILE *out)
{
    const struct bench_peaks *p = &bench->peaks;
    fprintf(out, "%s, %s\n", bench->gpu->caps.name, bench->gpu->caps.driver);
    fprintf(out, "peaks: copy %.2f GB/s (command %.2f, kernel %.2f), FMA f32 %.2f GFLOP/s, f16 ",
            p->copy_gbps, p->copy_command_gbps, p->copy_kernel_gbps, p->fma_f32_gflops);
    if (p->fma_f16_gflops > 0) fprintf(out, "%.2f GFLOP/s", p->fma_f16_gflops);
    else fprintf(out, "none");
    fprintf(out, ", upload %.2f GB/s, download %.2f GB/s\n", p->upload_gbps, p->download_gbps);
    print_results(bench, out);
    for (uint32_t i = 0; i < bench->profile_count; i++)
        print_profile(bench, &bench->profile[i], out);
}

// ---- JSON

// Six digits are more than any of this is worth.
static void add_number(cJSON *json, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    if (isfinite(value)) cJSON_AddRawToObject(json, name, text);
    else cJSON_AddNullToObject(json, name);
}

static void add_rates(cJSON *json, const struct bench *bench, double gflops, double gbps)
{
    add_number(json, "gflops", gflops);
    add_number(json, "gbps", gbps);
    add_number(json, "peak_pct", bench_peak_pct(bench, gflops, gbps));
}

static cJSON *result_json(const struct bench *bench, const struct bench_result *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "family", r->family);
    cJSON_AddStringToObject(json, "name", r->name);
    cJSON_AddStringToObject(json, "shape", r->shape);
    cJSON_AddStringToObject(json, "variant", r->variant);
    add_number(json, "ms", r->time.ms);
    add_number(json, "spread", r->time.spread);
    add_rates(json, bench, bench_gflops(r), bench_gbps(r));
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
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", row->name);
        add_number(one, "count", row->count);
        add_number(one, "ms", row->ms);
        add_number(one, "share", row->ms / profile->ms);
        add_rates(one, bench, rate(row->flops, row->ms), rate(row->bytes, row->ms));
        cJSON_AddItemToArray(rows, one);
    }
    return json;
}

static void add_peaks(cJSON *json, const struct bench_peaks *p)
{
    cJSON *peaks = cJSON_AddObjectToObject(json, "peaks");
    add_number(peaks, "copy_gbps", p->copy_gbps);
    add_number(peaks, "copy_command_gbps", p->copy_command_gbps);
    add_number(peaks, "copy_kernel_gbps", p->copy_kernel_gbps);
    add_number(peaks, "fma_f32_gflops", p->fma_f32_gflops);
    add_number(peaks, "fma_f16_gflops", p->fma_f16_gflops > 0 ? p->fma_f16_gflops : NAN);
    add_number(peaks, "upload_gbps", p->upload_gbps);
    add_number(peaks, "download_gbps", p->download_gbps);
}

char *bench_json(const struct bench *bench, const char *commit)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "device", bench->gpu->caps.name);
    cJSON_AddStringToObject(json, "driver", bench->gpu->caps.driver);
    cJSON_AddStringToObject(json, "commit", commit);
    add_peaks(json, &bench->peaks);
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    for (uint32_t i = 0; i < bench->count; i++)
        cJSON_AddItemToArray(results, result_json(bench, &bench->result[i]));
    cJSON *profiles = cJSON_AddArrayToObject(json, "profiles");
    for (uint32_t i = 0; i < bench->profile_count; i++)
        cJSON_AddItemToArray(profiles, profile_json(bench, &bench->profile[i]));
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    return text;
}
