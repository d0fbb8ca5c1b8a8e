// SPDX-License-Identifier: MIT
// Runs the operation checks on one device:
//     check [--device D] [--caps LIST] [--seed N] [--brief] [--list] [FILTER]
// --brief, or VKMOE_CHECK=brief: matrices, attention and decoding once in each shape (check.h).
// --list: at the end, with tabs between, a line "device, name, driver, type, subgroup size, caps"
// and for each kernel "kernel, operation, variant, cases passed, cases failed" (tools/vendors.py).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

static const struct { const char *name; void (*run)(struct check *t); int stores; } files[] = {
#define ROW(name, stores) {#name, check_##name, stores},
    CHECK_FILES(ROW)
#undef ROW
};

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

// the whole name of an operation means it alone, else a part of names means all that have it
static bool chosen(const char *name, const char *filter)
{
    for (size_t f = 0; filter && f < COUNT_OF(files); f++)
        if (!strcmp(files[f].name, filter)) return !strcmp(name, filter);
    return !filter || strstr(name, filter);
}

static void print_list(const struct check *t)
{
    const struct gpu_caps *caps = &t->gpu->caps;
    printf("device\t%s\t%s\t%s\t%u\t", caps->name, caps->driver, gpu_type_name(caps->type),
           caps->subgroup_size);
    for (unsigned bit = 0; bit < GPU_CAP_COUNT; bit++)
        if (caps->mask & 1u << bit) printf("%s ", gpu_cap_name(bit));
    putchar('\n');
    for (int op = 0; op < KERNEL_COUNT; op++)
        for (int v = 0; v < KERNEL_VARIANTS; v++) {
            const struct check_count *count = &t->count[op][v];
            if (count->passed + count->failed)
                printf("kernel\t%s\t%s\t%u\t%u\n", kernel_info((enum kernel_op)op)->name,
                       kernel_variant_name((enum kernel_variant)v), count->passed, count->failed);
        }
}

int main(int argc, char **argv)
{
    struct gpu_params params = {.device = getenv("VKMOE_DEVICE"),
                                .caps = getenv("VKMOE_CAPS"),
                                .cache_dir = ""};
    const char *const how = getenv("VKMOE_CHECK");
    struct check t = {.seed = 1, .brief = how && !strcmp(how, "brief")};
    bool list = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--device") && i + 1 < argc) params.device = argv[++i];
        else if (!strcmp(argv[i], "--caps") && i + 1 < argc) params.caps = argv[++i];
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc) t.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--list")) list = true;
        else if (!strcmp(argv[i], "--brief")) t.brief = true;
        else t.filter = argv[i];
    }
    t.gpu = gpu_create(&params);
    if (!t.gpu) return 1;
    t.kernels = kernels_create(t.gpu);
    printf("%s\nsubgroup size %u, seed %llu%s\n", t.gpu->choice, t.gpu->caps.subgroup_size,
           (unsigned long long)t.seed, t.brief ? ", brief" : "");
    int passed = 0, failed = 0;
    const enum dtype last = t.gpu->caps.mask & GPU_CAP_STORAGE16 ? DTYPE_F16 : DTYPE_F32;
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        if (!chosen(files[f].name, t.filter)) continue;
        for (t.store = DTYPE_F32; t.store <= (files[f].stores ? last : DTYPE_F32); t.store++) {
            const double begin = now();
            t.cases = t.failures = 0, t.worst = 0, t.stream = f * 1000000;
            files[f].run(&t);
            if (!t.cases) check_fail(&t, "%s: no case ran", files[f].name);
            printf("%-4s %-18s %-5s %4d cases  error/allowed %8.2g  %6.0f ms\n",
                   t.failures ? "FAIL" : "ok", files[f].name, dtype_name(t.store), t.cases, t.worst,
                   1e3 * (now() - begin));
            fflush(stdout);
            if (t.failures) failed++;
            else passed++;
        }
    }
    check_begin(&t, KERNEL_SUM, 0, "end");
    if (list) print_list(&t);
    free(t.seen);
    kernels_destroy(&t.kernels);
    gpu_destroy(&t.gpu);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
