// SPDX-License-Identifier: MIT
// What the files of the Vulkan device share. A device owns an instance of its own and calls the
// driver through its own table of functions (`fn`), so several devices in one process do not meet.
#pragma once

#define VK_NO_PROTOTYPES
#include <volk.h>

#include "runtime/gpu_backend.h"
#include "runtime/vk_compat.h"

struct vk_instance {
    VkInstance               handle;
    VkDebugUtilsMessengerEXT messenger;
    bool                     debug_utils;
    uint64_t                 messages; // of validation
};

// A physical device as found, before it is opened.
struct vk_physical {
    VkPhysicalDevice handle;
    struct gpu_caps  caps;          // all it has, unmasked
    char             problem[192];  // why it cannot be used, "" if it can
    uint32_t         family;        // of the queue
    uint32_t         transfer_family; // of a queue that only copies; UINT32_MAX: none
    uint32_t         timestamp_bits;
    uint32_t         default_size;  // of a subgroup where none is required
    uint32_t         api_version;   // the smaller of instance's and device's
    bool             portability;   // VK_KHR_portability_subset must be named
    bool             size_extension; // VK_EXT_subgroup_size_control is needed (below 1.3)
    bool             int16, int64, int8, storage8, extended_types, robust;
    bool             bf16_matrices;
    uint8_t          cache_uuid[VK_UUID_SIZE];
};

// A block of device memory and its free ranges, sorted by offset.
struct vk_range { uint64_t offset, bytes; };
struct vk_block {
    struct vk_block *next;
    VkDeviceMemory   memory;
    uint64_t         bytes;
    uint32_t         type;       // memory type
    uint32_t         used;       // suballocations
    bool             own;        // holds one buffer only
    bool             host;       // memory of the host (struct gpu_buffer)
    uint8_t         *data;       // mapping, or NULL
    bool             pages;      // data is pages of the process, imported
    struct vk_range *free;
    uint32_t         free_count, free_capacity;
};
struct vk_span {
    struct vk_block *block;
    uint64_t         offset, bytes;
};

struct vk_buffer {
    struct gpu_buffer buffer;
    VkBuffer          handle;
    struct vk_span    span;
    VkDeviceMemory    imported; // instead of span: memory of the caller
};

struct vk_kernel {
    struct gpu_kernel     kernel;
    VkDescriptorSetLayout set;
    VkPipelineLayout      layout;
    VkShaderModule        module; // kept for the statistics
    VkPipeline            pipeline;
};

struct vk_commands {
    struct gpu_commands_base base;
    VkCommandBuffer          handle;
    VkQueryPool              queries;  // timestamps, or none
    uint64_t                *results;  // room for reading them, two words a slot
    const struct vk_kernel  *bound;    // while recording
    VkBufferView            *views;    // of texel bindings
    uint32_t                 view_count, view_capacity;
};

// A destroyed object that a command in flight may still use.
struct vk_retired {
    uint64_t              ticket; // last submit that may use it
    VkBuffer              buffer;
    struct vk_span        span;
    VkDescriptorSetLayout set;
    VkPipelineLayout      layout;
    VkShaderModule        module;
    VkPipeline            pipeline;
    VkCommandBuffer       commands;
    VkQueryPool           queries;
    VkBufferView          view;
    VkDeviceMemory        imported;
    uint64_t              imported_bytes;
};

enum { VK_STAGING_SLOTS = 2, VK_STAGING_BYTES = 8 << 20 };
struct vk_staging {
    struct gpu_buffer *buffer;   // made on first use
    VkCommandBuffer    commands;
    uint64_t           ticket;
};

enum { VK_COPY_SLOTS = 16 };
struct vk_copies {
    enum gpu_copies wanted, way; // way: MEASURED until it is known
    char            choice[256];
    VkQueue         queue;       // of the transfer family, where it is open
    VkCommandPool   pool;
    VkSemaphore     timeline;    // its value is the ticket
    uint64_t        finished;    // last value seen
    uint64_t        before;      // copies that the next submit has to wait for
    struct { VkCommandBuffer commands; uint64_t ticket; } slot[VK_COPY_SLOTS];
    uint32_t        next;
};

struct vk_gpu {
    struct gpu_base       base;
    struct vk_instance    instance;
    struct vk_physical    physical;
    VkDevice              device;
    struct VolkDeviceTable fn;
    VkQueue               queue;
    VkCommandPool         pool;
    VkSemaphore           timeline;      // made by the first submit: RADV's null devices cannot
    uint64_t              finished;      // last value seen of the timeline
    VkPhysicalDeviceMemoryProperties memory;
    struct vk_block      *blocks;
    uint64_t              block_bytes;   // in all blocks
    uint64_t              host_bytes;    // in those of the host
    uint64_t              imported_bytes;
    struct vk_staging     upload[VK_STAGING_SLOTS], readback[VK_STAGING_SLOTS];
    struct vk_copies      copies;
    struct vk_retired    *retired;
    size_t                retired_count, retired_capacity;
    VkPipelineCache       cache;
    char                 *cache_path;    // NULL: no cache on disk
    uint64_t              cache_hash;    // of what was loaded
};

static inline struct vk_gpu *vk_gpu(const struct gpu *gpu)
{
    return (struct vk_gpu *)gpu;
}

// Logs a failed call in one line; a lost device is remembered and logged once.
bool vk_ok(struct vk_gpu *vk, VkResult result, const char *what);
// The same for a call that makes `handle`, whose value a failed call leaves undefined.
#define VK_MADE(vk, handle, result, what)                                                          \
    (vk_ok(vk, result, what) || ((handle) = VK_NULL_HANDLE, false))
const char *vk_result_text(VkResult result);

// vk_instance.c
bool vk_instance_create(struct vk_instance *instance, enum gpu_validation validate);
void vk_instance_destroy(struct vk_instance *instance);

// vk_device.c: all devices, best first, unusable ones last; free() the list. -1 on failure.
int  vk_enumerate(const struct vk_instance *instance, struct vk_physical **list);
// The index of the device that `wanted` means (NULL: the best), -1 (logged) if none.
int  vk_pick(const struct vk_physical *list, int count, const char *wanted);
void vk_physical_fill(struct vk_physical *physical); // vk_caps.c: from handle and api_version
void vk_matrices_fill(struct gpu_caps *caps, VkPhysicalDevice device); // vk_matrix.c
void vk_matrices_mask(struct gpu_caps *caps); // drops what the mask does not leave
void vk_name(struct vk_gpu *vk, VkObjectType type, uint64_t handle, const char *name);

// vk_memory.c
enum vk_memory_result { VK_MEMORY_OK, VK_MEMORY_NONE, VK_MEMORY_FAILED };
enum vk_memory_result vk_memory_alloc(struct vk_gpu *vk, const VkMemoryRequirements *need,
                                      enum gpu_memory memory, struct vk_span *out);
// Pages of the process as memory of one of these types; *type: which. Not VK_SUCCESS: *out is none.
VkResult vk_memory_import(struct vk_gpu *vk, uint32_t types, void *data, uint64_t bytes,
                          uint32_t *type, VkDeviceMemory *out);
// The same for os_pages of so many bytes, which are counted as the device's and given back with the
// span. False: they stay the caller's.
bool vk_memory_pages(struct vk_gpu *vk, uint32_t types, void *data, uint64_t bytes,
                     struct vk_span *out);
void vk_memory_free(struct vk_gpu *vk, struct vk_span *span);
void vk_memory_finish(struct vk_gpu *vk);
uint64_t vk_memory_held(const struct gpu *gpu, bool host);
uint64_t vk_memory_resident(const struct gpu *gpu);
uint64_t vk_memory_budget(const struct gpu *gpu);

// vk_buffer.c
struct gpu_buffer *vk_buffer_create(struct gpu *gpu, const struct gpu_buffer_params *params);
struct gpu_buffer *vk_buffer_import(struct gpu *gpu, const struct gpu_buffer_params *params,
                                    void *data);
void vk_buffer_destroy(struct gpu *gpu, struct gpu_buffer *buffer);
bool vk_buffer_write(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, const void *data,
                     uint64_t bytes);
bool vk_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                    uint64_t bytes);
void vk_staging_finish(struct vk_gpu *vk);

// vk_cache.c
bool vk_cache_create(struct vk_gpu *vk, const char *folder);
void vk_cache_finish(struct vk_gpu *vk); // saves it where it has changed

// vk_kernel.c
struct gpu_kernel *vk_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params);
void vk_kernel_destroy(struct gpu *gpu, struct gpu_kernel *kernel);
bool vk_kernel_statistics(struct gpu *gpu, struct gpu_kernel *kernel, struct gpu_statistics *out);

// vk_queue.c
bool vk_queue_create(struct vk_gpu *vk);
bool vk_timeline_create(struct vk_gpu *vk, VkSemaphore *timeline);
bool vk_timeline_value(struct vk_gpu *vk, VkSemaphore timeline, uint64_t *value);
bool vk_timeline_wait(struct vk_gpu *vk, VkSemaphore timeline, uint64_t value);
void vk_queue_finish(struct vk_gpu *vk);
bool vk_commands_begin(struct vk_gpu *vk, VkCommandBuffer *commands); // makes it where it is none
bool vk_commands_finish(struct vk_gpu *vk, VkCommandBuffer commands);
uint64_t vk_queue_submit(struct vk_gpu *vk, const VkCommandBuffer *commands, uint32_t count);
void vk_retire(struct vk_gpu *vk, const struct vk_retired *object); // ticket is filled in
void vk_retire_collect(struct vk_gpu *vk);                          // destroys what is done
struct gpu_commands *vk_commands_create(struct gpu *gpu, const struct gpu_commands_params *params);
void vk_commands_destroy(struct gpu *gpu, struct gpu_commands *commands);
bool vk_commands_dispatch(struct gpu_commands *commands, const struct gpu_dispatch *dispatch);
bool vk_commands_copy(struct gpu_commands *commands, const struct gpu_bind *from,
                      const struct gpu_bind *to);
bool vk_commands_fill(struct gpu_commands *commands, const struct gpu_bind *range, uint32_t word);
bool vk_commands_barrier(struct gpu_commands *commands);
bool vk_commands_end(struct gpu_commands *commands);
uint64_t vk_submit(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count);
bool vk_wait(struct gpu *gpu, uint64_t ticket);
bool vk_done(struct gpu *gpu, uint64_t ticket);

// vk_copy.c
bool vk_copies_create(struct vk_gpu *vk, enum gpu_copies wanted);
void vk_copies_finish(struct vk_gpu *vk);
bool vk_copies_settle(struct vk_gpu *vk); // waits for what the transfer queue has
uint64_t vk_copy(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count, uint64_t after);
bool vk_copy_wait(struct gpu *gpu, uint64_t ticket);
bool vk_copy_done(struct gpu *gpu, uint64_t ticket);
void vk_after_copy(struct gpu *gpu, uint64_t ticket);
const char *vk_copy_choice(struct gpu *gpu);

// vk_timer.c
bool vk_timer_create(struct vk_commands *commands);
bool vk_commands_timestamp(struct gpu_commands *commands, uint32_t slot);
bool vk_commands_times(struct gpu *gpu, struct gpu_commands *commands, double *ms);
