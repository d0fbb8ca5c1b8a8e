// SPDX-License-Identifier: MIT
// Buffers, and copies between them and host memory: straight through the mapping where there is
// one, else through two staging chunks in turn, so that the host's copy and the device's overlap.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

enum { PAGE = 4096 };

static void log_no_memory(const struct vk_gpu *vk, const struct gpu_buffer_params *params)
{
    char text[3][32];
    log_error("buffer \"%s\": %s of device memory are not there, %s of %s are in use in %llu "
              "buffers; use a smaller batch or another device",
              params->name, gpu_bytes_text(params->bytes, text[0]),
              gpu_bytes_text(vk->base.bytes, text[1]),
              gpu_bytes_text(vk->base.gpu.caps.heap_bytes, text[2]),
              (unsigned long long)vk->base.buffers);
}

// Memory for a buffer. When there is none, what was destroyed and is still in flight is waited for
// first.
static enum vk_memory_result memory_for(struct vk_gpu *vk, VkBuffer handle,
                                        const struct gpu_buffer_params *params,
                                        struct vk_span *span)
{
    const enum gpu_memory memory = params->memory;
    VkMemoryRequirements  need;
    vk->fn.vkGetBufferMemoryRequirements(vk->device, handle, &need);
    if (params->pages && need.alignment < PAGE)
        need.alignment = PAGE;
    const enum vk_memory_result result = vk_memory_alloc(vk, &need, memory, span);
    if (result != VK_MEMORY_NONE || !vk->retired_count)
        return result;
    if (!vk_wait(&vk->base.gpu, vk->base.submitted))
        return VK_MEMORY_FAILED;
    vk_retire_collect(vk);
    return vk_memory_alloc(vk, &need, memory, span);
}

// A buffer for any use here, of all queues that are open.
static VkResult handle_make(struct vk_gpu *vk, uint64_t bytes, const void *chain, VkBuffer *out)
{
    const uint32_t family[2] = {vk->physical.family, vk->physical.transfer_family};
    const bool     both = vk->copies.queue != VK_NULL_HANDLE;
    *out = VK_NULL_HANDLE;
    const VkResult made = vk->fn.vkCreateBuffer(
        vk->device,
        &(VkBufferCreateInfo){
            .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
            .pNext = chain,
            .size = (bytes + 15) / 16 * 16, // whole texels, and whole words of a fill
            .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT |
                     VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                     VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
            .sharingMode = both ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
            .queueFamilyIndexCount = both ? 2 : 0,
            .pQueueFamilyIndices = family,
        },
        NULL, out);
    if (made != VK_SUCCESS)
        *out = VK_NULL_HANDLE;
    return made;
}

// ---- pages of the process

static const VkExternalMemoryBufferCreateInfo external_host = {
    .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
    .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
};

// Memory types that can hold it, best first by the lowest number; 0: none.
static uint32_t import_types(struct vk_gpu *vk, VkBuffer handle, void *data)
{
    VkMemoryHostPointerPropertiesEXT pointer = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkMemoryRequirements need;
    vk->fn.vkGetBufferMemoryRequirements(vk->device, handle, &need);
    const VkResult result = vk->fn.vkGetMemoryHostPointerPropertiesEXT(
        vk->device, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, data, &pointer);
    return result == VK_SUCCESS ? pointer.memoryTypeBits & need.memoryTypeBits : 0;
}

static uint32_t coherent_types(const struct vk_gpu *vk)
{
    uint32_t types = 0;
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++)
        if (vk->memory.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
            types |= 1u << i;
    return types;
}

// The device's memory where that is the host's. NULL without a word: the driver does not take it.
static struct gpu_buffer *pages_create(struct vk_gpu *vk, const struct gpu_buffer_params *params)
{
    const struct gpu_caps *caps = &vk->base.gpu.caps;
    const uint64_t unit = caps->import_alignment > PAGE ? caps->import_alignment : PAGE,
                   bytes = (params->bytes + unit - 1) / unit * unit;
    struct vk_span span = {0};
    VkBuffer       handle = VK_NULL_HANDLE;
    void          *data = os_pages(bytes);
    bool ok = (uintptr_t)data % unit == 0 &&
              handle_make(vk, bytes, &external_host, &handle) == VK_SUCCESS;
    const uint32_t types = ok ? import_types(vk, handle, data) & coherent_types(vk) : 0;
    ok = types && vk_memory_pages(vk, types, data, bytes, &span);
    if (!ok)
        os_pages_free(data, bytes);
    if (ok && vk->fn.vkBindBufferMemory(vk->device, handle, span.block->memory, 0) == VK_SUCCESS) {
        struct vk_buffer *buffer = os_alloc(sizeof *buffer);
        *buffer = (struct vk_buffer){
            .buffer = {.data = data, .direct = true}, .handle = handle, .span = span};
        vk_name(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)handle, params->name);
        return &buffer->buffer;
    }
    vk->fn.vkDestroyBuffer(vk->device, handle, NULL);
    vk_memory_free(vk, &span);
    return NULL;
}

static bool pages_wanted(const struct gpu *gpu, const struct gpu_buffer_params *params)
{
    const uint32_t needed = GPU_CAP_HOSTMEM | GPU_CAP_MAPPED;
    return params->pages && params->memory == GPU_MEMORY_DEVICE && gpu->caps.unified &&
           (gpu->caps.mask & needed) == needed;
}

// ---- create, destroy

struct gpu_buffer *vk_buffer_create(struct gpu *gpu, const struct gpu_buffer_params *params)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    VkBuffer       handle = VK_NULL_HANDLE;
    vk_retire_collect(vk);
    struct gpu_buffer *pages = pages_wanted(gpu, params) ? pages_create(vk, params) : NULL;
    if (pages)
        return pages;
    const VkResult made = handle_make(vk, params->bytes, NULL, &handle);
    struct vk_span span = {0};
    const enum vk_memory_result got =
        made == VK_SUCCESS ? memory_for(vk, handle, params, &span) : VK_MEMORY_NONE;
    if (made == VK_ERROR_DEVICE_LOST)
        vk_ok(vk, made, "making a buffer");
    else if (got == VK_MEMORY_NONE)
        log_no_memory(vk, params);
    if (got == VK_MEMORY_OK
        && vk_ok(vk, vk->fn.vkBindBufferMemory(vk->device, handle, span.block->memory, span.offset),
                 "binding memory to a buffer")) {
        struct vk_buffer *buffer = os_alloc(sizeof *buffer);
        buffer->handle = handle;
        buffer->span = span;
        buffer->buffer.host = span.block->host;
        const bool mapped = params->memory != GPU_MEMORY_DEVICE || gpu->caps.mask & GPU_CAP_MAPPED;
        if (mapped && span.block->data)
            buffer->buffer.data = span.block->data + span.offset;
        vk_name(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)handle, params->name);
        return &buffer->buffer;
    }
    vk->fn.vkDestroyBuffer(vk->device, handle, NULL);
    vk_memory_free(vk, &span);
    return NULL;
}

// ---- memory of the caller

struct gpu_buffer *vk_buffer_import(struct gpu *gpu, const struct gpu_buffer_params *params,
                                    void *data)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    VkBuffer       handle = VK_NULL_HANDLE;
    VkDeviceMemory memory = VK_NULL_HANDLE;
    uint32_t       type;
    vk_retire_collect(vk);
    VkResult       result = handle_make(vk, params->bytes, &external_host, &handle);
    const uint32_t types = result == VK_SUCCESS ? import_types(vk, handle, data) : 0;
    if (types)
        result = vk_memory_import(vk, types, data, params->bytes, &type, &memory);
    if (memory)
        result = vk->fn.vkBindBufferMemory(vk->device, handle, memory, 0);
    if (memory && result == VK_SUCCESS) {
        struct vk_buffer *buffer = os_alloc(sizeof *buffer);
        *buffer = (struct vk_buffer){
            .buffer = {.data = data, .host = true}, .handle = handle, .imported = memory};
        vk->imported_bytes += params->bytes;
        vk_name(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)handle, params->name);
        return &buffer->buffer;
    }
    log_warn("buffer \"%s\": %s does not take these %llu bytes of host memory (%s); they have to "
             "be copied",
             params->name, gpu->caps.name, (unsigned long long)params->bytes,
             types ? vk_result_text(result) : "no memory type for them");
    vk->fn.vkDestroyBuffer(vk->device, handle, NULL);
    vk->fn.vkFreeMemory(vk->device, memory, NULL);
    return NULL;
}

void vk_buffer_destroy(struct gpu *gpu, struct gpu_buffer *buffer)
{
    struct vk_buffer *own = (struct vk_buffer *)buffer;
    vk_copies_settle(vk_gpu(gpu)); // tickets of submits do not speak of them
    vk_retire(vk_gpu(gpu), &(struct vk_retired){
                               .buffer = own->handle,
                               .span = own->span,
                               .imported = own->imported,
                               .imported_bytes = own->imported ? buffer->params.bytes : 0,
                           });
    free(own);
}

// ---- host copies

static bool staging_begin(struct vk_gpu *vk, struct vk_staging *slot, enum gpu_memory memory)
{
    // made through the backend, so that it does not show in the caller's report
    if (!slot->buffer)
        slot->buffer = vk_buffer_create(&vk->base.gpu, &(struct gpu_buffer_params){
            .name = "staging", .bytes = VK_STAGING_BYTES, .memory = memory});
    return slot->buffer && vk_wait(&vk->base.gpu, slot->ticket) &&
           vk_commands_begin(vk, &slot->commands);
}

static bool staging_submit(struct vk_gpu *vk, struct vk_staging *slot, VkBuffer from, VkBuffer to,
                           const VkBufferCopy *copy)
{
    vk->fn.vkCmdCopyBuffer(slot->commands, from, to, 1, copy);
    slot->ticket =
        vk_commands_finish(vk, slot->commands) ? vk_queue_submit(vk, &slot->commands, 1) : 0;
    return slot->ticket != 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool vk_buffer_write(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, const void *data,
                     uint64_t bytes)
{
    struct vk_gpu  *vk = vk_gpu(gpu);
    const VkBuffer  target = ((struct vk_buffer *)buffer)->handle;
    if (buffer->data) {
        if (!vk_wait(gpu, vk->base.submitted)) // what was submitted before sees the old contents
            return false;
        memcpy((uint8_t *)buffer->data + offset, data, bytes);
        return true;
    }
    for (uint64_t done = 0, i = 0; done < bytes; i++) {
        struct vk_staging *slot = &vk->upload[i % VK_STAGING_SLOTS];
        const uint64_t     part = smaller(bytes - done, VK_STAGING_BYTES);
        if (!staging_begin(vk, slot, GPU_MEMORY_UPLOAD))
            return false;
        memcpy(slot->buffer->data, (const uint8_t *)data + done, part);
        const VkBufferCopy copy = {.dstOffset = offset + done, .size = part};
        if (!staging_submit(vk, slot, ((struct vk_buffer *)slot->buffer)->handle, target, &copy))
            return false;
        done += part;
    }
    return vk_wait(gpu, vk->base.submitted);
}

static bool read_part(struct vk_gpu *vk, struct vk_staging *slot, VkBuffer source, uint64_t offset,
                      uint64_t bytes)
{
    const VkBufferCopy copy = {.srcOffset = offset, .size = bytes};
    return staging_begin(vk, slot, GPU_MEMORY_READBACK)
           && staging_submit(vk, slot, source, ((struct vk_buffer *)slot->buffer)->handle, &copy);
}

bool vk_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                    uint64_t bytes)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    const VkBuffer source = ((struct vk_buffer *)buffer)->handle;
    if (buffer->data) {
        if (!vk_wait(gpu, vk->base.submitted))
            return false;
        memcpy(data, (const uint8_t *)buffer->data + offset, bytes);
        return true;
    }
    const uint64_t chunk = VK_STAGING_BYTES, parts = (bytes + chunk - 1) / chunk;
    for (uint64_t i = 0; i <= parts; i++) { // part i is asked for, then part i - 1 is taken
        struct vk_staging *slot = &vk->readback[i % VK_STAGING_SLOTS];
        if (i < parts &&
            !read_part(vk, slot, source, offset + i * chunk, smaller(bytes - i * chunk, chunk)))
            return false;
        if (i == 0)
            continue;
        slot = &vk->readback[(i - 1) % VK_STAGING_SLOTS];
        const uint64_t at = (i - 1) * chunk;
        if (!vk_wait(gpu, slot->ticket))
            return false;
        memcpy((uint8_t *)data + at, slot->buffer->data, smaller(bytes - at, chunk));
    }
    return true;
}

void vk_staging_finish(struct vk_gpu *vk)
{
    for (int i = 0; i < VK_STAGING_SLOTS; i++) {
        if (vk->upload[i].buffer)
            vk_buffer_destroy(&vk->base.gpu, vk->upload[i].buffer);
        if (vk->readback[i].buffer)
            vk_buffer_destroy(&vk->base.gpu, vk->readback[i].buffer);
    }
}
