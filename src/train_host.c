// SPDX-License-Identifier: MIT
// Host memory of a training run: see train_host.h. Where the device's memory is the host's (CPU
// drivers, integrated devices), what of it is resident is subtracted from what the process has:
// each of the two memories has a budget of its own.
#include "src/train_host.h"

#include <stdio.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/experts.h"
#include "src/weights.h"

// Buffers of files, lines and traces, and what the C library keeps of freed memory; kernels that a
// CPU driver compiles when they first run.
enum { OTHERS = 24 << 20 };

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static uint64_t without(uint64_t all, uint64_t part) { return all > part ? all - part : 0; }

uint64_t train_host_peak(const struct gpu *gpu)
{
    return without(os_resident_peak(), gpu_memory_resident(gpu));
}

// The chunk that tensors are saved by, and as much of one as there is in the storage type.
static uint64_t saving_bytes(const struct model *model)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        if (!model->tensor[i].streamed) most = max_u64(most, model->tensor[i].count);
    return WEIGHTS_CHUNK * sizeof(float) +
           min_u64(most, WEIGHTS_CHUNK) * dtype_bytes(model->config.torch_dtype);
}

static void add(uint64_t *sum, const char *what, uint64_t bytes)
{
    log_debug("host memory: %8.1f MiB %s", mib(bytes), what);
    *sum += bytes;
}

uint64_t train_host_need(const struct train_host *h)
{
    uint64_t sum = 0;
    const struct experts *x = h->params->experts;
    // what it took for a moment at the opening is there again for what comes
    const uint64_t now = without(os_resident_bytes(), gpu_memory_resident(h->gpu)),
                   peak = train_host_peak(h->gpu);
    add(&sum, "of the program, the driver and the text, now", now);
    add(&sum, "of buffers that the device reads and writes", gpu_memory_account(h->gpu, true).held);
    add(&sum, "of files of tokens, mapped", data_mapped_bytes(h->data));
    if (x) add(&sum, "of records under way", experts_ring_bytes(x));
    if (x) add(&sum, "of gradients that wait, at most", experts_spill_bytes(x));
    if (h->store) add(&sum, "of the store's index", store_memory_bytes(h->store));
    add(&sum, "of a checkpoint", saving_bytes(h->params->model));
    add(&sum, "of others", OTHERS);
    log_debug("host memory: %8.1f MiB in all, %.1f MiB at most up to now", mib(sum), mib(peak));
    return max_u64(sum, peak);
}

bool train_host_fits(const struct train_host *h)
{
    const uint64_t need = train_host_need(h), limit = os_memory_limit(),
                   device = h->gpu->caps.unified ? gpu_memory_account(h->gpu, false).held : 0,
                   budget = h->budget ? h->budget : without(limit, device);
    const struct experts *x = h->params->experts;
    char waiting[160] = "";
    if (need <= budget || !budget) return true;
    if (x && experts_spill_bytes(x))
        snprintf(waiting, sizeof waiting, ", %.1f MiB of it for gradients that wait for the "
                 "optimizer (fewer with a larger --device-budget or fewer tokens a step)",
                 mib(experts_spill_bytes(x)));
    if (h->given)
        log_error("a host budget of %.1f MiB: at least %.1f MiB are needed%s; raise --host-budget",
                  mib(budget), mib(need) + 0.05, waiting); // rounded up
    else
        log_warn("this process may use %.1f MiB of host memory, a step may take %.1f MiB%s",
                 mib(budget), mib(need), waiting);
    return !h->given;
}
