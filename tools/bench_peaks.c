// SPDX-License-Identifier: MIT
// What the device itself can do, measured first: copies on it, copies to and from it, and
// multiply-adds in registers, by vectors and by cooperative matrices of each input type. Peaks are
// the fastest of the runs, not their median.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "bench_coop_bf16.h" // after stdint.h
#include "bench_coop_f16.h"
#include "bench_coop_i8.h"
#include "bench_fma_f16.h"
#include "runtime/os.h"
#include "src/peaks.h"
#include "tools/bench.h"

enum {
    COPY_BYTES = 64 << 20, COPY_CARD_BYTES = 256 << 20, // larger than caches
    COOP_PRODUCTS = 16,               // of shaders/bench_coop.comp
    FMA_LOOPS_FIRST = 64, FMA_LOOPS_MAX = 1 << 22, FMA_LEAST_MS = 10,
};

static double gbps(double bytes, double ms) { return 1e-6 * bytes / ms; }

static struct gpu_commands *begin(struct bench *bench, const char *name)
{
    struct gpu_commands *commands =
        gpu_commands_create(bench->gpu,
                            &(struct gpu_commands_params){.name = name, .timestamps = 2});
    if (commands) gpu_commands_timestamp(commands, 0);
    return commands;
}

static bool end_and_time(struct bench *bench, struct gpu_commands **commands, double *ms)
{
    gpu_commands_timestamp(*commands, 1);
    const bool ok = gpu_commands_end(*commands) && bench_fastest(bench, *commands, ms);
    gpu_commands_destroy(bench->gpu, commands);
    return ok;
}

// ---- copies

static uint64_t copy_bytes(const struct bench *bench)
{
    const struct gpu_caps *caps = &bench->gpu->caps;
    return min_u64(caps->type == GPU_TYPE_CPU ? COPY_BYTES : COPY_CARD_BYTES, caps->max_range);
}

static bool copy_command(struct bench *bench, const struct gpu_bind bind[2])
{
    double ms;
    struct gpu_commands *commands = begin(bench, "copy");
    if (!commands) return false;
    gpu_commands_copy(commands, &bind[0], &bind[1]);
    if (!end_and_time(bench, &commands, &ms)) return false;
    bench->peaks.copy_command_gbps = gbps(2.0 * (double)copy_bytes(bench), ms);
    return true;
}

static bool copy_kernel(struct bench *bench, const struct gpu_bind bind[2])
{
    double ms;
    const struct push_count push = {(uint32_t)(copy_bytes(bench) / 4)};
    const struct kernel *kernel = kernels_get(bench->kernels, KERNEL_CAST, DTYPE_F32,
            &(struct kernel_size){0});
    struct gpu_commands *commands = kernel ? begin(bench, "copy kernel") : NULL;
    if (!commands) return false;
    struct gpu_dispatch dispatch = {.kernel = kernel->gpu,
                                    .bind = {bind[0], bind[1]},
                                    .push = &push};
    kernel_info(KERNEL_CAST)->groups(&push, &kernel->shape, dispatch.groups);
    gpu_commands_dispatch(commands, &dispatch);
    if (!end_and_time(bench, &commands, &ms)) return false;
    bench->peaks.copy_kernel_gbps = gbps(2.0 * (double)copy_bytes(bench), ms);
    return true;
}

static bool host_copies(struct bench *bench, struct gpu_buffer *buffer)
{
    float *data = calloc(1, COPY_BYTES);
    if (!data) abort();
    bool ok = true;
    double up = INFINITY, down = INFINITY;
    for (uint32_t i = 0; i < BENCH_RUNS && ok; i++) {
        const double began = os_seconds();
        ok = gpu_buffer_write(bench->gpu, buffer, 0, data, COPY_BYTES);
        const double middle = os_seconds();
        ok = ok && gpu_buffer_read(bench->gpu, buffer, 0, data, COPY_BYTES);
        up = fmin(up, middle - began);
        down = fmin(down, os_seconds() - middle);
    }
    free(data);
    bench->peaks.upload_gbps = gbps(COPY_BYTES, 1e3 * up);
    bench->peaks.download_gbps = gbps(COPY_BYTES, 1e3 * down);
    return ok;
}

static bool copies(struct bench *bench)
{
    const uint64_t bytes = copy_bytes(bench);
    struct gpu_buffer *buffer[2];
    for (int i = 0; i < 2; i++)
        buffer[i] = gpu_buffer_create(bench->gpu, &(struct gpu_buffer_params){.name = "bench copy",
                                                                              .bytes = bytes});
    const struct gpu_bind bind[2] = {{buffer[0], 0, bytes}, {buffer[1], 0, bytes}};
    const bool ok = buffer[0] && buffer[1] && host_copies(bench, buffer[0]) &&
                    copy_command(bench, bind) && copy_kernel(bench, bind);
    for (int i = 0; i < 2; i++) gpu_buffer_destroy(bench->gpu, &buffer[i]);
    bench->peaks.copy_gbps = fmax(bench->peaks.copy_command_gbps, bench->peaks.copy_kernel_gbps);
    return ok;
}

// ---- multiply-adds

// A kernel that repeats multiply-adds: what one loop of a workgroup does.
struct fma {
    struct gpu_kernel *kernel;
    struct gpu_buffer *buffer;
    uint32_t groups;
    double   flops; // of one loop of one workgroup
};

static bool fma_once(struct bench *bench, const struct fma *fma, uint32_t loops, double *ms)
{
    const struct peaks_fma_push push = {loops, 0.5f, 0.5f};
    struct gpu_commands *commands = begin(bench, "fma");
    if (!commands) return false;
    gpu_commands_dispatch(commands, &(struct gpu_dispatch){
        .kernel = fma->kernel, .bind = {{fma->buffer, 0, fma->buffer->params.bytes}}, .push = &push,
        .groups = {fma->groups, 1, 1}});
    return end_and_time(bench, &commands, ms);
}

// More loops until a dispatch is long enough for launches not to count.
static bool fma_rate(struct bench *bench, const struct fma *fma, double *gflops)
{
    double ms = 0, rate = 0;
    for (uint32_t loops = FMA_LOOPS_FIRST; ms < FMA_LEAST_MS && loops <= FMA_LOOPS_MAX;
         loops *= 4) {
        if (!fma_once(bench, fma, loops, &ms)) return false;
        rate = 1e-6 * fma->flops * loops * fma->groups / ms;
    }
    *gflops = fmax(*gflops, rate);
    return true;
}

static bool fma_peak(struct bench *bench, const struct gpu_kernel_params *params, double flops,
                     uint64_t group_bytes, double *gflops)
{
    struct fma fma = {.groups = peaks_fma_groups(&bench->gpu->caps), .flops = flops};
    fma.kernel = gpu_kernel_create(bench->gpu, params);
    fma.buffer = gpu_buffer_create(
        bench->gpu,
        &(struct gpu_buffer_params){.name = "bench fma", .bytes = fma.groups * group_bytes});
    const bool ok = fma.kernel && fma.buffer && fma_rate(bench, &fma, gflops);
    gpu_kernel_destroy(bench->gpu, &fma.kernel);
    gpu_buffer_destroy(bench->gpu, &fma.buffer);
    return ok;
}

static bool vector_peak(struct bench *bench, const struct gpu_kernel_params *params,
                        double *gflops)
{
    const uint32_t lanes = params->spec[0];
    return fma_peak(bench, params, (double)PEAKS_FMA_FLOPS * lanes, 4ull * lanes, gflops);
}

// ---- cooperative matrices

static const struct {
    const char     *name;
    enum gpu_scalar in, out;
    const uint32_t *spirv;
    size_t          bytes;
} coops[BENCH_COOPS] = {
    {"bench_coop_f16", GPU_SCALAR_F16, GPU_SCALAR_F32, spirv_bench_coop_f16,
     sizeof spirv_bench_coop_f16},
    {"bench_coop_bf16", GPU_SCALAR_BF16, GPU_SCALAR_F32, spirv_bench_coop_bf16,
     sizeof spirv_bench_coop_bf16},
    {"bench_coop_i8", GPU_SCALAR_S8, GPU_SCALAR_S32, spirv_bench_coop_i8,
     sizeof spirv_bench_coop_i8},
};

// Of all sizes that the device lists for the type the fastest.
static bool coop_peak(struct bench *bench, enum bench_coop type)
{
    const struct gpu_caps *caps = &bench->gpu->caps;
    for (uint32_t i = 0; i < caps->matrix_count; i++) {
        const struct gpu_matrix *m = &caps->matrix[i];
        if (m->in != coops[type].in || m->out != coops[type].out ||
            m->scope != GPU_SCOPE_SUBGROUP)
            continue;
        const struct gpu_kernel_params params = {
            .name = coops[type].name,
            .spirv = coops[type].spirv,
            .spirv_bytes = coops[type].bytes,
            .spec = {caps->subgroup_size, 0, 0, 0, 0, 0, 0, m->m, m->n, m->k},
            .spec_count = 10,
            .binding_count = 1,
            .push_bytes = sizeof(struct peaks_fma_push),
            .subgroup_size = caps->mask & GPU_CAP_SIZE ? caps->subgroup_size : 0,
            .ref = peaks_fma_ref,
        };
        if (!fma_peak(bench, &params, 2.0 * m->m * m->n * m->k * COOP_PRODUCTS,
                      4ull * m->m * m->n, &bench->peaks.coop_gflops[type]))
            return false;
    }
    return true;
}

static bool measure(struct bench *bench)
{
    struct gpu_kernel_params fma = peaks_fma_kernel(&bench->gpu->caps);
    if (!copies(bench) || !vector_peak(bench, &fma, &bench->peaks.fma_f32_gflops)) return false;
    fma.name = "bench_fma_f16";
    fma.spirv = spirv_bench_fma_f16;
    fma.spirv_bytes = sizeof spirv_bench_fma_f16;
    if (bench->gpu->caps.mask & GPU_CAP_F16 &&
        !vector_peak(bench, &fma, &bench->peaks.fma_f16_gflops))
        return false;
    for (enum bench_coop type = 0; type < BENCH_COOPS; type++)
        if (!coop_peak(bench, type)) return false;
    return true;
}

// Measured again, each is the larger: another process may have slowed one of the two.
bool bench_measure_peaks(struct bench *bench)
{
    const struct bench_peaks before = bench->peaks;
    bench_show(bench, "peaks", "peaks of the device");
    bench->peaks = (struct bench_peaks){0};
    const bool ok = measure(bench);
    for (size_t i = 0; i < sizeof before / sizeof(double); i++)
        ((double *)&bench->peaks)[i] =
            fmax(((double *)&bench->peaks)[i], ((const double *)&before)[i]);
    return ok;
}
