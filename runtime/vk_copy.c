// SPDX-License-Identifier: MIT
// Copies beside the compute: on a queue that only copies, with a timeline of its own, or in their
// turn on the one queue. A second queue helps some cards and harms others, so where there is one
// the first copy measures both beside a load on the compute queue.
#include <stdio.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

enum { MEASURE_COPY = 16 << 20, MEASURE_FILL = 32 << 20, MEASURE_TURNS = 3, FILLS_MOST = 512 };

bool vk_copies_create(struct vk_gpu *vk, enum gpu_copies wanted)
{
    struct vk_copies *c = &vk->copies;
    const bool        can = vk->base.gpu.caps.mask & GPU_CAP_TRANSFER;
    c->wanted = can ? wanted : GPU_COPIES_QUEUE;
    c->way = c->wanted;
    snprintf(c->choice, sizeof c->choice, "copies: on the %s queue, %s",
             c->way == GPU_COPIES_TRANSFER ? "transfer" : "compute",
             can ? "as asked for" : "there is no other");
    if (!can)
        return true;
    vk->fn.vkGetDeviceQueue(vk->device, vk->physical.transfer_family, 0, &c->queue);
    const VkResult result = vk->fn.vkCreateCommandPool(vk->device, &(VkCommandPoolCreateInfo){
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = vk->physical.transfer_family,
    }, NULL, &c->pool);
    return VK_MADE(vk, c->pool, result, "making the command pool of copies");
}

void vk_copies_finish(struct vk_gpu *vk)
{
    vk->fn.vkDestroyCommandPool(vk->device, vk->copies.pool, NULL);
    vk->fn.vkDestroySemaphore(vk->device, vk->copies.timeline, NULL);
}

// ---- on the transfer queue

static void transfer_barrier(struct vk_gpu *vk, VkCommandBuffer commands, VkPipelineStageFlags to,
                             VkAccessFlags access)
{
    vk->fn.vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, to, 0, 1,
                                &(VkMemoryBarrier){
                                    .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                    .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                                    .dstAccessMask = access,
                                },
                                0, NULL, 0, NULL);
}

static bool transfer_begin(struct vk_gpu *vk, VkCommandBuffer *commands)
{
    const VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = vk->copies.pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    if (!*commands &&
        !VK_MADE(vk, *commands, vk->fn.vkAllocateCommandBuffers(vk->device, &info, commands),
                 "making a command buffer of copies"))
        return false;
    const VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    if (!vk_ok(vk, vk->fn.vkBeginCommandBuffer(*commands, &begin), "beginning copies"))
        return false;
    transfer_barrier(vk, *commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                     VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    return true;
}

// A value of the copies' timeline, 0 on failure. `after`: of the compute queue's.
static uint64_t transfer_submit(struct vk_gpu *vk, VkCommandBuffer commands, uint64_t after)
{
    struct vk_copies *c = &vk->copies;
    const uint64_t    ticket = vk->base.copied + 1;
    const uint32_t    waits = after > 0; // also where the host saw it end: memory, not time
    transfer_barrier(vk, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    if (!vk_ok(vk, vk->fn.vkEndCommandBuffer(commands), "ending copies") ||
        (!c->timeline && !vk_timeline_create(vk, &c->timeline)))
        return 0;
    const VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = waits,
        .pWaitSemaphoreValues = &after,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &ticket,
    };
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkResult result = vk->fn.vkQueueSubmit(c->queue, 1, &(VkSubmitInfo){
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .waitSemaphoreCount = waits,
        .pWaitSemaphores = &vk->timeline,
        .pWaitDstStageMask = &stages,
        .commandBufferCount = 1,
        .pCommandBuffers = &commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &c->timeline,
    }, VK_NULL_HANDLE);
    if (!vk_ok(vk, result, "submitting copies"))
        return 0;
    vk->base.copied = ticket;
    return ticket;
}

static bool transfer_wait(struct vk_gpu *vk, uint64_t ticket)
{
    if (ticket <= vk->copies.finished)
        return true;
    if (!vk_timeline_wait(vk, vk->copies.timeline, ticket))
        return false;
    vk->copies.finished = ticket;
    return true;
}

bool vk_copies_settle(struct vk_gpu *vk)
{
    return vk->copies.way == GPU_COPIES_QUEUE || transfer_wait(vk, vk->base.copied);
}

// ---- either way

static void record(struct vk_gpu *vk, VkCommandBuffer commands, const struct gpu_copy *copies,
                   uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct gpu_bind *from = &copies[i].from, *to = &copies[i].to;
        vk->fn.vkCmdCopyBuffer(commands, ((struct vk_buffer *)from->buffer)->handle,
                               ((struct vk_buffer *)to->buffer)->handle, 1,
                               &(VkBufferCopy){from->offset, to->offset, from->bytes});
    }
}

// One submit of copies; 0 on failure.
static uint64_t copy_once(struct vk_gpu *vk, VkCommandBuffer *commands, bool transfer,
                          const struct gpu_copy *copies, uint32_t count, uint64_t after)
{
    if (!(transfer ? transfer_begin : vk_commands_begin)(vk, commands))
        return 0;
    record(vk, *commands, copies, count);
    if (transfer)
        return transfer_submit(vk, *commands, after);
    return vk_commands_finish(vk, *commands) ? vk_queue_submit(vk, commands, 1) : 0;
}

// ---- which way

struct trial {
    struct gpu_buffer *filled, *from, *to; // filled: the load on the compute queue
    VkCommandBuffer    load, commands[2];  // commands: on the compute and on the transfer queue
    struct gpu_copy    copy;
    double             seconds[2];         // least, of load and copy
};

static bool load_record(struct vk_gpu *vk, struct trial *t, uint32_t fills)
{
    const VkBuffer filled = ((struct vk_buffer *)t->filled)->handle;
    if (!vk_commands_begin(vk, &t->load))
        return false;
    for (uint32_t i = 0; i < fills; i++) {
        vk->fn.vkCmdFillBuffer(t->load, filled, 0, MEASURE_FILL, i);
        transfer_barrier(vk, t->load, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
    }
    return vk_commands_finish(vk, t->load);
}

// Seconds of the load (0 fills: none of it) and a copy, each if asked for; negative: failed.
static double trial_run(struct vk_gpu *vk, struct trial *t, bool load, bool copy, bool transfer)
{
    const double began = os_seconds();
    if (load && !vk_queue_submit(vk, &t->load, 1))
        return -1;
    const uint64_t copied =
        copy ? copy_once(vk, &t->commands[transfer], transfer, &t->copy, 1, 0) : 0;
    if ((copy && !copied) || !vk_wait(&vk->base.gpu, vk->base.submitted) ||
        !transfer_wait(vk, vk->base.copied))
        return -1;
    return os_seconds() - began;
}

// A load about as long as a copy, then both together on each way in turns.
static bool trial_all(struct vk_gpu *vk, struct trial *t)
{
    double load = 0, copy = 0;
    for (int turn = 0; turn < 2; turn++) { // the first one warms up
        if (!load_record(vk, t, 8) || (load = trial_run(vk, t, true, false, false)) < 0 ||
            (copy = trial_run(vk, t, false, true, false)) < 0)
            return false;
    }
    const double fills = load > 0 ? 8 * copy / load : 8;
    if (!load_record(vk, t, fills < 1 ? 1 : fills < FILLS_MOST ? (uint32_t)fills : FILLS_MOST))
        return false;
    t->seconds[0] = t->seconds[1] = 1e9;
    for (int turn = 0; turn < 2 * MEASURE_TURNS + 2; turn++) {
        const bool   transfer = turn % 2;
        const double seconds = trial_run(vk, t, true, true, transfer);
        if (seconds < 0)
            return false;
        if (turn >= 2 && seconds < t->seconds[transfer])
            t->seconds[transfer] = seconds;
    }
    return true;
}

static bool trial_make(struct vk_gpu *vk, struct trial *t)
{
    struct gpu *gpu = &vk->base.gpu;
    const struct gpu_buffer_params from = {"copies", MEASURE_COPY, GPU_MEMORY_UPLOAD, false};
    const struct gpu_buffer_params to = {"copies", MEASURE_COPY, GPU_MEMORY_DEVICE, false};
    const struct gpu_buffer_params filled = {"copies", MEASURE_FILL, GPU_MEMORY_DEVICE, false};
    t->from = vk_buffer_create(gpu, &from);
    t->to = vk_buffer_create(gpu, &to);
    t->filled = vk_buffer_create(gpu, &filled);
    t->copy = (struct gpu_copy){{t->from, 0, MEASURE_COPY}, {t->to, 0, MEASURE_COPY}};
    return t->from && t->to && t->filled;
}

static void trial_free(struct vk_gpu *vk, struct trial *t)
{
    struct gpu_buffer *const made[] = {t->from, t->to, t->filled};
    for (int i = 0; i < 3; i++)
        if (made[i])
            vk_buffer_destroy(&vk->base.gpu, made[i]);
    vk_retire(vk, &(struct vk_retired){.commands = t->load});
    vk_retire(vk, &(struct vk_retired){.commands = t->commands[0]});
    if (t->commands[1])
        vk->fn.vkFreeCommandBuffers(vk->device, vk->copies.pool, 1, &t->commands[1]);
}

static void choose(struct vk_gpu *vk)
{
    struct vk_copies *c = &vk->copies;
    struct trial      t = {0};
    if (c->way != GPU_COPIES_MEASURED)
        return;
    const bool ok = trial_make(vk, &t) && trial_all(vk, &t);
    trial_free(vk, &t);
    c->way = ok && t.seconds[1] < 0.95 * t.seconds[0] ? GPU_COPIES_TRANSFER : GPU_COPIES_QUEUE;
    if (c->way == GPU_COPIES_QUEUE) // what the trials did is over
        vk->base.copied = vk->base.submitted;
    snprintf(c->choice, sizeof c->choice,
             ok ? "copies: on the %s queue (beside a load of equal length %.2f ms, on the other "
                  "%.2f ms)"
                : "copies: on the %s queue (no memory to measure another)",
             c->way == GPU_COPIES_TRANSFER ? "transfer" : "compute",
             1e3 * t.seconds[c->way == GPU_COPIES_TRANSFER],
             1e3 * t.seconds[c->way != GPU_COPIES_TRANSFER]);
    log_info("%s", c->choice);
}

// ---- the calls of gpu.h

const char *vk_copy_choice(struct gpu *gpu)
{
    choose(vk_gpu(gpu));
    return vk_gpu(gpu)->copies.choice;
}

uint64_t vk_copy(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count, uint64_t after)
{
    struct vk_gpu    *vk = vk_gpu(gpu);
    struct vk_copies *c = &vk->copies;
    choose(vk);
    const bool     transfer = c->way == GPU_COPIES_TRANSFER;
    const uint32_t at = c->next;
    if (!vk_copy_wait(gpu, c->slot[at].ticket))
        return 0;
    const uint64_t ticket =
        copy_once(vk, &c->slot[at].commands, transfer, copies, count, after);
    if (!ticket)
        return 0;
    c->next = (at + 1) % VK_COPY_SLOTS;
    c->slot[at].ticket = vk->base.copied = ticket;
    return ticket;
}

bool vk_copy_wait(struct gpu *gpu, uint64_t ticket)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    return vk->copies.way == GPU_COPIES_QUEUE ? vk_wait(gpu, ticket) : transfer_wait(vk, ticket);
}

bool vk_copy_done(struct gpu *gpu, uint64_t ticket)
{
    struct vk_gpu    *vk = vk_gpu(gpu);
    struct vk_copies *c = &vk->copies;
    if (c->way == GPU_COPIES_QUEUE)
        return vk_done(gpu, ticket);
    return ticket <= c->finished ||
           (vk_timeline_value(vk, c->timeline, &c->finished) && ticket <= c->finished);
}

void vk_after_copy(struct gpu *gpu, uint64_t ticket)
{
    struct vk_copies *c = &vk_gpu(gpu)->copies;
    if (c->way == GPU_COPIES_TRANSFER && ticket > c->before)
        c->before = ticket;
}
