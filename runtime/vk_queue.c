// SPDX-License-Identifier: MIT
// Recorded commands and the one queue. Every submit raises one timeline semaphore by one; its value
// is the ticket. A command buffer begins with a full barrier, so submits never overlap in what they
// see, and ends with one to the host. Destroyed objects are kept until the last submit before them
// is done.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

enum { BATCH = 32 };

bool vk_queue_create(struct vk_gpu *vk)
{
    const VkResult result = vk->fn.vkCreateCommandPool(vk->device, &(VkCommandPoolCreateInfo){
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = vk->physical.family,
    }, NULL, &vk->pool);
    return VK_MADE(vk, vk->pool, result, "making the command pool");
}

bool vk_timeline_create(struct vk_gpu *vk, VkSemaphore *out)
{
    const VkSemaphoreTypeCreateInfo timeline = {.sType =
                                                    VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                                .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                        .pNext = &timeline};
    const VkResult result = vk->fn.vkCreateSemaphore(vk->device, &info, NULL, out);
    return VK_MADE(vk, *out, result, "making the timeline of submits");
}

bool vk_timeline_value(struct vk_gpu *vk, VkSemaphore timeline, uint64_t *value)
{
    if (vk->base.lost ||
        !vk_ok(vk, vk->fn.vkGetSemaphoreCounterValue(vk->device, timeline, value),
               "asking the timeline"))
        return false;
    if (*value == UINT64_MAX) // how some drivers answer for a lost device
        return vk_ok(vk, VK_ERROR_DEVICE_LOST, "asking the timeline");
    return true;
}

bool vk_timeline_wait(struct vk_gpu *vk, VkSemaphore timeline, uint64_t value)
{
    return vk_ok(vk, vk->fn.vkWaitSemaphores(vk->device, &(VkSemaphoreWaitInfo){
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &timeline,
        .pValues = &value,
    }, UINT64_MAX), "waiting for commands");
}

// ---- objects that outlive their handle

static void retired_destroy(struct vk_gpu *vk, struct vk_retired *r)
{
    vk->fn.vkDestroyBuffer(vk->device, r->buffer, NULL);
    vk_memory_free(vk, &r->span);
    vk->fn.vkFreeMemory(vk->device, r->imported, NULL);
    vk->imported_bytes -= r->imported_bytes;
    vk->fn.vkDestroyPipeline(vk->device, r->pipeline, NULL);
    vk->fn.vkDestroyPipelineLayout(vk->device, r->layout, NULL);
    vk->fn.vkDestroyDescriptorSetLayout(vk->device, r->set, NULL);
    vk->fn.vkDestroyShaderModule(vk->device, r->module, NULL);
    vk->fn.vkDestroyQueryPool(vk->device, r->queries, NULL);
    vk->fn.vkDestroyBufferView(vk->device, r->view, NULL);
    if (r->commands)
        vk->fn.vkFreeCommandBuffers(vk->device, vk->pool, 1, &r->commands);
}

void vk_retire(struct vk_gpu *vk, const struct vk_retired *object)
{
    struct vk_retired copy = *object;
    copy.ticket = vk->base.submitted;
    if (copy.ticket <= vk->finished) {
        retired_destroy(vk, &copy);
        return;
    }
    if (vk->retired_count == vk->retired_capacity) {
        const size_t size = sizeof copy,
                     grown = vk->retired_capacity ? 2 * vk->retired_capacity : 64;
        vk->retired = os_grow(vk->retired, vk->retired_capacity * size, grown * size);
        vk->retired_capacity = grown;
    }
    vk->retired[vk->retired_count++] = copy;
}

static void retired_destroy_until(struct vk_gpu *vk, uint64_t finished)
{
    size_t gone = 0; // tickets rise along the list
    while (gone < vk->retired_count && vk->retired[gone].ticket <= finished)
        retired_destroy(vk, &vk->retired[gone++]);
    vk->retired_count -= gone;
    if (gone && vk->retired_count)
        memmove(vk->retired, vk->retired + gone, vk->retired_count * sizeof *vk->retired);
}

static bool finished_update(struct vk_gpu *vk)
{
    uint64_t value = 0;
    if (!vk->timeline)
        return !vk->base.lost;
    if (!vk_timeline_value(vk, vk->timeline, &value))
        return false;
    vk->finished = value;
    return true;
}

void vk_retire_collect(struct vk_gpu *vk)
{
    if (vk->retired_count && finished_update(vk))
        retired_destroy_until(vk, vk->finished);
}

void vk_queue_finish(struct vk_gpu *vk)
{
    retired_destroy_until(vk, UINT64_MAX);
    free(vk->retired);
    vk->fn.vkDestroyCommandPool(vk->device, vk->pool, NULL);
    vk->fn.vkDestroySemaphore(vk->device, vk->timeline, NULL);
}

// ---- command buffers

static void barrier(struct vk_gpu *vk, VkCommandBuffer commands, VkPipelineStageFlags to,
                    VkAccessFlags access)
{
    const VkPipelineStageFlags work =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    vk->fn.vkCmdPipelineBarrier(
        commands, work | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT, to, 0, 1,
        &(VkMemoryBarrier){
            .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
            .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
            .dstAccessMask = access,
        },
        0, NULL, 0, NULL);
}

static void barrier_full(struct vk_gpu *vk, VkCommandBuffer commands)
{
    barrier(vk, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT
                              | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT
                | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_INDIRECT_COMMAND_READ_BIT);
}

bool vk_commands_begin(struct vk_gpu *vk, VkCommandBuffer *commands)
{
    const VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    if (!*commands &&
        !VK_MADE(vk, *commands, vk->fn.vkAllocateCommandBuffers(vk->device, &info, commands),
                 "making a command buffer"))
        return false;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    if (!vk_ok(vk, vk->fn.vkBeginCommandBuffer(*commands, &begin), "beginning a command buffer"))
        return false;
    barrier_full(vk, *commands);
    return true;
}

bool vk_commands_finish(struct vk_gpu *vk, VkCommandBuffer commands)
{
    barrier(vk, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return vk_ok(vk, vk->fn.vkEndCommandBuffer(commands), "ending a command buffer");
}

struct gpu_commands *vk_commands_create(struct gpu *gpu, const struct gpu_commands_params *params)
{
    struct vk_gpu      *vk = vk_gpu(gpu);
    struct vk_commands *own = os_alloc(sizeof *own);
    vk_retire_collect(vk);
    own->base.gpu = gpu;
    own->base.commands.params = *params;
    if (vk_commands_begin(vk, &own->handle) && vk_timer_create(own)) {
        vk_name(vk, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)own->handle, params->name);
        return &own->base.commands;
    }
    vk_commands_destroy(gpu, &own->base.commands);
    return NULL;
}

void vk_commands_destroy(struct gpu *gpu, struct gpu_commands *commands)
{
    struct vk_commands *own = (struct vk_commands *)commands;
    vk_retire(vk_gpu(gpu), &(struct vk_retired){.commands = own->handle, .queries = own->queries});
    for (uint32_t i = 0; i < own->view_count; i++)
        vk_retire(vk_gpu(gpu), &(struct vk_retired){.view = own->views[i]});
    free(own->views);
    free(own->results);
    free(own);
}

static struct vk_gpu *owner(const struct gpu_commands *commands)
{
    return vk_gpu(gpu_commands_base(commands)->gpu);
}

static VkCommandBuffer handle_of(const struct gpu_commands *commands)
{
    return ((const struct vk_commands *)commands)->handle;
}

// A view of a range, whole texels; it lives as long as the commands.
static bool view_make(struct vk_commands *own, const struct gpu_bind *bind, uint32_t texel_bytes,
                      VkBufferView *view)
{
    struct vk_gpu *vk = owner(&own->base.commands);
    const VkBufferViewCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
        .buffer = ((const struct vk_buffer *)bind->buffer)->handle,
        .format = texel_bytes == 16 ? VK_FORMAT_R32G32B32A32_UINT : VK_FORMAT_R32G32_UINT,
        .offset = bind->offset,
        .range = (bind->bytes + texel_bytes - 1) / texel_bytes * texel_bytes,
    };
    if (!VK_MADE(vk, *view, vk->fn.vkCreateBufferView(vk->device, &info, NULL, view),
                 bind->buffer->params.name))
        return false;
    if (own->view_count == own->view_capacity) {
        const size_t size = sizeof *view, grown = own->view_capacity ? 2 * own->view_capacity : 64;
        own->views = os_grow(own->views, own->view_capacity * size, grown * size);
        own->view_capacity = (uint32_t)grown;
    }
    own->views[own->view_count++] = *view;
    return true;
}

static bool bind_buffers(struct vk_commands *own, const struct vk_kernel *kernel,
                         const struct gpu_bind *bind)
{
    const struct vk_gpu   *vk = owner(&own->base.commands);
    const uint32_t         count = kernel->kernel.params.binding_count;
    const uint8_t         *texel_bytes = kernel->kernel.params.texel_bytes;
    VkDescriptorBufferInfo info[GPU_MAX_BINDINGS];
    VkBufferView           view[GPU_MAX_BINDINGS];
    VkWriteDescriptorSet   writes[GPU_MAX_BINDINGS];
    for (uint32_t b = 0; b < count; b++) {
        if (texel_bytes[b] && !view_make(own, &bind[b], texel_bytes[b], &view[b])) return false;
        info[b] = (VkDescriptorBufferInfo){
            ((const struct vk_buffer *)bind[b].buffer)->handle, bind[b].offset, bind[b].bytes};
        writes[b] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstBinding = b,
            .descriptorCount = 1,
            .descriptorType = texel_bytes[b] ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                             : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = &info[b],
            .pTexelBufferView = &view[b],
        };
    }
    if (count)
        vk->fn.vkCmdPushDescriptorSetKHR(own->handle, VK_PIPELINE_BIND_POINT_COMPUTE,
                                         kernel->layout, 0, count, writes);
    return true;
}

bool vk_commands_dispatch(struct gpu_commands *commands, const struct gpu_dispatch *dispatch)
{
    struct vk_commands     *own = (struct vk_commands *)commands;
    const struct vk_gpu    *vk = owner(commands);
    const struct vk_kernel *kernel = (const struct vk_kernel *)dispatch->kernel;
    const uint32_t          push_bytes = kernel->kernel.params.push_bytes;
    const uint32_t         *groups = dispatch->groups;
    if (own->bound != kernel)
        vk->fn.vkCmdBindPipeline(own->handle, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    own->bound = kernel;
    if (!bind_buffers(own, kernel, dispatch->bind))
        return false;
    if (push_bytes)
        vk->fn.vkCmdPushConstants(own->handle, kernel->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                  push_bytes, dispatch->push);
    if (dispatch->indirect)
        vk->fn.vkCmdDispatchIndirect(own->handle, ((struct vk_buffer *)dispatch->indirect)->handle,
                                     dispatch->indirect_offset);
    else
        vk->fn.vkCmdDispatch(own->handle, groups[0], groups[1], groups[2]);
    return true;
}

bool vk_commands_copy(struct gpu_commands *commands, const struct gpu_bind *from,
                      const struct gpu_bind *to)
{
    const VkBufferCopy copy = {from->offset, to->offset, from->bytes};
    owner(commands)->fn.vkCmdCopyBuffer(handle_of(commands),
                                        ((struct vk_buffer *)from->buffer)->handle,
                                        ((struct vk_buffer *)to->buffer)->handle, 1, &copy);
    return true;
}

bool vk_commands_fill(struct gpu_commands *commands, const struct gpu_bind *range, uint32_t word)
{
    owner(commands)->fn.vkCmdFillBuffer(handle_of(commands),
                                        ((struct vk_buffer *)range->buffer)->handle, range->offset,
                                        range->bytes, word);
    return true;
}

bool vk_commands_barrier(struct gpu_commands *commands)
{
    barrier_full(owner(commands), handle_of(commands));
    return true;
}

bool vk_commands_end(struct gpu_commands *commands)
{
    return vk_commands_finish(owner(commands), handle_of(commands));
}

// ---- the queue

uint64_t vk_queue_submit(struct vk_gpu *vk, const VkCommandBuffer *commands, uint32_t count)
{
    const uint64_t ticket = vk->base.submitted + 1;
    if (!vk->timeline && !vk_timeline_create(vk, &vk->timeline))
        return 0;
    const uint64_t before = vk->copies.before; // gpu_after_copy
    const uint32_t waits = before > 0; // also where the host saw them end: memory, not time
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                        VK_PIPELINE_STAGE_TRANSFER_BIT |
                                        VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT;
    const VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = waits,
        .pWaitSemaphoreValues = &before,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &ticket,
    };
    const VkResult result = vk->fn.vkQueueSubmit(vk->queue, 1, &(VkSubmitInfo){
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .waitSemaphoreCount = waits,
        .pWaitSemaphores = &vk->copies.timeline,
        .pWaitDstStageMask = &stages,
        .commandBufferCount = count,
        .pCommandBuffers = commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &vk->timeline,
    }, VK_NULL_HANDLE);
    if (!vk_ok(vk, result, "submitting commands"))
        return 0;
    vk->base.submitted = ticket;
    vk->copies.before = 0;
    return ticket;
}

// Commands that are in flight, or already in this batch, must finish before they run again.
uint64_t vk_submit(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count)
{
    struct vk_gpu  *vk = vk_gpu(gpu);
    VkCommandBuffer batch[BATCH];
    uint32_t        held = 0;
    uint64_t        ticket = 0;
    vk_retire_collect(vk);
    for (uint32_t i = 0; i < count; i++) {
        struct gpu_commands_base *base = gpu_commands_base(commands[i]);
        const uint64_t next = vk->base.submitted + 1;
        if (held == BATCH || (held && base->ticket == next)) {
            ticket = vk_queue_submit(vk, batch, held);
            held = 0;
            if (!ticket)
                return 0;
        }
        if (!vk_wait(gpu, base->ticket))
            return 0;
        batch[held++] = handle_of(commands[i]);
        base->ticket = vk->base.submitted + 1;
    }
    return held || !ticket ? vk_queue_submit(vk, batch, held) : ticket;
}

bool vk_done(struct gpu *gpu, uint64_t ticket)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    return ticket <= vk->finished || (finished_update(vk) && ticket <= vk->finished);
}

bool vk_wait(struct gpu *gpu, uint64_t ticket)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    if (vk->base.lost)
        return false;
    if (ticket > vk->base.submitted) // of a submit that failed
        ticket = vk->base.submitted;
    if (ticket <= vk->finished)
        return true;
    if (!vk_timeline_wait(vk, vk->timeline, ticket))
        return false;
    vk->finished = ticket;
    return true;
}
