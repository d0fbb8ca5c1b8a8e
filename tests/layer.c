// SPDX-License-Identifier: MIT
// How a layer of the tests (layer.h) comes into the loader's chain. The loader's interface to
// layers is declared here: not every machine has vk_layer.h.
#define VK_NO_PROTOTYPES
#include "runtime/vk.h" // Vulkan's types

#include <string.h>

#include "tests/layer.h"

enum { LINK_INFO = 0, STRUCTURE_INSTANCE = 47, STRUCTURE_DEVICE = 48 };

struct instance_link {
    struct instance_link *next;
    PFN_vkGetInstanceProcAddr instance;
    PFN_vkVoidFunction physical;
};
struct device_link {
    struct device_link *next;
    PFN_vkGetInstanceProcAddr instance;
    PFN_vkGetDeviceProcAddr device;
};
struct chain { VkStructureType type; const void *next; int function; void *link; };
struct negotiation {
    int   type;
    void *next;
    uint32_t version;
    PFN_vkGetInstanceProcAddr instance;
    PFN_vkGetDeviceProcAddr   device;
    PFN_vkVoidFunction        physical;
};

static struct {
    PFN_vkGetInstanceProcAddr instance_proc;
    PFN_vkGetDeviceProcAddr   device_proc;
    VkInstance                instance;
} next;

static struct chain *find_link(const void *first, int type)
{
    for (struct chain *at = (struct chain *)first; at; at = (struct chain *)at->next)
        if ((int)at->type == type && at->function == LINK_INFO) return at;
    return NULL;
}

VkResult layer_create_instance(const VkInstanceCreateInfo  *info,
                               const VkAllocationCallbacks *callbacks, VkInstance *out)
{
    struct chain         *chain = find_link(info->pNext, STRUCTURE_INSTANCE);
    struct instance_link *link = chain->link;
    next.instance_proc = link->instance;
    chain->link = link->next;
    const PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)next.instance_proc(NULL, "vkCreateInstance");
    const VkResult result = create(info, callbacks, out);
    if (result == VK_SUCCESS) next.instance = *out;
    return result;
}

VkResult layer_create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                             const VkAllocationCallbacks *callbacks, VkDevice *out)
{
    struct chain       *chain = find_link(info->pNext, STRUCTURE_DEVICE);
    struct device_link *link = chain->link;
    next.device_proc = link->device;
    chain->link = link->next;
    const PFN_vkCreateDevice create =
        (PFN_vkCreateDevice)link->instance(next.instance, "vkCreateDevice");
    return create(physical, info, callbacks, out);
}

PFN_vkVoidFunction layer_next_instance(const char *name)
{
    return next.instance_proc(next.instance, name);
}

PFN_vkVoidFunction layer_next_device(VkDevice device, const char *name)
{
    return next.device_proc(device, name);
}

static PFN_vkVoidFunction own(const char *name)
{
    for (const struct layer_call *call = layer_calls; call->name; call++)
        if (strcmp(call->name, name) == 0) return call->function;
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)device_proc;
    const PFN_vkVoidFunction function = own(name);
    return function ? function : next.device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (PFN_vkVoidFunction)instance_proc;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)device_proc;
    const PFN_vkVoidFunction function = own(name);
    if (function) return function;
    return next.instance_proc ? next.instance_proc(instance, name) : NULL;
}

__attribute__((visibility("default"))) VkResult
vkNegotiateLoaderLayerInterfaceVersion(struct negotiation *negotiation);
VkResult vkNegotiateLoaderLayerInterfaceVersion(struct negotiation *negotiation)
{
    if (negotiation->version > 2) negotiation->version = 2;
    negotiation->instance = instance_proc;
    negotiation->device = device_proc;
    negotiation->physical = NULL;
    return VK_SUCCESS;
}
