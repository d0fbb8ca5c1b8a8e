// SPDX-License-Identifier: MIT
// The benchmark's table for people. Rates and the peak that each is measured by.
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

static double arithmetic_peak(const struct bench_peaks *peaks, const char *variant)
{
    if (!variant || !strstr(variant, " coop")) return peaks->fma_f32_gflops;
    // the variant "coop" takes bf16 through f16 tiles
    const bool bf16 = strstr(variant, " coop_bf16") || strstr(variant, "bf16 coop2");
    return peaks->coop_gflops[bf16 ? BENCH_COOP_BF16 : BENCH_COOP_F16];
}

double bench_peak_pct(const struct bench *bench, const char *variant, double gflops, double gbps)
{
    const double flops = arithmetic_peak(&bench->peaks, variant), copy = bench->peaks.copy_gbps;
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
static const char *model_of(const struct bench_result *result) { return result->model; }

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
    if (!isnan(field_of(r, "dispatch_share")))
        fprintf(out, ", %.1f %% without the gaps between", 100 * field_of(r, "dispatch_share"));
    if (!isnan(field_of(r, "routing_share")))
        fprintf(out, ", %.1f %% for router, sort and combine",
                100 * field_of(r, "routing_share"));
    if (!isnan(field_of(r, "metrics_share")))
        fprintf(out, ", %.2f %% for the metrics", 100 * field_of(r, "metrics_share"));
    fprintf(out, ", %.0f dispatches in %.0f submits\n", field_of(r, "dispatches"),
            field_of(r, "submits"));
    if (isnan(field_of(r, "steps"))) return;
    fprintf(out,
            "    over %.0f steps %+.0f bytes on the device (%.1f MiB), %+.0f on the heap, driver "
            "included\n",
            field_of(r, "steps"), field_of(r, "device_growth_bytes"),
            field_of(r, "device_bytes") / 1048576, field_of(r, "host_growth_bytes"));
}

static void print_touched(const struct bench_result *r, FILE *out)
{
    fprintf(out,
            "    %.0f experts touched; of the first: time %.3f, processor time %.3f, memory %.3f\n",
            field_of(r, "touched"), field_of(r, "time_of_first"), field_of(r, "cpu_of_first"),
            field_of(r, "memory_of_first"));
}

struct widths { int name, shape, model, variant; };

static void print_head(const struct widths *w, const struct bench_result *r, FILE *out)
{
    fprintf(out, "\n%-*s  %-*s  %-*s  %-*s  %10s  %6s  %9s  %8s  %6s%s\n", w->name + 2, r->family,
            w->shape, "shape", w->model, "model", w->variant, "variant", "ms", "spread", "GFLOP/s",
            "GB/s", "% peak", isnan(field_of(r, "dense_pct")) ? "" : "  % dense");
}

static void print_results(const struct bench *bench, FILE *out)
{
    const struct widths w = {longest(bench, "attention", name_of),
                             longest(bench, "shape", shape_of), longest(bench, "model", model_of),
                             longest(bench, "variant", variant_of)};
    const char *family = "";
    for (uint32_t i = 0; i < bench->count; i++) {
        const struct bench_result *r = &bench->result[i];
        const double gflops = bench_gflops(r), gbps = bench_gbps(r);
        if (strcmp(family, r->family) != 0) print_head(&w, r, out);
        family = r->family;
        fprintf(out, "  %-*s  %-*s  %-*s  %-*s  %10.4f  %5.1f%%  %9.2f  %8.2f  %6.1f", w.name,
                r->name, w.shape, r->shape, w.model, r->model, w.variant, r->variant, r->time.ms,
                100 * r->time.spread, gflops, gbps,
                bench_peak_pct(bench, r->variant, gflops, gbps));
        if (!isnan(field_of(r, "dense_pct"))) fprintf(out, "  %7.1f", field_of(r, "dense_pct"));
        if (!isnan(field_of(r, "of_flat")))
            fprintf(out, "  %.2f times the flat one", field_of(r, "of_flat"));
        putc('\n', out);
        if (!isnan(field_of(r, "tokens_per_s"))) print_step(r, out);
        if (!isnan(field_of(r, "touched"))) print_touched(r, out);
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
                bench_peak_pct(bench, NULL, gflops, gbps));
    }
    fprintf(out, "  %-24s  %6s  %10.4f\n", "all, one after the other", "", profile->ms);
}

static void print_peaks(const struct bench *bench, FILE *out)
{
    static const char *const coop[BENCH_COOPS] = {"f16", "bf16", "int8"};
    const struct bench_peaks *p = &bench->peaks;
    fprintf(out, "peaks: copy %.2f GB/s (command %.2f, kernel %.2f), FMA f32 %.2f GFLOP/s, f16 ",
            p->copy_gbps, p->copy_command_gbps, p->copy_kernel_gbps, p->fma_f32_gflops);
    if (p->fma_f16_gflops > 0) fprintf(out, "%.2f GFLOP/s", p->fma_f16_gflops);
    else fprintf(out, "none");
    fprintf(out, ", upload %.2f GB/s, download %.2f GB/s\n", p->upload_gbps, p->download_gbps);
    fprintf(out, "       cooperative matrices:");
    bool any = false;
    for (int i = 0; i < BENCH_COOPS; i++)
        if (p->coop_gflops[i] > 0) {
            fprintf(out, "%s %s %.2f GFLOP/s", any ? "," : "", coop[i], p->coop_gflops[i]);
            any = true;
        }
    fprintf(out, "%s\n", any ? "" : " none");
}

void bench_print(const struct bench *bench, FILE *out)
{
    fprintf(out, "%s, %s\n", bench->gpu->caps.name, bench->gpu->caps.driver);
    print_peaks(bench, out);
    print_results(bench, out);
    for (uint32_t i = 0; i < bench->profile_count; i++)
        print_profile(bench, &bench->profile[i], out);
    if (bench->slow + bench->large)
        fprintf(out, "\nleft out: %u too slow here by estimate, %u too large for its memory%s\n",
                bench->slow, bench->large, bench->filter ? "" : "; --filter NAME asks for more");
}
