// SPDX-License-Identifier: MIT
// Peaks of a device: see peaks.h.
#include "src/peaks.h"

#include <math.h>

#include "bench_fma_f32.h" // after stdint.h
#include "src/base.h"

enum {
    RUNS = 3, COPY_BYTES = 64 << 20, // larger than caches
    LOOPS_FIRST = 64, LOOPS_MOST = 1 << 22, LEAST_MS = 5,
    GROUPS_CPU = 64, GROUPS = 8192, LANES = 64,
};

void peaks_fma_ref(const struct gpu_ref_call *call)
{
    const struct peaks_fma_push *push = call->push;
    float *out = call->buffer[0];
    for (uint64_t lane = 0; lane < call->bytes[0] / 4; lane++) {
        float x[PEAKS_FMA_CHAINS] = {0}, sum = 0;
        for (uint32_t i = 0; i < push->loops * PEAKS_FMA_UNROLL; i++)
            for (int c = 0; c < PEAKS_FMA_CHAINS; c++) x[c] = x[c] * push->factor + push->addend;
        for (int c = 0; c < PEAKS_FMA_CHAINS; c++) sum += x[c];
        out[lane] = sum;
    }
}

struct gpu_kernel_params peaks_fma_kernel(const struct gpu_caps *caps)
{
    const bool cpu = caps->type == GPU_TYPE_CPU;
    return (struct gpu_kernel_params){
        .name = "bench_fma_f32",
        .spirv = spirv_bench_fma_f32,
        .spirv_bytes = sizeof spirv_bench_fma_f32,
        .spec = {cpu ? caps->subgroup_size : max_u32(caps->subgroup_size, LANES)},
        .spec_count = 1,
        .binding_count = 1,
        .push_bytes = sizeof(struct peaks_fma_push),
        .ref = peaks_fma_ref,
    };
}

uint32_t peaks_fma_groups(const struct gpu_caps *caps)
{
    return caps->type == GPU_TYPE_CPU ? GROUPS_CPU : GROUPS;
}

// Milliseconds of the fastest of some runs; 0 where it fails. Ends and frees the commands.
static double fastest_ms(struct gpu *gpu, struct gpu_commands *commands)
{
    double best = INFINITY, at[2];
    gpu_commands_timestamp(commands, 1);
    bool ok = gpu_commands_end(commands);
    for (int i = 0; ok && i <= RUNS; i++) {
        const uint64_t ticket = gpu_submit(gpu, &commands, 1);
        ok = ticket && gpu_wait(gpu, ticket) && gpu_commands_times(gpu, commands, at);
        if (ok && i > 0) best = fmin(best, at[1] - at[0]); // the first touches memory
    }
    gpu_commands_destroy(gpu, &commands);
    return ok ? best : 0;
}

static struct gpu_commands *begin(struct gpu *gpu, const char *name)
{
    struct gpu_commands *commands = gpu_commands_create(
        gpu, &(struct gpu_commands_params){.name = name, .timestamps = 2});
    if (commands) gpu_commands_timestamp(commands, 0);
    return commands;
}

static double copy_gbps(struct gpu *gpu)
{
    const uint64_t bytes = min_u64(COPY_BYTES, gpu->caps.max_range);
    const struct gpu_buffer_params params = {.name = "peaks", .bytes = bytes};
    struct gpu_buffer *buffer[2] = {gpu_buffer_create(gpu, &params),
                                    gpu_buffer_create(gpu, &params)};
    struct gpu_commands *commands = buffer[0] && buffer[1] ? begin(gpu, "copy") : NULL;
    double ms = 0;
    if (commands) {
        gpu_commands_copy(commands, &(struct gpu_bind){buffer[0], 0, bytes},
                          &(struct gpu_bind){buffer[1], 0, bytes});
        ms = fastest_ms(gpu, commands);
    }
    for (int i = 0; i < 2; i++) gpu_buffer_destroy(gpu, &buffer[i]);
    return ms > 0 ? 2e-6 * (double)bytes / ms : 0;
}

static double fma_gflops(struct gpu *gpu)
{
    const struct gpu_kernel_params fma = peaks_fma_kernel(&gpu->caps);
    const uint32_t lanes = fma.spec[0], groups = peaks_fma_groups(&gpu->caps);
    struct gpu_kernel *kernel = gpu_kernel_create(gpu, &fma);
    struct gpu_buffer *buffer = gpu_buffer_create(
        gpu, &(struct gpu_buffer_params){.name = "peaks", .bytes = 4ull * lanes * groups});
    double ms = 0, rate = 0;
    for (uint32_t loops = LOOPS_FIRST; kernel && buffer && ms < LEAST_MS && loops <= LOOPS_MOST;
         loops *= 4) {
        const struct peaks_fma_push push = {loops, 0.5f, 0.5f};
        struct gpu_commands *commands = begin(gpu, "fma");
        if (!commands) break;
        gpu_commands_dispatch(commands, &(struct gpu_dispatch){
            .kernel = kernel, .bind = {{buffer, 0, buffer->params.bytes}}, .push = &push,
            .groups = {groups, 1, 1}});
        if (!((ms = fastest_ms(gpu, commands)) > 0)) break;
        rate = 1e-6 * PEAKS_FMA_FLOPS * (double)loops * lanes * groups / ms;
    }
    gpu_kernel_destroy(gpu, &kernel);
    gpu_buffer_destroy(gpu, &buffer);
    return rate;
}

void peaks_measure(const struct gpu_params *device, struct peaks *out)
{
    *out = (struct peaks){0};
    struct gpu *gpu = gpu_create(device);
    if (!gpu) return;
    if (gpu->caps.mask & GPU_CAP_TIMESTAMP) {
        out->copy_gbps = copy_gbps(gpu);
        out->fma_gflops = fma_gflops(gpu);
    }
    gpu_destroy(&gpu);
}
