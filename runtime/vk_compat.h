// SPDX-License-Identifier: MIT
// Vulkan structs that headers before 1.3.272 lack (Debian 12 has 1.3.239): only what is used here.
// Values are those of the Vulkan registry.
#pragma once

#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR                          \
    ((VkStructureType)1000506000)
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void           *pNext;
    VkBool32        cooperativeMatrix;
    VkBool32        cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
#endif

#ifndef VK_EXT_layer_settings
#define VK_EXT_LAYER_SETTINGS_EXTENSION_NAME "VK_EXT_layer_settings"
#define VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT ((VkStructureType)1000496000)
typedef enum VkLayerSettingTypeEXT { VK_LAYER_SETTING_TYPE_BOOL32_EXT = 0 } VkLayerSettingTypeEXT;
typedef struct VkLayerSettingEXT {
    const char           *pLayerName;
    const char           *pSettingName;
    VkLayerSettingTypeEXT type;
    uint32_t              valueCount;
    const void           *pValues;
} VkLayerSettingEXT;
typedef struct VkLayerSettingsCreateInfoEXT {
    VkStructureType          sType;
    const void              *pNext;
    uint32_t                 settingCount;
    const VkLayerSettingEXT *pSettings;
} VkLayerSettingsCreateInfoEXT;
#endif
