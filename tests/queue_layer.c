// SPDX-License-Identifier: MIT
// A Vulkan layer that plays a second queue family, which can only copy: what runs on it runs on the
// device's own queue. So that copies beside the compute, with a timeline of their own, are tested
// where the driver has one queue (lavapipe).
#define VK_NO_PROTOTYPES
#include "runtime/vk.h" // Vulkan's types

#include "tests/layer.h"

enum { FAMILIES_MOST = 16 };

static struct {
    PFN_vkGetPhysicalDeviceQueueFamilyProperties families;
    PFN_vkGetDeviceQueue    queue;
    PFN_vkCreateCommandPool pool;
    PFN_vkCreateBuffer      buffer;
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
    const VkResult result = layer_create_instance(info, callbacks, out);
    if (result != VK_SUCCESS) return result;
    next.families = (PFN_vkGetPhysicalDeviceQueueFamilyProperties)layer_next_instance(
        "vkGetPhysicalDeviceQueueFamilyProperties");
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice physical,
                                                         const VkDeviceCreateInfo *info,
                                                         const VkAllocationCallbacks *callbacks,
                                                         VkDevice *out)
{
    second = own_family(physical);
    VkDeviceQueueCreateInfo queues[FAMILIES_MOST];
    VkDeviceCreateInfo      own = *info;
    own.pQueueCreateInfos = queues;
    own.queueCreateInfoCount = 0;
    for (uint32_t i = 0; i < info->queueCreateInfoCount && i < FAMILIES_MOST; i++)
        if (info->pQueueCreateInfos[i].queueFamilyIndex != second)
            queues[own.queueCreateInfoCount++] = info->pQueueCreateInfos[i];
    const VkResult result = layer_create_device(physical, &own, callbacks, out);
    if (result != VK_SUCCESS) return result;
    next.queue = (PFN_vkGetDeviceQueue)layer_next_device(*out, "vkGetDeviceQueue");
    next.pool = (PFN_vkCreateCommandPool)layer_next_device(*out, "vkCreateCommandPool");
    next.buffer = (PFN_vkCreateBuffer)layer_next_device(*out, "vkCreateBuffer");
    return result;
}

#define OWN(name) {"vk" #name, (PFN_vkVoidFunction)layer_##name}
const struct layer_call layer_calls[] = {
    OWN(CreateInstance),    OWN(CreateDevice), OWN(GetPhysicalDeviceQueueFamilyProperties),
    OWN(CreateCommandPool), OWN(CreateBuffer), OWN(GetDeviceQueue), {NULL, NULL},
};
