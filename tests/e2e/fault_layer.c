// SPDX-License-Identifier: MIT
// A Vulkan layer between program and driver that lets one call fail, so that the whole program
// meets a lost device or missing memory without a hook of its own. $VKMOE_FAULT says which, counted
// from 1:
//     allocate:N  vkAllocateMemory gives VK_ERROR_OUT_OF_DEVICE_MEMORY from the Nth call on
//     submit:N    vkQueueSubmit gives VK_ERROR_DEVICE_LOST from the Nth call on, and so does all
//                 that follows
//     wait:N      the same at vkWaitSemaphores
//     none        nothing fails; each count is written to stderr at the end
// A path instead of N: every call once there is a file by that name.
#define VK_NO_PROTOTYPES
#include "runtime/vk.h" // Vulkan's types

#include "tests/layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- what fails

enum call { CALL_ALLOCATE, CALL_SUBMIT, CALL_WAIT, CALL_COUNT };
static const char *const call_names[CALL_COUNT] = {"allocate", "submit", "wait"};
static unsigned counts[CALL_COUNT];
static bool     lost;

static struct {
    PFN_vkAllocateMemory           allocate;
    PFN_vkQueueSubmit              submit;
    PFN_vkWaitSemaphores           wait;
    PFN_vkDeviceWaitIdle           idle;
    PFN_vkGetSemaphoreCounterValue counter;
    PFN_vkDestroyDevice            destroy;
} next;

static bool fails(enum call call)
{
    const char  *fault = getenv("VKMOE_FAULT");
    const size_t length = strlen(call_names[call]);
    counts[call]++;
    if (!fault || strncmp(fault, call_names[call], length) != 0 || fault[length] != ':')
        return false;
    const char *when = fault + length + 1;
    return *when == '/' ? access(when, F_OK) == 0 : counts[call] >= strtoul(when, NULL, 10);
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_AllocateMemory(VkDevice device,
                                                           const VkMemoryAllocateInfo *info,
                                                           const VkAllocationCallbacks *callbacks,
                                                           VkDeviceMemory *out)
{
    return fails(CALL_ALLOCATE) ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                                : next.allocate(device, info, callbacks, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_QueueSubmit(VkQueue queue, uint32_t count,
                                                        const VkSubmitInfo *info, VkFence fence)
{
    lost |= fails(CALL_SUBMIT);
    return lost ? VK_ERROR_DEVICE_LOST : next.submit(queue, count, info, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_WaitSemaphores(VkDevice device,
                                                           const VkSemaphoreWaitInfo *info,
                                                           uint64_t timeout)
{
    const VkResult result =
        next.wait(device, info, timeout); // what runs must be done before its memory goes
    lost |= fails(CALL_WAIT);
    return lost ? VK_ERROR_DEVICE_LOST : result;
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_GetSemaphoreCounterValue(VkDevice device,
                                                                     VkSemaphore semaphore,
                                                                     uint64_t *value)
{
    return lost ? VK_ERROR_DEVICE_LOST : next.counter(device, semaphore, value);
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_DeviceWaitIdle(VkDevice device)
{
    const VkResult result = next.idle(device);
    return lost ? VK_ERROR_DEVICE_LOST : result;
}

static VKAPI_ATTR void VKAPI_CALL fault_DestroyDevice(VkDevice device,
                                                      const VkAllocationCallbacks *callbacks)
{
    const char *fault = getenv("VKMOE_FAULT");
    for (int i = 0; fault && strcmp(fault, "none") == 0 && i < CALL_COUNT; i++)
        fprintf(stderr, "fault: %s %u\n", call_names[i], counts[i]);
    next.destroy(device, callbacks);
}

// ---- the chain

static VKAPI_ATTR VkResult VKAPI_CALL fault_CreateInstance(const VkInstanceCreateInfo *info,
                                                           const VkAllocationCallbacks *callbacks,
                                                           VkInstance *out)
{
    return layer_create_instance(info, callbacks, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL fault_CreateDevice(VkPhysicalDevice physical,
                                                         const VkDeviceCreateInfo *info,
                                                         const VkAllocationCallbacks *callbacks,
                                                         VkDevice *out)
{
    const VkResult result = layer_create_device(physical, info, callbacks, out);
    if (result != VK_SUCCESS) return result;
    next.allocate = (PFN_vkAllocateMemory)layer_next_device(*out, "vkAllocateMemory");
    next.submit = (PFN_vkQueueSubmit)layer_next_device(*out, "vkQueueSubmit");
    next.wait = (PFN_vkWaitSemaphores)layer_next_device(*out, "vkWaitSemaphores");
    next.idle = (PFN_vkDeviceWaitIdle)layer_next_device(*out, "vkDeviceWaitIdle");
    next.counter = (PFN_vkGetSemaphoreCounterValue)layer_next_device(
        *out, "vkGetSemaphoreCounterValue");
    next.destroy = (PFN_vkDestroyDevice)layer_next_device(*out, "vkDestroyDevice");
    return result;
}

#define OWN(name) {"vk" #name, (PFN_vkVoidFunction)fault_##name}
const struct layer_call layer_calls[] = {
    OWN(CreateInstance), OWN(CreateDevice),   OWN(AllocateMemory),
    OWN(QueueSubmit),    OWN(WaitSemaphores), OWN(GetSemaphoreCounterValue),
    OWN(DeviceWaitIdle), OWN(DestroyDevice),  {NULL, NULL},
};
