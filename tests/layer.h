// SPDX-License-Identifier: MIT
// The tests' own Vulkan layers: a layer is a table of functions that stand before the driver's, and
// layer.c, which hangs it into the loader's chain. One instance and one device a process are enough
// here. Include it behind runtime/vk.h.
#pragma once

struct layer_call { const char *name; PFN_vkVoidFunction function; };
// The layer's own functions, the two below among them; the last has no name.
extern const struct layer_call layer_calls[];

// What vkCreateInstance and vkCreateDevice of a layer call: those of what is next in the chain,
// where the chain is that of info->pNext.
VkResult layer_create_instance(const VkInstanceCreateInfo  *info,
                               const VkAllocationCallbacks *callbacks, VkInstance *out);
VkResult layer_create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                             const VkAllocationCallbacks *callbacks, VkDevice *out);
// A function of what is next, once there is an instance or the device.
PFN_vkVoidFunction layer_next_instance(const char *name);
PFN_vkVoidFunction layer_next_device(VkDevice device, const char *name);
