// SPDX-License-Identifier: MIT
// A Vulkan layer that plays a second queue family, which can only copy: what runs on it runs on the
// device's own queue. So that copies beside the compute, with a timeline of their own, are tested
// where the driver has one queue (lavapipe).
#define VK_NO_PROTOTYPES
#include "runtime/vk.h" // Vulkan's types

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/layer.h"

enum { FAMILIES_MOST = 16 };

static struct {
    PFN_vkGetInstanceProcAddr instance_proc;
    PFN_vkGetDeviceProcAddr   device_proc;
    VkInstance                instance;
    PFN_vkGetPhysicalDeviceQueueFamilyProperties families;
    PFN_vkGetDeviceQueue      queue;
    PFN_vkCreateCommandPool   pool;
    PFN_vkCreateBuffer        buffer;
} next;

static uint32_t own_family(VkPhysicalDevice device)
{
    uint32_t count = 0;
    next.families(device, &count, NULL);
    return count;
}

static VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceQueueFamilyProperties(
    VkPhysicalDevice device, uint32_t *count, VkQueueFamilyProperties *list)
{
    const uint32_t family = own_family(device);
    if (!list) {
        *count = family + 1;
        return;
    }
    uint32_t filled = *count < family ? *count : family;
    next.families(device, &filled, list);
    if (*count > family) {
        list[family] = list[0];
        list[family].queueFlags = VK_QUEUE_TRANSFER_BIT;
        list[family].queueCount = 1;
        filled = family + 1;
    }
    *count = filled;
}

static uint32_t second; // number of the family that is not there

static VKAPI_ATTR void VKAPI_CALL layer_GetDeviceQueue(VkDevice device, uint32_t family,
                                                       uint32_t index, VkQueue *out)
{
    next.queue(device, family == second ? 0 : family, index, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateCommandPool(
    VkDevice device, const VkCommandPoolCreateInfo *info, const VkAllocationCallbacks *callbacks,
    VkCommandPool *out)
{
    VkCommandPoolCreateInfo own = *info;
    if (own.queueFamilyIndex == second) own.queueFamilyIndex = 0;
    return next.pool(device, &own, callbacks, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateBuffer(VkDevice device,
                                                         const VkBufferCreateInfo *info,
                                                         const VkAllocationCallbacks *callbacks,
                                                         VkBuffer *out)
{
    VkBufferCreateInfo own = *info;
    own.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
    own.queueFamilyIndexCount = 0;
    return next.buffer(device, &own, callbacks, out);
}

// ---- the chain

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateInstance(const VkInstanceCreateInfo *info,
                                                           const VkAllocationCallbacks *callbacks,
                                                           VkInstance *out)
{
    struct chain         *chain = find_link(info->pNext, STRUCTURE_INSTANCE);
    struct instance_link *link = chain->link;
    next.instance_proc = link->instance;
    chain->link = link->next;
    const PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)next.instance_proc(NULL, "vkCreateInstance");
    const VkResult result = create(info, callbacks, out);
    if (result != VK_SUCCESS) return result;
    next.instance = *out;
    next.families = (PFN_vkGetPhysicalDeviceQueueFamilyProperties)next.instance_proc(
        *out, "vkGetPhysicalDeviceQueueFamilyProperties");
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice physical,
                                                         const VkDeviceCreateInfo *info,
                                                         const VkAllocationCallbacks *callbacks,
                                                         VkDevice *out)
{
    struct chain       *chain = find_link(info->pNext, STRUCTURE_DEVICE);
    struct device_link *link = chain->link;
    next.device_proc = link->device;
    chain->link = link->next;
    const PFN_vkCreateDevice create =
        (PFN_vkCreateDevice)link->instance(next.instance, "vkCreateDevice");
    second = own_family(physical);
    VkDeviceQueueCreateInfo queues[FAMILIES_MOST];
    VkDeviceCreateInfo      own = *info;
    own.pQueueCreateInfos = queues;
    own.queueCreateInfoCount = 0;
    for (uint32_t i = 0; i < info->queueCreateInfoCount && i < FAMILIES_MOST; i++)
        if (info->pQueueCreateInfos[i].queueFamilyIndex != second)
            queues[own.queueCreateInfoCount++] = info->pQueueCreateInfos[i];
    const VkResult result = create(physical, &own, callbacks, out);
    if (result != VK_SUCCESS) return result;
    next.queue = (PFN_vkGetDeviceQueue)next.device_proc(*out, "vkGetDeviceQueue");
    next.pool = (PFN_vkCreateCommandPool)next.device_proc(*out, "vkCreateCommandPool");
    next.buffer = (PFN_vkCreateBuffer)next.device_proc(*out, "vkCreateBuffer");
    return result;
}

#define OWN(name) {"vk" #name, (PFN_vkVoidFunction)layer_##name}
static PFN_vkVoidFunction own(const char *name)
{
    static const struct { const char *name; PFN_vkVoidFunction function; } table[] = {
        OWN(CreateInstance),    OWN(CreateDevice), OWN(GetPhysicalDeviceQueueFamilyProperties),
        OWN(CreateCommandPool), OWN(CreateBuffer), OWN(GetDeviceQueue),
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) return table[i].function;
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_device_proc(VkDevice device, const char *name)
{
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)layer_device_proc;
    const PFN_vkVoidFunction function = own(name);
    return function ? function : next.device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_instance_proc(VkInstance instance,
                                                                    const char *name)
{
    if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (PFN_vkVoidFunction)layer_instance_proc;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)layer_device_proc;
    const PFN_vkVoidFunction function = own(name);
    if (function) return function;
    return next.instance_proc ? next.instance_proc(instance, name) : NULL;
}

EXPORT VkResult vkNegotiateLoaderLayerInterfaceVersion(struct negotiation *negotiation);
VkResult vkNegotiateLoaderLayerInterfaceVersion(struct negotiation *negotiation)
{
    if (negotiation->version > 2) negotiation->version = 2;
    negotiation->instance = layer_instance_proc;
    negotiation->device = layer_device_proc;
    negotiation->physical = NULL;
    return VK_SUCCESS;
}
