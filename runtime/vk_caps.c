// SPDX-License-Identifier: MIT
// What a physical device can do, as struct gpu_caps, and the named faults of drivers: the only
// place that asks which driver or vendor it is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/os.h"
#include "runtime/vk.h"

struct extensions {
    VkExtensionProperties *list;
    uint32_t               count;
};

static struct extensions extensions_get(VkPhysicalDevice device)
{
    struct extensions e = {0};
    if (vkEnumerateDeviceExtensionProperties(device, NULL, &e.count, NULL) != VK_SUCCESS)
        e.count = 0;
    e.list = os_alloc(e.count * sizeof *e.list);
    if (vkEnumerateDeviceExtensionProperties(device, NULL, &e.count, e.list) < 0)
        e.count = 0;
    return e;
}

static bool has(const struct extensions *e, const char *name)
{
    for (uint32_t i = 0; i < e->count; i++)
        if (strcmp(e->list[i].extensionName, name) == 0)
            return true;
    return false;
}

static enum gpu_type type_of(VkPhysicalDeviceType type)
{
    switch ((int)type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return GPU_TYPE_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:   return GPU_TYPE_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:    return GPU_TYPE_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:            return GPU_TYPE_CPU;
    default:                                     return GPU_TYPE_OTHER;
    }
}

// The queue to take: compute without graphics where it has timestamps (it does not disturb the
// desktop), else any with compute. False where there is none.
static bool family_pick(struct vk_physical *p)
{
    uint32_t count = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(p->handle, &count, NULL);
    VkQueueFamilyProperties *list = os_alloc(count * sizeof *list);
    vkGetPhysicalDeviceQueueFamilyProperties(p->handle, &count, list);
    int best = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!(list[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || !list[i].queueCount)
            continue;
        const bool graphics = list[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
        const int  score = 1 + !graphics + 2 * (list[i].timestampValidBits > 0);
        if (score <= best)
            continue;
        best = score;
        p->family = i;
        p->timestamp_bits = list[i].timestampValidBits;
    }
    free(list);
    return best > 0;
}

// A queue that can copy and nothing else: on cards, an engine of its own.
static uint32_t transfer_family(VkPhysicalDevice device)
{
    const VkQueueFlags none = VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT;
    uint32_t           count = 0, found = UINT32_MAX;
    vkGetPhysicalDeviceQueueFamilyProperties(device, &count, NULL);
    VkQueueFamilyProperties *list = os_alloc(count * sizeof *list);
    vkGetPhysicalDeviceQueueFamilyProperties(device, &count, list);
    for (uint32_t i = 0; i < count && found == UINT32_MAX; i++)
        if (list[i].queueFlags & VK_QUEUE_TRANSFER_BIT && !(list[i].queueFlags & none) &&
            list[i].queueCount)
            found = i;
    free(list);
    return found;
}

// Everything the driver is asked, in one chain each.
struct answers {
    VkPhysicalDeviceProperties2                             properties;
    VkPhysicalDeviceVulkan11Properties                      properties11;
    VkPhysicalDeviceVulkan12Properties                      properties12;
    VkPhysicalDeviceSubgroupSizeControlProperties           sizes;
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT         host;
    VkPhysicalDeviceFeatures2                               features;
    VkPhysicalDeviceVulkan11Features                        features11;
    VkPhysicalDeviceVulkan12Features                        features12;
    VkPhysicalDeviceSubgroupSizeControlFeatures             size_control;
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR            coop;
    VkPhysicalDeviceShaderBfloat16FeaturesKHR               bf16;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV            coop2;
    VkPhysicalDeviceCooperativeMatrix2PropertiesNV          coop2_limits;
    VkPhysicalDeviceMaintenance4Features                    maintenance4;
    VkPhysicalDeviceMemoryProperties                        memory;
};

static void link_next(void *link, void *next)
{
    ((VkBaseOutStructure *)link)->pNext = next;
}

// `core13`: Vulkan 1.3, which modules of VK_NV_cooperative_matrix2 need (SPIR-V 1.6).
static void ask(VkPhysicalDevice device, const struct extensions *e, bool has_sizes, bool core13,
                struct answers *a)
{
    *a = (struct answers){
        .properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                       .pNext = &a->properties11},
        .properties11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
                         .pNext = &a->properties12},
        .properties12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES},
        .sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES},
        .host = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT},
        .features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                     .pNext = &a->features11},
        .features11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                       .pNext = &a->features12},
        .features12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES},
        .size_control = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES},
        .statistics =
            {.sType =
                 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR},
        .coop = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR},
        .bf16 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR},
        .coop2 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV},
        .maintenance4 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES},
        .coop2_limits =
            {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV},
    };
    const bool coop = has(e, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    const bool coop2 = coop && core13 && has(e, VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME);
    if (has(e, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)) {
        a->host.pNext = a->properties.pNext;
        a->properties.pNext = &a->host;
    }
    void *end = &a->features12;
    if (has_sizes) {
        link_next(&a->properties12, &a->sizes);
        link_next(end, &a->size_control);
        end = &a->size_control;
    }
    if (has(e, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME)) {
        link_next(end, &a->statistics);
        end = &a->statistics;
    }
    if (coop) {
        link_next(end, &a->coop);
        end = &a->coop;
    }
    if (has(e, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME)) {
        link_next(end, &a->bf16);
        end = &a->bf16;
    }
    if (coop2) {
        link_next(end, &a->coop2);
        link_next(&a->coop2, &a->maintenance4);
        link_next(has_sizes ? (void *)&a->sizes : &a->properties12, &a->coop2_limits);
    }
    vkGetPhysicalDeviceProperties2(device, &a->properties);
    vkGetPhysicalDeviceFeatures2(device, &a->features);
    vkGetPhysicalDeviceMemoryProperties(device, &a->memory);
}

static void set(uint32_t *mask, enum gpu_cap cap, bool present)
{
    if (present)
        *mask |= cap;
}

// Formats and length of texel buffers: what gpu.h says of GPU_CAP_TEXEL.
static bool has_texels(VkPhysicalDevice device, const VkPhysicalDeviceLimits *limits)
{
    static const VkFormat formats[] = {VK_FORMAT_R32G32_UINT, VK_FORMAT_R32G32B32A32_UINT};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        VkFormatProperties p;
        vkGetPhysicalDeviceFormatProperties(device, formats[i], &p);
        if (!(p.bufferFeatures & VK_FORMAT_FEATURE_UNIFORM_TEXEL_BUFFER_BIT))
            return false;
    }
    return 8ull * limits->maxTexelBufferElements >= limits->maxStorageBufferRange;
}

static uint32_t mask_of(const struct answers *a, const struct extensions *e, bool has_sizes,
                        uint32_t timestamp_bits, bool unified)
{
    const VkSubgroupFeatureFlags wanted =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_VOTE_BIT |
        VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_BALLOT_BIT |
        VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    const VkPhysicalDeviceVulkan11Properties *p11 = &a->properties11;
    uint32_t mask = 0;
    set(&mask, GPU_CAP_STORAGE16,
        a->features11.storageBuffer16BitAccess && a->features.features.shaderInt16);
    set(&mask, GPU_CAP_F16, a->features12.shaderFloat16);
    set(&mask, GPU_CAP_SUBGROUP, p11->subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT
                                     && (p11->subgroupSupportedOperations & wanted) == wanted);
    set(&mask, GPU_CAP_SIZE,
        has_sizes && a->size_control.subgroupSizeControl && a->size_control.computeFullSubgroups &&
            a->sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    set(&mask, GPU_CAP_ADDRESS, a->features12.bufferDeviceAddress);
    set(&mask, GPU_CAP_TIMESTAMP,
        timestamp_bits && a->properties.properties.limits.timestampPeriod > 0);
    set(&mask, GPU_CAP_BUDGET, has(e, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME));
    set(&mask, GPU_CAP_HOSTMEM,
        has(e, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME) &&
            a->host.minImportedHostPointerAlignment <= UINT32_MAX);
    set(&mask, GPU_CAP_STATISTICS, a->statistics.pipelineExecutableInfo);
    // device scope: with the memory model on, every barrier and atomic between workgroups needs it
    set(&mask, GPU_CAP_COOP,
        a->coop.cooperativeMatrix && a->features12.vulkanMemoryModel &&
            a->features12.vulkanMemoryModelDeviceScope);
    set(&mask, GPU_CAP_MAPPED, unified);
    set(&mask, GPU_CAP_BF16, a->bf16.shaderBFloat16Type);
    const VkPhysicalDeviceCooperativeMatrix2FeaturesNV *coop2 = &a->coop2;
    set(&mask, GPU_CAP_COOP2,
        mask & GPU_CAP_COOP && a->maintenance4.maintenance4 &&
            coop2->cooperativeMatrixFlexibleDimensions &&
            coop2->cooperativeMatrixConversions && coop2->cooperativeMatrixPerElementOperations);
    set(&mask, GPU_CAP_TENSOR, mask & GPU_CAP_COOP2 && coop2->cooperativeMatrixWorkgroupScope &&
                                   coop2->cooperativeMatrixTensorAddressing);
    return mask;
}

static uint64_t device_heap(const VkPhysicalDeviceMemoryProperties *memory)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
        if (memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT &&
            memory->memoryHeaps[i].size > bytes)
            bytes = memory->memoryHeaps[i].size;
    return bytes;
}

// Device memory is host memory where the largest device-local heap is mapped whole and the device
// says that it has none of its own.
static bool is_unified(enum gpu_type type, const VkPhysicalDeviceMemoryProperties *memory)
{
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
                                         VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                         VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (type != GPU_TYPE_CPU && type != GPU_TYPE_INTEGRATED)
        return false;
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++)
        if ((memory->memoryTypes[i].propertyFlags & wanted) == wanted
            && memory->memoryHeaps[memory->memoryTypes[i].heapIndex].size == device_heap(memory))
            return true;
    return false;
}

// The size that kernels are planned for: 32 lanes where the device lets it be chosen, or the
// nearest that it has; else what it reports.
static void sizes_fill(struct gpu_caps *caps, const struct answers *a)
{
    caps->subgroup_size = a->properties11.subgroupSize ? a->properties11.subgroupSize : 1;
    caps->subgroup_min = caps->subgroup_max = caps->subgroup_size;
    if (!(caps->mask & GPU_CAP_SIZE))
        return;
    caps->subgroup_min = a->sizes.minSubgroupSize;
    caps->subgroup_max = a->sizes.maxSubgroupSize;
    caps->subgroup_size = caps->subgroup_max < 32 ? caps->subgroup_max : 32;
    if (caps->subgroup_size < caps->subgroup_min)
        caps->subgroup_size = caps->subgroup_min;
}

// Faults of drivers.
static void workarounds_fill(struct gpu_caps *caps, const struct answers *a)
{
    // lavapipe, Mesa 22.3.6: the heap is reported as 2 GiB whatever the machine has, 6 GB were
    // allocated and written. Later versions report all memory.
    if (a->properties12.driverID == VK_DRIVER_ID_MESA_LLVMPIPE && caps->heap_bytes == 2ull << 30) {
        caps->workarounds |= GPU_WORKAROUND_HEAP_SIZE;
        caps->heap_bytes = os_memory_limit();
    }
    const uint64_t most = os_memory_for_buffers();
    if (caps->type == GPU_TYPE_CPU && caps->heap_bytes > most) caps->heap_bytes = most;
}

static void caps_fill(struct gpu_caps *caps, const struct answers *a)
{
    const VkPhysicalDeviceProperties *p = &a->properties.properties;
    const VkPhysicalDeviceLimits     *l = &p->limits;
    snprintf(caps->name, sizeof caps->name, "%s", p->deviceName);
    snprintf(caps->driver, sizeof caps->driver, "%.127s %.120s", a->properties12.driverName,
             a->properties12.driverInfo);
    static const uint8_t no_uuid[VK_UUID_SIZE];
    const bool           none = memcmp(a->properties11.deviceUUID, no_uuid, VK_UUID_SIZE) == 0;
    memcpy(caps->uuid, none ? p->pipelineCacheUUID : a->properties11.deviceUUID, VK_UUID_SIZE);
    caps->api_version = p->apiVersion;
    caps->driver_version = p->driverVersion;
    caps->vendor_id = p->vendorID;
    caps->device_id = p->deviceID;
    sizes_fill(caps, a);
    caps->shared_bytes = l->maxComputeSharedMemorySize;
    caps->max_workgroup = l->maxComputeWorkGroupInvocations;
    if (caps->max_workgroup > l->maxComputeWorkGroupSize[0])
        caps->max_workgroup = l->maxComputeWorkGroupSize[0];
    memcpy(caps->max_groups, l->maxComputeWorkGroupCount, sizeof caps->max_groups);
    caps->push_bytes = l->maxPushConstantsSize;
    caps->max_range = l->maxStorageBufferRange;
    caps->max_allocation = a->properties11.maxMemoryAllocationSize;
    caps->heap_bytes = device_heap(&a->memory);
    caps->offset_alignment =
        l->minStorageBufferOffsetAlignment < 4 ? 4 : (uint32_t)l->minStorageBufferOffsetAlignment;
    if (caps->mask & GPU_CAP_TEXEL && caps->offset_alignment < l->minTexelBufferOffsetAlignment)
        caps->offset_alignment = (uint32_t)l->minTexelBufferOffsetAlignment;
    if (caps->mask & GPU_CAP_HOSTMEM)
        caps->import_alignment = (uint32_t)a->host.minImportedHostPointerAlignment;
    caps->timestamp_ns = caps->mask & GPU_CAP_TIMESTAMP ? l->timestampPeriod : 0;
    workarounds_fill(caps, a);
    caps->flexible_max = a->coop2_limits.cooperativeMatrixFlexibleDimensionsMaxDimension;
    caps->reserved_shared = a->coop2_limits.cooperativeMatrixWorkgroupScopeReservedSharedMemory;
}

static const char *missing(const struct answers *a, const struct extensions *e)
{
    if (!has(e, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME))
        return VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME;
    if (!a->features12.timelineSemaphore)
        return "timeline semaphores";
    if (!a->features12.scalarBlockLayout)
        return "scalar block layout";
    return NULL;
}

void vk_physical_fill(struct vk_physical *p)
{
    VkPhysicalDeviceProperties basic;
    vkGetPhysicalDeviceProperties(p->handle, &basic);
    p->caps = (struct gpu_caps){.type = type_of(basic.deviceType), .api_version = basic.apiVersion};
    memcpy(p->cache_uuid, basic.pipelineCacheUUID, VK_UUID_SIZE);
    snprintf(p->caps.name, sizeof p->caps.name, "%s", basic.deviceName);
    if (basic.apiVersion < VK_API_VERSION_1_2) {
        snprintf(p->problem, sizeof p->problem,
                 "its driver has Vulkan %u.%u, 1.2 is needed: update the driver",
                 VK_API_VERSION_MAJOR(basic.apiVersion), VK_API_VERSION_MINOR(basic.apiVersion));
        return;
    }
    p->transfer_family = transfer_family(p->handle);
    if (!family_pick(p)) {
        snprintf(p->problem, sizeof p->problem, "it has no compute queue");
        return;
    }
    const struct extensions e = extensions_get(p->handle);
    if (basic.apiVersion < p->api_version)
        p->api_version = basic.apiVersion;
    p->size_extension = p->api_version < VK_API_VERSION_1_3;
    const bool has_sizes =
        !p->size_extension || has(&e, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    struct answers a;
    ask(p->handle, &e, has_sizes, !p->size_extension, &a);
    p->portability = has(&e, "VK_KHR_portability_subset");
    p->int16 = a.features.features.shaderInt16;
    p->int64 = a.features.features.shaderInt64;
    p->robust = a.features.features.robustBufferAccess;
    p->int8 = a.features12.shaderInt8;
    p->storage8 = a.features12.storageBuffer8BitAccess;
    p->extended_types = a.features12.shaderSubgroupExtendedTypes;
    p->caps.unified = is_unified(p->caps.type, &a.memory);
    p->caps.mask = mask_of(&a, &e, has_sizes, p->timestamp_bits, p->caps.unified);
    set(&p->caps.mask, GPU_CAP_TRANSFER, p->transfer_family != UINT32_MAX);
    set(&p->caps.mask, GPU_CAP_TEXEL, has_texels(p->handle, &a.properties.properties.limits));
    p->default_size = a.properties11.subgroupSize ? a.properties11.subgroupSize : 1;
    caps_fill(&p->caps, &a);
    vk_matrices_fill(&p->caps, p->handle);
    p->bf16_matrices = a.bf16.shaderBFloat16CooperativeMatrix;
    if (missing(&a, &e))
        snprintf(p->problem, sizeof p->problem, "its driver has no %s: update the driver",
                 missing(&a, &e));
    free(e.list);
}
