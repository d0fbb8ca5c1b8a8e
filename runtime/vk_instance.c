// SPDX-License-Identifier: MIT
// The Vulkan instance: finds the loader, turns on validation where asked, and hands its messages to
// the log.
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

#define VALIDATION_NAME "VK_LAYER_KHRONOS_validation"
// its last release that does not look for races in shared memory
#define LAST_WITHOUT_RACES VK_MAKE_API_VERSION(0, 1, 4, 341)

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

// Validation's talk of its own settings (GPU-assisted: which it adjusts), no faults of ours.
static bool is_of_settings(const char *id)
{
    static const char *const prefixes[] = {"VALIDATION-SETTINGS", "WARNING-Setting"};
    for (size_t i = 0; id && i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(id, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    (void)severity;
    if (types == VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT)
        return VK_FALSE; // the loader's own talk of drivers that it skips
    if (is_of_settings(data->pMessageIdName))
        return VK_FALSE;
    struct vk_instance *instance = user;
    instance->messages++;
    log_error("validation: %s", data->pMessage);
    return VK_FALSE;
}

// Whether the instance, or a part of it by that name, offers an extension.
static bool has_extension(const char *part, const char *name)
{
    uint32_t count = 0;
    if (vkEnumerateInstanceExtensionProperties(part, &count, NULL) != VK_SUCCESS)
        return false;
    VkExtensionProperties *list = os_alloc(count * sizeof *list);
    bool found = false;
    if (vkEnumerateInstanceExtensionProperties(part, &count, list) >= 0)
        for (uint32_t i = 0; i < count; i++)
            found |= strcmp(list[i].extensionName, name) == 0;
    free(list);
    return found;
}

// The version of Vulkan that validation is of; 0: it is not installed.
static uint32_t validation_version(void)
{
    uint32_t count = 0;
    if (vkEnumerateInstanceLayerProperties(&count, NULL) != VK_SUCCESS)
        return 0;
    VkLayerProperties *list = os_alloc(count * sizeof *list);
    uint32_t version = 0;
    if (vkEnumerateInstanceLayerProperties(&count, list) >= 0)
        for (uint32_t i = 0; i < count; i++)
            if (strcmp(list[i].layerName, VALIDATION_NAME) == 0)
                version = list[i].specVersion;
    free(list);
    return version;
}

// Loads the loader and asks its version; logs what to install where there is none.
static bool loader_start(uint32_t *version)
{
    if (volkInitialize() != VK_SUCCESS) {
        log_error(
            "no Vulkan loader (libvulkan.so.1): install libvulkan1 and mesa-vulkan-drivers, or use "
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

// vkCreateInstance with the extensions that are there.
static VkResult create(struct vk_instance *instance, uint32_t version, bool validate,
                       const void *chain)
{
    const char *const     validation[] = {VALIDATION_NAME};
    const char           *names[4];
    uint32_t              count = 0;
    VkInstanceCreateFlags flags = 0;
    if (validate) { // validation brings both itself
        names[count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
        names[count++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
    }
    if (validate && has_extension(VALIDATION_NAME, VK_EXT_LAYER_SETTINGS_EXTENSION_NAME))
        names[count++] = VK_EXT_LAYER_SETTINGS_EXTENSION_NAME;
    if (has_extension(NULL, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) {
        names[count++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
        flags |= VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
    }
    const VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "vkmoe",
        .apiVersion = version < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3,
    };
    return vkCreateInstance(&(VkInstanceCreateInfo){
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = chain,
        .flags = flags,
        .pApplicationInfo = &application,
        .enabledLayerCount = validate,
        .ppEnabledLayerNames = validation,
        .enabledExtensionCount = count,
        .ppEnabledExtensionNames = names,
    }, NULL, &instance->handle);
}

// With validation: what it checks, where its messages go.
static VkResult create_validated(struct vk_instance *instance, uint32_t version,
                                 enum gpu_validation validate)
{
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = instance,
    };
    const bool accesses = validate == GPU_VALIDATION_ACCESSES;
    const VkValidationFeatureEnableEXT enable[] = {
        accesses ? VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT
                 : VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,
        VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_RESERVE_BINDING_SLOT_EXT,
    };
    const VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = &messenger,
        .enabledValidationFeatureCount = accesses ? 2 : 1,
        .pEnabledValidationFeatures = enable,
    };
    // Synchronization validation looks at what shaders access, from 1.4 on, only where it is told
    // to. GPU-assisted, any two accesses of shared memory that no barrier() parts are told as a
    // race (its own description of the setting; KhronosGroup/Vulkan-ValidationLayers 12813): it
    // does not see subgroupBarrier(), by which one subgroup is in order, and which
    // attention_coop.comp needs where subgroups part ways. So that check is off, where it exists.
    const VkBool32 yes = VK_TRUE, no = VK_FALSE;
    const VkLayerSettingEXT setting[] = {
        {VALIDATION_NAME, "syncval_shader_accesses_heuristic", VK_LAYER_SETTING_TYPE_BOOL32_EXT, 1,
         &yes},
        {VALIDATION_NAME, "gpuav_shared_memory_data_race", VK_LAYER_SETTING_TYPE_BOOL32_EXT, 1,
         &no},
    };
    const VkLayerSettingsCreateInfoEXT settings = {
        .sType = VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT,
        .pNext = &features,
        .settingCount = accesses && validation_version() > LAST_WITHOUT_RACES ? 2 : 1,
        .pSettings = setting,
    };
    const bool has_settings = has_extension(VALIDATION_NAME, VK_EXT_LAYER_SETTINGS_EXTENSION_NAME);
    const VkResult result =
        create(instance, version, true, has_settings ? (const void *)&settings : &features);
    if (result != VK_SUCCESS)
        return result;
    volkLoadInstanceOnly(instance->handle);
    instance->debug_utils = true;
    if (vkCreateDebugUtilsMessengerEXT(instance->handle, &messenger, NULL, &instance->messenger) !=
        VK_SUCCESS) {
        instance->messenger = VK_NULL_HANDLE;
        log_warn("validation messages cannot be counted");
    }
    return VK_SUCCESS;
}

bool vk_instance_create(struct vk_instance *instance, enum gpu_validation validate)
{
    *instance = (struct vk_instance){0};
    uint32_t version = 0;
    if (!loader_start(&version))
        return false;
    if (validate && !validation_version()) {
        log_error("validation was asked for and " VALIDATION_NAME " is not there: install "
                  "vulkan-validationlayers");
        return false;
    }
    const VkResult result = validate ? create_validated(instance, version, validate)
                                     : create(instance, version, false, NULL);
    if (result == VK_SUCCESS) {
        volkLoadInstanceOnly(instance->handle);
        return true;
    }
    instance->handle = VK_NULL_HANDLE;
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        log_error(
            "no Vulkan driver is installed: install mesa-vulkan-drivers, or use --device ref");
    else
        log_error("Vulkan did not start: %s (%d)", vk_result_text(result), result);
    return false;
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
