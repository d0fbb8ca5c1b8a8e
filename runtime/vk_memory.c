// SPDX-License-Identifier: MIT
// Device memory: blocks that grow from 16 to 256 MiB, each with a sorted list of free ranges, first
// fit. What is as large as a block gets a block of its own. Host-visible blocks stay mapped.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

static const uint64_t BLOCK_FIRST = 16ull << 20, BLOCK_LAST = 256ull << 20,
                      BLOCK_LEAST = 64ull << 10;
enum { BLOCK_SHARE = 64 }; // of what is to be held at most

// ---- one block

static void free_insert(struct vk_block *block, uint32_t at, struct vk_range range)
{
    if (block->free_count == block->free_capacity) {
        const uint32_t grown = block->free_capacity ? 2 * block->free_capacity : 8;
        block->free =
            os_grow(block->free, block->free_capacity * sizeof range, grown * sizeof range);
        block->free_capacity = grown;
    }
    memmove(block->free + at + 1, block->free + at, (block->free_count - at) * sizeof range);
    block->free[at] = range;
    block->free_count++;
}

static void free_remove(struct vk_block *block, uint32_t at)
{
    block->free_count--;
    memmove(block->free + at, block->free + at + 1, (block->free_count - at) * sizeof *block->free);
}

// Takes bytes whose address (offset, where it is not mapped) is aligned out of the first free range
// that holds them; what is left before and behind stays free.
static bool block_take(struct vk_block *block, uint64_t bytes, uint64_t alignment,
                       struct vk_span *out)
{
    for (uint32_t i = 0; i < block->free_count; i++) {
        const struct vk_range range = block->free[i];
        const uint64_t        skew = (uintptr_t)block->data % alignment;
        const uint64_t        begin =
            (range.offset + skew + alignment - 1) / alignment * alignment - skew;
        const uint64_t        skip = begin - range.offset;
        if (skip > range.bytes || bytes > range.bytes - skip)
            continue;
        const uint64_t rest = range.bytes - skip - bytes;
        free_remove(block, i);
        if (rest)
            free_insert(block, i, (struct vk_range){begin + bytes, rest});
        if (skip)
            free_insert(block, i, (struct vk_range){range.offset, skip});
        block->used++;
        *out = (struct vk_span){block, begin, bytes};
        return true;
    }
    return false;
}

static void block_give(struct vk_block *block, uint64_t offset, uint64_t bytes)
{
    uint32_t at = 0;
    while (at < block->free_count && block->free[at].offset < offset)
        at++;
    free_insert(block, at, (struct vk_range){offset, bytes});
    struct vk_range *r = block->free;
    if (at + 1 < block->free_count && r[at].offset + r[at].bytes == r[at + 1].offset) {
        r[at].bytes += r[at + 1].bytes;
        free_remove(block, at + 1);
    }
    if (at > 0 && r[at - 1].offset + r[at - 1].bytes == r[at].offset) {
        r[at - 1].bytes += r[at].bytes;
        free_remove(block, at);
    }
    block->used--;
}

static void block_free(struct vk_gpu *vk, struct vk_block *block)
{
    struct vk_block **link = &vk->blocks;
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    vk->block_bytes -= block->bytes;
    vk->host_bytes -= block->host ? block->bytes : 0;
    vk->fn.vkFreeMemory(vk->device, block->memory, NULL); // unmaps
    if (block->pages)
        os_pages_free(block->data, block->bytes);
    free(block->free);
    free(block);
}

// Whether what is asked for so lies in memory of the host.
static bool type_is_host(const struct vk_gpu *vk, uint32_t type, enum gpu_memory memory)
{
    if (vk->base.gpu.caps.unified)
        return memory != GPU_MEMORY_DEVICE;
    return !(vk->memory.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

// A CPU driver takes whatever the host overcommits and the program is killed later: stop here.
static bool has_room(const struct vk_gpu *vk, uint64_t bytes)
{
    return vk->base.gpu.caps.type != GPU_TYPE_CPU ||
           vk->block_bytes + bytes <= vk->base.gpu.caps.heap_bytes;
}

static struct vk_block *block_keep(struct vk_gpu *vk, const struct vk_block *values)
{
    struct vk_block *block = os_alloc(sizeof *block);
    *block = *values;
    block->next = vk->blocks;
    free_insert(block, 0, (struct vk_range){0, block->bytes});
    vk->blocks = block;
    vk->block_bytes += block->bytes;
    vk->host_bytes += block->host ? block->bytes : 0;
    return block;
}

static enum vk_memory_result block_new(struct vk_gpu *vk, uint32_t type, bool host, uint64_t bytes,
                                       bool own, struct vk_block **out)
{
    if (!has_room(vk, bytes))
        return VK_MEMORY_NONE;
    VkDeviceMemory memory = VK_NULL_HANDLE;
    const VkResult result = vk->fn.vkAllocateMemory(
        vk->device,
        &(VkMemoryAllocateInfo){.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                .allocationSize = bytes,
                                .memoryTypeIndex = type},
        NULL, &memory);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)
        return VK_MEMORY_NONE;
    if (!vk_ok(vk, result, "allocating memory"))
        return VK_MEMORY_FAILED;
    void *data = NULL;
    if (vk->memory.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT
        && vk->fn.vkMapMemory(vk->device, memory, 0, VK_WHOLE_SIZE, 0, &data) != VK_SUCCESS) {
        vk->fn.vkFreeMemory(vk->device, memory, NULL);
        return VK_MEMORY_NONE; // no address space left: as good as no memory
    }
    *out = block_keep(vk, &(struct vk_block){.memory = memory,
                                             .bytes = bytes,
                                             .type = type,
                                             .own = own,
                                             .host = host,
                                             .data = data});
    return VK_MEMORY_OK;
}

VkResult vk_memory_import(struct vk_gpu *vk, uint32_t types, void *data, uint64_t bytes,
                          uint32_t *type, VkDeviceMemory *out)
{
    const VkImportMemoryHostPointerInfoEXT pointer = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = data,
    };
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    for (*type = 0; *type < vk->memory.memoryTypeCount; ++*type) {
        if (!(types & 1u << *type))
            continue;
        result = vk->fn.vkAllocateMemory(vk->device,
                                         &(VkMemoryAllocateInfo){
                                             .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                             .pNext = &pointer,
                                             .allocationSize = bytes,
                                             .memoryTypeIndex = *type,
                                         },
                                         NULL, out);
        if (result == VK_SUCCESS)
            return result;
    }
    *out = VK_NULL_HANDLE;
    return result;
}

bool vk_memory_pages(struct vk_gpu *vk, uint32_t types, void *data, uint64_t bytes,
                     struct vk_span *out)
{
    VkDeviceMemory memory = VK_NULL_HANDLE;
    uint32_t       type;
    if (!has_room(vk, bytes) || vk_memory_import(vk, types, data, bytes, &type, &memory))
        return false;
    struct vk_block *block = block_keep(vk, &(struct vk_block){.memory = memory,
                                                               .bytes = bytes,
                                                               .type = type,
                                                               .own = true,
                                                               .data = data,
                                                               .pages = true});
    return block_take(block, bytes, 1, out);
}

// ---- which type

// How well a memory type fits the use; 0: not at all.
static int type_score(const struct vk_gpu *vk, uint32_t type, enum gpu_memory memory)
{
    const VkMemoryPropertyFlags flags = vk->memory.memoryTypes[type].propertyFlags;
    const bool local = flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const bool cached = flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    const bool mapped =
        flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT && flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (flags & (VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_PROTECTED_BIT))
        return 0;
#ifdef VK_AMD_device_coherent_memory
    if (flags &
        (VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD))
        return 0; // needs a feature that is not turned on
#endif
    switch (memory) {
    case GPU_MEMORY_DEVICE:
        if (!vk->base.gpu.caps.unified) // keep the small mapped window of a card for uploads
            return local ? 8 + !mapped : 1;
        return 1 + 8 * local + 4 * mapped + cached;
    case GPU_MEMORY_UPLOAD:
        return mapped ? 1 + 2 * local + !cached : 0;
    case GPU_MEMORY_READBACK:
        return mapped ? 1 + 4 * cached + !local : 0;
    }
    return 0;
}

// Whether device memory may fall back to memory of the host: only where the device has none of its
// own, because a kernel over the bus would be slow without a word.
static bool may_fall_back(const struct vk_gpu *vk, enum gpu_memory memory, uint32_t type,
                          uint32_t best)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    if (memory != GPU_MEMORY_DEVICE || !(vk->memory.memoryTypes[best].propertyFlags & local))
        return true;
    return vk->memory.memoryTypes[type].propertyFlags & local;
}

// The best type of `allowed`, -1 if none.
static int type_best(const struct vk_gpu *vk, uint32_t allowed, enum gpu_memory memory)
{
    int best = -1, score = 0;
    for (uint32_t type = 0; type < vk->memory.memoryTypeCount; type++)
        if (allowed & (1u << type) && type_score(vk, type, memory) > score) {
            best = (int)type;
            score = type_score(vk, type, memory);
        }
    return best;
}

// ---- all blocks

static uint64_t block_size_next(const struct vk_gpu *vk, uint32_t type, bool host)
{
    uint64_t held = 0;
    for (const struct vk_block *block = vk->blocks; block; block = block->next)
        if (block->type == type && block->host == host && !block->own)
            held += block->bytes;
    const uint64_t expected = vk->base.expected, share = expected / BLOCK_SHARE;
    uint64_t size = BLOCK_FIRST;
    while (expected && size > share && size > BLOCK_LEAST)
        size /= 2;
    while (size < held && size < BLOCK_LAST && !(expected && 2 * size > share))
        size *= 2;
    return size;
}

static enum vk_memory_result alloc_in_type(struct vk_gpu *vk, uint32_t type, bool host,
                                           const VkMemoryRequirements *need, struct vk_span *out)
{
    for (struct vk_block *block = vk->blocks; block; block = block->next)
        if (block->type == type && block->host == host && !block->own &&
            block_take(block, need->size, need->alignment, out))
            return VK_MEMORY_OK;
    uint64_t         size = block_size_next(vk, type, host);
    struct vk_block *block = NULL;
    bool             own = need->size >= size;
    // a mapping may begin anywhere at a multiple of 64
    const uint64_t   least = need->alignment > 64 ? need->size + need->alignment : need->size;
    enum vk_memory_result result = block_new(vk, type, host, own ? least : size, own, &block);
    if (result == VK_MEMORY_NONE && !own) // no room for a whole block: just for this one
        result = block_new(vk, type, host, least, own = true, &block);
    if (result == VK_MEMORY_OK && !block_take(block, need->size, need->alignment, out)) {
        block_free(vk, block);
        return VK_MEMORY_NONE;
    }
    return result;
}

enum vk_memory_result vk_memory_alloc(struct vk_gpu *vk, const VkMemoryRequirements *need,
                                      enum gpu_memory memory, struct vk_span *out)
{
    uint32_t  allowed = need->memoryTypeBits;
    const int best = type_best(vk, allowed, memory);
    int       type = best;
    enum vk_memory_result result = VK_MEMORY_NONE;
    while (type >= 0 && result == VK_MEMORY_NONE) {
        if (may_fall_back(vk, memory, (uint32_t)type, (uint32_t)best))
            result = alloc_in_type(vk, (uint32_t)type, type_is_host(vk, (uint32_t)type, memory),
                                   need, out);
        allowed &= ~(1u << type);
        type = type_best(vk, allowed, memory);
    }
    return result;
}

void vk_memory_free(struct vk_gpu *vk, struct vk_span *span)
{
    struct vk_block *block = span->block;
    if (!block)
        return;
    block_give(block, span->offset, span->bytes);
    if (!block->used)
        block_free(vk, block);
    *span = (struct vk_span){0};
}

uint64_t vk_memory_held(const struct gpu *gpu, bool host)
{
    const struct vk_gpu *vk = vk_gpu(gpu);
    return host ? vk->host_bytes + vk->imported_bytes : vk->block_bytes - vk->host_bytes;
}

uint64_t vk_memory_resident(const struct gpu *gpu)
{
    uint64_t bytes = 0;
    for (const struct vk_block *b = vk_gpu(gpu)->blocks; b; b = b->next)
        if (b->data) bytes += os_resident_of(b->data, b->bytes);
    return bytes;
}

// Of the heap that the caps tell of: the largest of the device's own.
uint64_t vk_memory_budget(const struct gpu *gpu)
{
    const struct vk_gpu *vk = vk_gpu(gpu);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    if (!(gpu->caps.mask & GPU_CAP_BUDGET)) return gpu->caps.heap_bytes;
    vkGetPhysicalDeviceMemoryProperties2(vk->physical.handle, &all);
    uint64_t most = 0, left = 0;
    for (uint32_t i = 0; i < all.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &all.memoryProperties.memoryHeaps[i];
        if (!(heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || heap->size <= most) continue;
        most = heap->size;
        left = budget.heapBudget[i];
    }
    return left && left < gpu->caps.heap_bytes ? left : gpu->caps.heap_bytes;
}

void vk_memory_finish(struct vk_gpu *vk)
{
    while (vk->blocks)
        block_free(vk, vk->blocks);
}
