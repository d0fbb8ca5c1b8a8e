// SPDX-License-Identifier: MIT
// The Vulkan device: finds all there are, takes the best or the one that was asked for, opens it
// with the abilities that are present and not masked, and is the table that gpu*.c calls through.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

bool vk_ok(struct vk_gpu *vk, VkResult result, const char *what)
{
    if (result >= 0)
        return true;
    if (result != VK_ERROR_DEVICE_LOST)
        log_error("%s: %s failed: %s (%d)", vk->physical.caps.name, what, vk_result_text(result),
                  result);
    else if (!vk->base.lost)
        log_error("%s: the device was lost (the driver reset it) at %s: start again from the last "
                  "checkpoint",
                  vk->physical.caps.name, what);
    vk->base.lost |= result == VK_ERROR_DEVICE_LOST;
    return false;
}

void vk_name(struct vk_gpu *vk, VkObjectType type, uint64_t handle, const char *name)
{
    if (vk->instance.debug_utils && name)
        vkSetDebugUtilsObjectNameEXT(vk->device, &(VkDebugUtilsObjectNameInfoEXT){
            .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
            .objectType = type, .objectHandle = handle, .pObjectName = name});
}

// ---- finding

static int rank(const struct vk_physical *p)
{
    if (p->problem[0])
        return -1;
    switch (p->caps.type) {
    case GPU_TYPE_DISCRETE:   return 4;
    case GPU_TYPE_INTEGRATED: return 3;
    case GPU_TYPE_VIRTUAL:    return 2;
    case GPU_TYPE_CPU:        return 1;
    case GPU_TYPE_OTHER:      return 0;
    }
    return 0;
}

static bool better(const struct vk_physical *a, const struct vk_physical *b)
{
    if (rank(a) != rank(b))
        return rank(a) > rank(b);
    return a->caps.heap_bytes > b->caps.heap_bytes;
}

// Insertion sort: stable, so equal devices stay in the driver's order.
static void sort_best_first(struct vk_physical *list, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t j = i; j > 0 && better(&list[j], &list[j - 1]); j--) {
            const struct vk_physical t = list[j];
            list[j] = list[j - 1];
            list[j - 1] = t;
        }
}

int vk_enumerate(const struct vk_instance *instance, struct vk_physical **list)
{
    *list = NULL;
    uint32_t count = 0;
    VkResult result = vkEnumeratePhysicalDevices(instance->handle, &count, NULL);
    VkPhysicalDevice *handles = os_alloc(count * sizeof *handles);
    if (result == VK_SUCCESS)
        result = vkEnumeratePhysicalDevices(instance->handle, &count, handles);
    if (result < 0 && result != VK_ERROR_INITIALIZATION_FAILED) { // that one: no driver could start
        log_error("Vulkan could not list its devices: %s (%d)", vk_result_text(result), result);
        free(handles);
        return -1;
    }
    if (result < 0)
        count = 0;
    *list = os_alloc(count * sizeof **list);
    const uint32_t version = volkGetInstanceVersion();
    for (uint32_t i = 0; i < count; i++) {
        (*list)[i].handle = handles[i];
        (*list)[i].api_version =
            version < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3;
        vk_physical_fill(&(*list)[i]);
    }
    free(handles);
    sort_best_first(*list, count);
    return (int)count;
}

int gpu_vk_list(struct gpu_caps *list, int max)
{
    struct vk_instance  instance;
    struct vk_physical *found = NULL;
    int                 usable = -1;
    if (!vk_instance_create(&instance, false))
        return -1;
    const int count = vk_enumerate(&instance, &found);
    if (count >= 0)
        usable = 0;
    for (int i = 0; i < count; i++) {
        if (found[i].problem[0]) {
            log_warn("%s cannot be used: %s", found[i].caps.name, found[i].problem);
            continue;
        }
        if (usable < max)
            list[usable] = found[i].caps;
        usable++;
    }
    free(found);
    vk_instance_destroy(&instance);
    return usable;
}

// ---- choosing

static bool contains(const char *text, const char *part)
{
    const size_t length = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < length && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == length)
            return true;
    }
    return length == 0;
}

// The index of the device that `wanted` means among the usable ones, -1 if none: its number, else a
// part of its name, else of its driver's, else its type.
static int match(const struct vk_physical *list, int usable, const char *wanted)
{
    char      *end;
    const long index = strtol(wanted, &end, 10);
    if (end != wanted && !*end && index >= 0 && index < usable)
        return (int)index;
    for (int i = 0; i < usable; i++)
        if (contains(list[i].caps.name, wanted))
            return i;
    for (int i = 0; i < usable; i++)
        if (contains(list[i].caps.driver, wanted))
            return i;
    for (int i = 0; i < usable; i++)
        if (contains(gpu_type_name(list[i].caps.type), wanted))
            return i;
    return -1;
}

static void log_no_such(const struct vk_physical *list, int usable, const char *wanted)
{
    char text[1024] = "";
    for (int i = 0; i < usable && strlen(text) + 300 < sizeof text; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d \"%s\"", i ? ", " : "", i,
                 list[i].caps.name);
    log_error("no device \"%s\"; there %s %s, and ref", wanted, usable == 1 ? "is" : "are", text);
}

int vk_pick(const struct vk_physical *list, int count, const char *wanted)
{
    if (count == 0) {
        log_error("no Vulkan device: install your card's driver or mesa-vulkan-drivers (for any "
                  "CPU), or use "
                  "--device ref");
        return -1;
    }
    int usable = 0;
    while (usable < count && !list[usable].problem[0])
        usable++;
    if (usable == 0) {
        log_error("no Vulkan device that can be used: %s: %s", list[0].caps.name, list[0].problem);
        return -1;
    }
    const int index = wanted && wanted[0] ? match(list, usable, wanted) : 0;
    if (index < 0)
        log_no_such(list, usable, wanted);
    return index;
}

static void choice_tell(struct vk_gpu *vk, int index, int count, const char *wanted)
{
    const struct gpu_caps *caps = &vk->base.gpu.caps;
    char                   why[160];
    if (wanted && wanted[0])
        snprintf(why, sizeof why, "it matches \"%.100s\"", wanted);
    else if (count == 1)
        snprintf(why, sizeof why, "the only Vulkan device");
    else
        snprintf(why, sizeof why, "the best of %d Vulkan devices", count);
    snprintf(vk->base.choice, sizeof vk->base.choice, "device %d, %s (%s, %s): %s", index,
             caps->name, gpu_type_name(caps->type), caps->driver, why);
    vk->base.gpu.choice = vk->base.choice;
}

// ---- opening

static void link_front(void **chain, void *link)
{
    ((VkBaseOutStructure *)link)->pNext = *chain;
    *chain = link;
}

static VkResult open_device(struct vk_gpu *vk, uint32_t mask)
{
    const struct vk_physical *p = &vk->physical;
    void                     *chain = NULL;
    const char               *names[12];
    uint32_t                  count = 0;
    names[count++] = VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME;
    if (p->portability)
        names[count++] = "VK_KHR_portability_subset";
    if (mask & GPU_CAP_BUDGET)
        names[count++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (mask & GPU_CAP_HOSTMEM)
        names[count++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    VkPhysicalDeviceSubgroupSizeControlFeatures sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .subgroupSizeControl = VK_TRUE, .computeFullSubgroups = VK_TRUE};
    if (mask & GPU_CAP_SIZE) {
        link_front(&chain, &sizes);
        if (p->size_extension)
            names[count++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    }
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = VK_TRUE};
    if (mask & GPU_CAP_STATISTICS) {
        link_front(&chain, &statistics);
        names[count++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    }
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coop = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .cooperativeMatrix = VK_TRUE};
    if (mask & GPU_CAP_COOP) {
        link_front(&chain, &coop);
        names[count++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    }
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
        .shaderBFloat16Type = VK_TRUE,
        .shaderBFloat16CooperativeMatrix = mask & GPU_CAP_COOP && p->bf16_matrices};
    if (mask & GPU_CAP_BF16) {
        link_front(&chain, &bf16);
        names[count++] = VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME;
    }
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV coop2 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
        .cooperativeMatrixFlexibleDimensions = VK_TRUE,
        .cooperativeMatrixConversions = VK_TRUE,
        .cooperativeMatrixPerElementOperations = VK_TRUE,
        .cooperativeMatrixWorkgroupScope = (mask & GPU_CAP_TENSOR) != 0,
        .cooperativeMatrixTensorAddressing = (mask & GPU_CAP_TENSOR) != 0};
    // sizes of workgroups by constants, in SPIR-V 1.6
    VkPhysicalDeviceMaintenance4Features maintenance4 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
        .maintenance4 = VK_TRUE};
    if (mask & GPU_CAP_COOP2) {
        link_front(&chain, &maintenance4);
        link_front(&chain, &coop2);
        names[count++] = VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME;
    }
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
        .scalarBlockLayout = VK_TRUE,
        .shaderFloat16 = (mask & GPU_CAP_F16) != 0,
        .bufferDeviceAddress = (mask & GPU_CAP_ADDRESS) != 0,
        .vulkanMemoryModel = (mask & GPU_CAP_COOP) != 0,
        .vulkanMemoryModelDeviceScope = (mask & GPU_CAP_COOP) != 0,
        .shaderInt8 = p->int8,
        .storageBuffer8BitAccess = p->storage8,
        .shaderSubgroupExtendedTypes = p->extended_types,
    };
    link_front(&chain, &v12);
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .storageBuffer16BitAccess = (mask & GPU_CAP_STORAGE16) != 0,
    };
    link_front(&chain, &v11);
    // a read past the end of a binding must not bring the device down or read another buffer
    const VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .pNext = chain,
        .features = {.robustBufferAccess = p->robust,
                     .shaderInt16 = p->int16,
                     .shaderInt64 = p->int64},
    };
    const float priority = 1;
    const VkDeviceQueueCreateInfo queues[2] = {
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = p->family, .queueCount = 1, .pQueuePriorities = &priority},
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = p->transfer_family, .queueCount = 1, .pQueuePriorities = &priority},
    };
    return vkCreateDevice(p->handle, &(VkDeviceCreateInfo){
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features,
        .queueCreateInfoCount = mask & GPU_CAP_TRANSFER ? 2 : 1,
        .pQueueCreateInfos = queues,
        .enabledExtensionCount = count,
        .ppEnabledExtensionNames = names,
    }, NULL, &vk->device);
}

static uint64_t validation_messages(const struct gpu *gpu)
{
    return vk_gpu(gpu)->instance.messages;
}

static void destroy(struct gpu *gpu)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    if (vk->device) {
        // RADV's null devices fall over when there is nothing to wait for
        if (vk->base.submitted || vk->base.copied)
            vk->fn.vkDeviceWaitIdle(vk->device);
        vk_staging_finish(vk);
        vk_copies_finish(vk);
        vk_queue_finish(vk);
        vk_cache_finish(vk);
        vk_memory_finish(vk);
        vk->fn.vkDestroyDevice(vk->device, NULL);
    }
    vk_instance_destroy(&vk->instance);
    free(vk);
}

static const struct gpu_backend vk_backend = {
    .destroy = destroy,
    .validation_messages = validation_messages,
    .buffer_create = vk_buffer_create,
    .buffer_import = vk_buffer_import,
    .buffer_destroy = vk_buffer_destroy,
    .buffer_write = vk_buffer_write,
    .buffer_read = vk_buffer_read,
    .memory_held = vk_memory_held,
    .memory_resident = vk_memory_resident,
    .memory_budget = vk_memory_budget,
    .kernel_create = vk_kernel_create,
    .kernel_destroy = vk_kernel_destroy,
    .kernel_statistics = vk_kernel_statistics,
    .commands_create = vk_commands_create,
    .commands_destroy = vk_commands_destroy,
    .commands_dispatch = vk_commands_dispatch,
    .commands_copy = vk_commands_copy,
    .commands_fill = vk_commands_fill,
    .commands_barrier = vk_commands_barrier,
    .commands_timestamp = vk_commands_timestamp,
    .commands_end = vk_commands_end,
    .commands_times = vk_commands_times,
    .submit = vk_submit,
    .wait = vk_wait,
    .done = vk_done,
    .copy = vk_copy,
    .copy_wait = vk_copy_wait,
    .copy_done = vk_copy_done,
    .after_copy = vk_after_copy,
    .copy_choice = vk_copy_choice,
};

// Picks the physical device and fills in the caps that are left after the mask.
static bool choose(struct vk_gpu *vk, const struct gpu_params *params)
{
    uint32_t            keep = 0;
    struct vk_physical *list = NULL;
    if (!gpu_caps_keep(params->caps, &keep))
        return false;
    const int count = vk_enumerate(&vk->instance, &list);
    const int index = count < 0 ? -1 : vk_pick(list, count, params->device);
    if (index >= 0) {
        struct gpu_caps *caps = &vk->base.gpu.caps;
        vk->physical = list[index];
        *caps = vk->physical.caps;
        caps->mask &= keep;
        vk_matrices_mask(caps);
        if (!(caps->mask & GPU_CAP_TIMESTAMP))
            caps->timestamp_ns = 0;
        if (!(caps->mask & GPU_CAP_HOSTMEM))
            caps->import_alignment = 0;
        if (!(caps->mask & GPU_CAP_SIZE))
            caps->subgroup_size = caps->subgroup_min = caps->subgroup_max =
                vk->physical.default_size;
        choice_tell(vk, index, count, params->device);
    }
    free(list);
    return index >= 0;
}

struct gpu *gpu_vk_create(const struct gpu_params *params)
{
    struct vk_gpu *vk = os_alloc(sizeof *vk);
    vk->base.gpu.backend = &vk_backend;
    struct gpu *gpu = &vk->base.gpu;
    if (!vk_instance_create(&vk->instance, params->validate) || !choose(vk, params))
        goto fail;
    // robust accesses would hide from GPU-assisted validation what it is asked to find
    if (params->validate == GPU_VALIDATION_ACCESSES)
        vk->physical.robust = false;
    const VkResult result = open_device(vk, gpu->caps.mask);
    if (!VK_MADE(vk, vk->device, result, "opening the device"))
        goto fail;
    volkLoadDeviceTable(&vk->fn, vk->device);
    vk->fn.vkGetDeviceQueue(vk->device, vk->physical.family, 0, &vk->queue);
    vkGetPhysicalDeviceMemoryProperties(vk->physical.handle, &vk->memory);
    if (vk_queue_create(vk) && vk_copies_create(vk, params->copies) &&
        vk_cache_create(vk, params->cache_dir))
        return gpu;
fail:
    gpu_destroy(&gpu);
    return NULL;
}
