// SPDX-License-Identifier: MIT
// The Vulkan instance: finds the loader, turns on validation where asked, and hands its messages to
// the log.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

#define VALIDATION_NAME "VK_LAYER_KHRONOS_validation"

const char *vk_result_text(VkResult result)
{
    switch ((int)result) {
    case VK_SUCCESS:                        return "success";
    case VK_ERROR_OUT_OF_HOST_MEMORY:       return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:     return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED:    return "the driver could not start";
    case VK_ERROR_DEVICE_LOST:              return "device lost";
    case VK_ERROR_MEMORY_MAP_FAILED:        return "memory could not be mapped";
    case VK_ERROR_LAYER_NOT_PRESENT:        return "validation is not installed";
    case VK_ERROR_EXTENSION_NOT_PRESENT:    return "an extension is missing";
    case VK_ERROR_FEATURE_NOT_PRESENT:      return "a feature is missing";
    case VK_ERROR_INCOMPATIBLE_DRIVER:      return "no compatible driver";
    case VK_ERROR_TOO_MANY_OBJECTS:         return "too many objects";
    case VK_ERROR_INVALID_SHADER_NV:        return "invalid shader";
    default:                                return "an error of the driver";
    }
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)severity;
    if (types == VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT)
        return VK_FALSE; // the loader's own talk of drivers that it skips
    struct vk_instance *instance = user;
    instance->messages++;
    log_error("validation: %s", data->pMessage);
    return VK_FALSE;
}

static bool has_extension(const VkExtensionProperties *list, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i].extensionName, name) == 0)
            return true;
    return false;
}

static bool validation_installed(void)
{
    uint32_t count = 0;
    if (vkEnumerateInstanceLayerProperties(&count, NULL) != VK_SUCCESS)
        count = 0;
    VkLayerProperties *list = os_alloc(count * sizeof *list);
    bool found = false;
    if (vkEnumerateInstanceLayerProperties(&count, list) >= 0)
        for (uint32_t i = 0; i < count; i++)
            found |= strcmp(list[i].layerName, VALIDATION_NAME) == 0;
    free(list);
    return found;
}

// Loads the loader and asks its version; logs what to install where there is none.
static bool loader_start(uint32_t *version)
{
    if (volkInitialize() != VK_SUCCESS) {
        log_error("no Vulkan loader (libvulkan.so.1): install libvulkan1 and mesa-vulkan-drivers, or use "
                  "--device ref");
        return false;
    }
    *version = volkGetInstanceVersion();
    if (*version >= VK_API_VERSION_1_2)
        return true;
    log_error("the Vulkan loader is version %u.%u, 1.2 is needed: update libvulkan1",
              VK_API_VERSION_MAJOR(*version), VK_API_VERSION_MINOR(*version));
    return false;
}

static void extensions_pick(struct vk_instance *instance, bool validate, const char **names, uint32_t *count,
                            VkInstanceCreateFlags *flags)
{
    uint32_t found = 0;
    if (vkEnumerateInstanceExtensionProperties(NULL, &found, NULL) != VK_SUCCESS)
        found = 0;
    VkExtensionProperties *list = os_alloc(found * sizeof *list);
    if (vkEnumerateInstanceExtensionProperties(NULL, &found, list) < 0)
        found = 0;
    // validation brings VK_EXT_debug_utils itself where the loader does not list it
    instance->debug_utils = validate;
    if (validate)
        names[(*count)++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    if (validate)
        names[(*count)++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
    if (has_extension(list, found, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) {
        names[(*count)++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
        *flags |= VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
    }
    free(list);
}

bool vk_instance_create(struct vk_instance *instance, bool validate)
{
    *instance = (struct vk_instance){0};
    uint32_t version = 0;
    if (!loader_start(&version))
        return false;
    if (validate && !validation_installed()) {
        log_error("validation was asked for and " VALIDATION_NAME " is not there: install "
                  "vulkan-validationlayers");
        return false;
    }
    const char           *extensions[4];
    uint32_t              extension_count = 0;
    VkInstanceCreateFlags flags = 0;
    extensions_pick(instance, validate, extensions, &extension_count, &flags);

    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT
                           | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT
                       | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = instance,
    };
    const VkValidationFeatureEnableEXT enable[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    const VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = &messenger,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = enable,
    };
    const char *const names[] = {VALIDATION_NAME};
    const VkResult result = vkCreateInstance(
        &(VkInstanceCreateInfo){
            .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
            .pNext = validate ? &features : NULL,
            .flags = flags,
            .pApplicationInfo = &(VkApplicationInfo){
                .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                .pApplicationName = "vkmoe",
                .apiVersion = version < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3,
            },
            .enabledLayerCount = validate,
            .ppEnabledLayerNames = names,
            .enabledExtensionCount = extension_count,
            .ppEnabledExtensionNames = extensions,
        }, NULL, &instance->handle);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
        log_error("no Vulkan driver is installed: install mesa-vulkan-drivers, or use --device ref");
        return false;
    }
    if (result != VK_SUCCESS) {
        log_error("Vulkan did not start: %s (%d)", vk_result_text(result), result);
        return false;
    }
    volkLoadInstanceOnly(instance->handle);
    if (validate && vkCreateDebugUtilsMessengerEXT(instance->handle, &messenger, NULL, &instance->messenger)
                        != VK_SUCCESS)
        log_warn("validation messages cannot be counted");
    return true;
}

void vk_instance_destroy(struct vk_instance *instance)
{
    if (instance->messenger)
        vkDestroyDebugUtilsMessengerEXT(instance->handle, instance->messenger, NULL);
    if (instance->handle)
        vkDestroyInstance(instance->handle, NULL);
    instance->messenger = VK_NULL_HANDLE;
    instance->handle = VK_NULL_HANDLE;
}
