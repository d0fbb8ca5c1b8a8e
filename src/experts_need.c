// SPDX-License-Identifier: MIT
#include "src/experts_need.h"

#include "runtime/log.h"

uint64_t experts_found_budget(const struct gpu *gpu)
{
    const uint64_t left = gpu_memory_budget(gpu);
    return gpu->caps.unified ? left / 3 * 2 : left - left / 16;
}

// The largest stack of matrices that is one tensor, in f32.
static uint64_t largest_stack(const struct model *streamed)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < streamed->tensor_count; i++)
        if (streamed->tensor[i].streamed) most = max_u64(most, 4 * streamed->tensor[i].space);
    return most;
}

// Room for what is computed on the way is a guess; the weights are not.
static bool fits(const struct gpu *gpu, const struct model *resident, bool train, double *wanted)
{
    const struct model_memory memory = model_memory(resident);
    const uint64_t bytes = train ? memory.train : memory.weights, budget = gpu_memory_budget(gpu);
    *wanted = (double)bytes;
    return bytes <= budget - budget / 4;
}

struct model *experts_need_model(const struct gpu *gpu, const struct config *config, bool train,
                                 bool asked)
{
    const uint64_t most = gpu->caps.max_allocation;
    if (!asked && config_moe_layers(config) == 0) return model_create(config, most);
    struct model *streamed = model_create_streamed(config, most);
    if (!streamed || asked) return streamed;
    const uint64_t stack = largest_stack(streamed);
    if (stack > most) {
        log_info("a layer's experts are one matrix of %.2f GiB, the device gives %.2f GiB at once: "
                 "they come and go (--device-budget says how much of it they may take)",
                 (double)stack / (1 << 30), (double)most / (1 << 30));
        return streamed;
    }
    struct model *resident = model_create(config, most);
    double wanted = 0;
    if (!resident || fits(gpu, resident, train, &wanted)) {
        model_destroy(&streamed);
        return resident;
    }
    log_info("the %s %.2f GiB, the device has %.2f GiB: its experts come and go (--device-budget "
             "says how much of it they may take)", train ? "training keeps" : "weights take",
             wanted / (1 << 30), (double)gpu_memory_budget(gpu) / (1 << 30));
    model_destroy(&resident);
    return streamed;
}
