// SPDX-License-Identifier: MIT
// Timestamps of commands: one query a slot, reset at the start of each run.
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

// Called at the start of recording.
bool vk_timer_create(struct vk_commands *commands)
{
    struct vk_gpu *vk = vk_gpu(commands->base.gpu);
    const uint32_t count = commands->base.commands.params.timestamps;
    if (!count || !(vk->base.gpu.caps.mask & GPU_CAP_TIMESTAMP))
        return true;
    const VkResult result = vk->fn.vkCreateQueryPool(vk->device, &(VkQueryPoolCreateInfo){
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = count,
    }, NULL, &commands->queries);
    if (!VK_MADE(vk, commands->queries, result, "making timestamps"))
        return false;
    commands->results = os_alloc(2 * count * sizeof *commands->results);
    vk->fn.vkCmdResetQueryPool(commands->handle, commands->queries, 0, count);
    return true;
}

bool vk_commands_timestamp(struct gpu_commands *commands, uint32_t slot)
{
    const struct vk_commands *own = (struct vk_commands *)commands;
    vk_gpu(own->base.gpu)
        ->fn.vkCmdWriteTimestamp(own->handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, own->queries,
                                 slot);
    return true;
}

// A slot that was not written gives 0.
bool vk_commands_times(struct gpu *gpu, struct gpu_commands *commands, double *ms)
{
    struct vk_gpu            *vk = vk_gpu(gpu);
    const struct vk_commands *own = (struct vk_commands *)commands;
    const uint32_t            count = commands->params.timestamps;
    const uint64_t           *results = own->results; // value, availability
    if (!vk_wait(gpu, own->base.ticket))
        return false;
    const VkResult result = vk->fn.vkGetQueryPoolResults(
        vk->device, own->queries, 0, count, 2 * count * sizeof *results, own->results,
        2 * sizeof *results,
        VK_QUERY_RESULT_64_BIT |
            VK_QUERY_RESULT_WITH_AVAILABILITY_BIT); // VK_NOT_READY: some were not written
    if (!vk_ok(vk, result, "reading timestamps"))
        return false;
    const uint32_t bits = vk->physical.timestamp_bits;
    const uint64_t valid = bits < 64 ? (1ull << bits) - 1 : UINT64_MAX;
    for (uint32_t i = 0; i < count; i++)
        ms[i] =
            results[2 * i + 1] && results[1]
                ? 1e-6 * gpu->caps.timestamp_ns * (double)((results[2 * i] - results[0]) & valid)
                : 0;
    return true;
}
