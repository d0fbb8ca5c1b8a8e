// SPDX-License-Identifier: MIT
// Measures the candidates of the matmul family and keeps the fastest (tune.h). Dense products are
// chosen one by one; the grouped ones of a layer share a tile table, so the tile is the one with
// the least sum over the forward and backward of a layer.
#include "src/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/base.h"
#include "src/kernel_case.h"
#include "src/kernel_shape.h"
#include "src/progress.h"

enum { REPEATS = 4, MAX_CHOICES = 512 };
#define BUDGET_SECONDS 20.0
#define SLOW           3.0  // a first run so many times slower than the best is not repeated
#define WORTH          0.95 // the default stays unless another takes less than this of its time

struct tuner {
    struct kernels           *kernels;
    const struct tune_params *params;
    struct tune_report       *report;
    struct gpu               *gpu;
    double                    began;
    uint32_t                  done, total;
    bool                      counting; // a first pass over all only counts them
    struct kernel_choice      choice[MAX_CHOICES];
    uint32_t                  choice_count;
};

// ---- one measurement

// Milliseconds of one run of recorded commands; INFINITY where the device failed.
static double run_once(struct gpu *gpu, struct gpu_commands *commands)
{
    double ms[2];
    const double began = os_seconds();
    const uint64_t ticket = gpu_submit(gpu, &commands, 1);
    if (!ticket || !gpu_wait(gpu, ticket)) return INFINITY;
    const double wall = 1e3 * (os_seconds() - began);
    return gpu_commands_times(gpu, commands, ms) ? ms[1] : wall;
}

// The first run compiles and warms caches; of a slow candidate the second is enough. The least of
// some runs, not their median: neighbours only ever make a run longer.
static double time_dispatch(struct gpu *gpu, const struct gpu_dispatch *dispatch, double best)
{
    double least = INFINITY;
    struct gpu_commands *commands =
        gpu_commands_create(gpu, &(struct gpu_commands_params){"tune", 2});
    if (!commands) return INFINITY;
    gpu_commands_timestamp(commands, 0);
    gpu_commands_dispatch(commands, dispatch);
    gpu_commands_timestamp(commands, 1);
    if (gpu_commands_end(commands)) {
        if (isfinite(run_once(gpu, commands))) least = run_once(gpu, commands);
        for (uint32_t i = 1; i < REPEATS && least < SLOW * best; i++)
            least = fmin(least, run_once(gpu, commands));
    }
    gpu_commands_destroy(gpu, &commands);
    return least;
}

static double time_kernel(struct tuner *t, const struct kernel *kernel,
                          const struct kernel_size *size, double best)
{
    struct arena *arena = arena_create("tune");
    struct kernel_case c = {.kernel = kernel, .arena = arena, .size = *size};
    uint64_t offset[GPU_MAX_BINDINGS];
    double ms = INFINITY;
    kernel_case_fill(&c);
    const uint64_t bytes = kernel_case_layout(&c, t->gpu->caps.offset_alignment, offset);
    struct gpu_buffer *buffer = gpu_buffer_create(
        t->gpu, &(struct gpu_buffer_params){"tune", bytes, GPU_MEMORY_DEVICE});
    bool ok = buffer != NULL;
    for (uint32_t b = 0; ok && b < strlen(kernel_info(kernel->op)->access); b++)
        ok = gpu_buffer_write(t->gpu, buffer, offset[b], c.binding[b].data, c.binding[b].bytes);
    if (ok) {
        const struct gpu_dispatch dispatch = kernel_case_dispatch(&c, buffer, offset);
        ms = time_dispatch(t->gpu, &dispatch, best);
    }
    gpu_buffer_destroy(t->gpu, &buffer);
    arena_destroy(&arena);
    return ms;
}

// INFINITY: wrong, out of time, or only counted.
static double measure(struct tuner *t, enum kernel_op op, const struct kernel_shape *shape,
                      const struct kernel_size *size, double best)
{
    const struct tune_params *p = t->params;
    if (t->counting) return t->total++, INFINITY;
    const double seconds = p->seconds > 0 ? p->seconds : BUDGET_SECONDS;
    if (os_seconds() - t->began > seconds) return t->report->late++, INFINITY;
    if (p->progress) p->progress(p->user, kernel_info(op)->name, t->done, t->total);
    t->done++;
    if (!kernels_right(t->kernels, op, p->store, shape)) return t->report->wrong++, INFINITY;
    t->report->measured++;
    return time_kernel(t, kernels_make(t->kernels, op, p->store, shape), size, best);
}

// ---- the choice

struct timed {
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    double              ms[KERNEL_MAX_CANDIDATES];
    uint32_t            count;
};

static void choose(struct tuner *t, enum kernel_op op, const struct kernel_size *size,
                   const struct timed *all, int best)
{
    const enum dtype store = t->params->store;
    if (t->choice_count < MAX_CHOICES && kernel_exists(op, store, all->shape[best].variant))
        t->choice[t->choice_count++] = (struct kernel_choice){
            op, store, *size, all->shape[best], all->ms[best], all->ms[0]};
}

static struct timed time_all(struct tuner *t, enum kernel_op op, const struct kernel_size *size)
{
    struct timed all;
    double best = INFINITY;
    all.count = kernel_candidates(&t->gpu->caps, op, t->params->store, size, all.shape);
    for (uint32_t i = 0; i < all.count; i++) {
        all.ms[i] = measure(t, op, &all.shape[i], size, best);
        best = fmin(best, all.ms[i]);
    }
    return all;
}

// The fastest of those with so many rows (0: any); -1 where none was timed.
static int fastest(const struct timed *all, uint32_t rows)
{
    int best = -1;
    for (uint32_t i = 0; i < all->count; i++) {
        if ((rows && all->shape[i].rows != rows) || !isfinite(all->ms[i])) continue;
        if (best < 0 || all->ms[i] < all->ms[best] * (best == 0 ? WORTH : 1)) best = (int)i;
    }
    return best;
}

// `twin` has the same shapes and differs in the type of its output.
static void tune_dense(struct tuner *t, enum kernel_op op, enum kernel_op twin,
                       const struct kernel_size *size)
{
    const struct timed all = time_all(t, op, size);
    const int best = fastest(&all, 0);
    if (best < 0) return;
    choose(t, op, size, &all, best);
    if (twin != op) choose(t, twin, size, &all, best);
}

// Milliseconds of a layer with this tile; INFINITY where a product was not timed with it.
static double layer_ms(const struct timed all[3], uint32_t rows)
{
    double sum = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const int best = fastest(&all[i], rows);
        sum += best < 0 ? INFINITY : all[i].ms[best];
    }
    return sum;
}

static void tune_grouped(struct tuner *t, const struct kernel_size *size)
{
    static const enum kernel_op ops[] = {KERNEL_MOE_MATMUL_UP, KERNEL_MOE_MATMUL_NT,
                                         KERNEL_MOE_MATMUL_NN};
    struct timed all[3];
    for (uint32_t i = 0; i < 3; i++) all[i] = time_all(t, ops[i], size);
    uint32_t rows = 0;
    double least = INFINITY;
    for (uint32_t i = 0; i < all[0].count; i++) {
        const double ms = layer_ms(all, all[0].shape[i].rows);
        if (ms < least * (i ? WORTH : 1)) least = ms, rows = all[0].shape[i].rows;
    }
    for (uint32_t i = 0; i < 3 && rows; i++)
        choose(t, ops[i], size, &all[i], fastest(&all[i], rows));
}

// The sizes: few rows to many, at widths that take a CPU driver milliseconds and keep a card busy.
static void tune_all(struct tuner *t)
{
    static const uint32_t dense_rows[] = {512, 64, 8}, grouped_rows[] = {64, 8, 1, 512};
    const bool cpu = t->gpu->caps.type == GPU_TYPE_CPU;
    const uint32_t width = cpu ? 512 : 2048, expert = cpu ? 256 : 1024;
    for (size_t i = 0; i < COUNT_OF(dense_rows); i++) {
        const struct kernel_size size = {dense_rows[i] * (cpu ? 1 : 4), width, width};
        tune_dense(t, KERNEL_MATMUL_NT, KERNEL_MATMUL_NTF, &size);
        tune_dense(t, KERNEL_MATMUL_NN, KERNEL_MATMUL_NNF, &size);
        if (i < 2) tune_dense(t, KERNEL_MATMUL_TN, KERNEL_MATMUL_TN, &size);
    }
    for (size_t i = 0; i < COUNT_OF(grouped_rows); i++)
        tune_grouped(t, &(struct kernel_size){grouped_rows[i], expert, expert});
    tune_dense(t, KERNEL_MOE_MATMUL_TN, KERNEL_MOE_MATMUL_TN,
               &(struct kernel_size){expert, expert, 64}); // 64 rows an expert
}

// ---- kept

static bool path_make(const struct tune_params *params, const struct gpu_caps *caps, char *path,
                      size_t size)
{
    char folder[3800], uuid[33];
    path[0] = 0;
    if (params->cache_dir) snprintf(folder, sizeof folder, "%s", params->cache_dir);
    else if (!os_cache_folder(folder, sizeof folder)) return false;
    if (!folder[0]) return false;
    for (size_t i = 0; i < 16; i++) snprintf(uuid + 2 * i, 3, "%02x", caps->uuid[i]);
    snprintf(path, size, "%s/tune-%s-%08x-%x-%u.json", folder, uuid, caps->driver_version,
             caps->mask, caps->subgroup_size);
    return true;
}

static bool has_store(const struct kernels *kernels, enum dtype store)
{
    uint32_t count;
    const struct kernel_choice *choice = kernels_choices(kernels, &count);
    for (uint32_t i = 0; i < count; i++)
        if (choice[i].store == store) return true;
    return false;
}

static void read_kept(struct kernels *kernels, const char *path)
{
    void *text;
    uint64_t bytes;
    if (!path[0] || !file_exists(path) || !file_read(path, 1 << 20, &text, &bytes)) return;
    if (!tune_take(kernels, text, bytes))
        log_info("%s: of other kernels or damaged: measured anew", path);
    free(text);
}

static void write_kept(const struct kernels *kernels, const char *path)
{
    char folder[4096], *text = tune_print(kernels);
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    struct file_writer *writer = file_make_folders(folder) ? file_writer_open(path) : NULL;
    if (writer) {
        file_writer_write(writer, text, strlen(text));
        file_writer_commit(&writer);
    }
    free(text);
}

// New choices of one storage type beside those of the others.
static void put_choices(struct tuner *t)
{
    uint32_t count;
    const struct kernel_choice *old = kernels_choices(t->kernels, &count);
    for (uint32_t i = 0; i < count && t->choice_count < MAX_CHOICES; i++)
        if (old[i].store != t->params->store) t->choice[t->choice_count++] = old[i];
    kernels_choose(t->kernels, t->choice, t->choice_count);
}

static struct tuner *tuner_create(struct kernels *kernels, const struct tune_params *params,
                                  struct tune_report *report)
{
    struct tuner *t = os_alloc(sizeof *t);
    *t = (struct tuner){.kernels = kernels, .params = params, .report = report,
                        .gpu = kernels_gpu(kernels), .began = os_seconds(), .counting = true};
    tune_all(t);
    t->counting = false;
    return t;
}

uint32_t tune_count(struct kernels *kernels, enum dtype store)
{
    const struct tune_params params = {.store = store};
    struct tuner *t = tuner_create(kernels, &params, NULL);
    const uint32_t total = t->total;
    free(t);
    return total;
}

bool tune_is_kept(struct kernels *kernels, const struct tune_params *params)
{
    char path[4096];
    if (!has_store(kernels, params->store) &&
        path_make(params, &kernels_gpu(kernels)->caps, path, sizeof path))
        read_kept(kernels, path);
    return has_store(kernels, params->store);
}

bool tune(struct kernels *kernels, const struct tune_params *params, struct tune_report *report)
{
    const struct gpu *gpu = kernels_gpu(kernels);
    *report = (struct tune_report){0};
    const bool keep = path_make(params, &gpu->caps, report->path, sizeof report->path);
    if (tune_is_kept(kernels, params) && !params->again) return report->kept = true;
    struct tuner *t = tuner_create(kernels, params, report);
    tune_all(t);
    report->seconds = os_seconds() - t->began;
    const bool ok = !gpu_lost(gpu);
    if (ok) put_choices(t);
    if (ok && keep) write_kept(kernels, report->path);
    free(t);
    return ok;
}

// ---- at the start of a run

static void show(void *user, const char *kernel, uint32_t done, uint32_t total)
{
    (void)kernel, (void)total;
    progress_update(user, &(struct progress_state){.step = done, .loss = NAN,
                                                   .bits_per_byte = NAN});
}

bool tune_at_start(struct kernels *kernels, enum dtype store, bool quiet)
{
    struct tune_params params = {.store = store};
    struct tune_report report;
    if (gpu_is_reference(kernels_gpu(kernels))) return true;
    if (tune_is_kept(kernels, &params)) return tune(kernels, &params, &report);
    log_info("first use of this device with %s: measuring its kernels (at most %.0f s)",
             dtype_name(store), BUDGET_SECONDS);
    struct progress *progress = NULL;
    if (!quiet) {
        progress = progress_create(&(struct progress_params){
            .verb = "tune", .out = stderr, .total = tune_count(kernels, store)});
        params.progress = show;
        params.user = progress;
    }
    const bool ok = tune(kernels, &params, &report);
    progress_destroy(&progress);
    if (ok)
        log_info("%u kernels measured in %.1f s%s%s", report.measured, report.seconds,
                 report.path[0] ? ", kept in " : "", report.path);
    return ok;
}
