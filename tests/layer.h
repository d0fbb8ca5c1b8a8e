// SPDX-License-Identifier: MIT
// What the tests' own Vulkan layers share: the loader's interface to layers (vk_layer.h, which not
// every machine has).
#pragma once

#define EXPORT __attribute__((visibility("default")))

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

static inline struct chain *find_link(const void *next, int type)
{
    for (struct chain *at = (struct chain *)next; at; at = (struct chain *)at->next)
        if ((int)at->type == type && at->function == LINK_INFO) return at;
    return NULL;
}
