// SPDX-License-Identifier: MIT
// Which products cooperative matrices of a device can do: asked of the driver once, kept in struct
// gpu_caps in types of our own, thinned out to what the cap mask leaves.
#include <stdlib.h>

#include "runtime/os.h"
#include "runtime/vk.h"

static enum gpu_scalar scalar_of(VkComponentTypeKHR type)
{
    switch ((int)type) {
    case VK_COMPONENT_TYPE_FLOAT16_KHR:  return GPU_SCALAR_F16;
    case VK_COMPONENT_TYPE_BFLOAT16_KHR: return GPU_SCALAR_BF16;
    case VK_COMPONENT_TYPE_FLOAT32_KHR:  return GPU_SCALAR_F32;
    case VK_COMPONENT_TYPE_SINT8_KHR:    return GPU_SCALAR_S8;
    case VK_COMPONENT_TYPE_SINT32_KHR:   return GPU_SCALAR_S32;
    default:                             return GPU_SCALAR_COUNT;
    }
}

// Kept are products of one type for A and B, one for C and the result, that do not saturate.
static void keep(struct gpu_matrix *list, uint32_t *count,
                 const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    const struct gpu_matrix matrix = {
        .m = p->MGranularity, .n = p->NGranularity, .k = p->KGranularity,
        .in = scalar_of(p->AType), .out = scalar_of(p->ResultType),
        .scope = p->scope == VK_SCOPE_WORKGROUP_KHR ? GPU_SCOPE_WORKGROUP : GPU_SCOPE_SUBGROUP,
        .invocations = p->workgroupInvocations,
    };
    const bool scope = p->scope == VK_SCOPE_WORKGROUP_KHR || p->scope == VK_SCOPE_SUBGROUP_KHR;
    const bool types = p->AType == p->BType && p->CType == p->ResultType &&
                       matrix.in < GPU_SCALAR_COUNT && matrix.out < GPU_SCALAR_COUNT;
    if (scope && types && !p->saturatingAccumulation && *count < GPU_MAX_MATRICES)
        list[(*count)++] = matrix;
}

static void fixed_fill(struct gpu_caps *caps, VkPhysicalDevice device)
{
    const PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR ask =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)vkGetInstanceProcAddr(
            volkGetLoadedInstance(), "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t count = 0;
    if (!ask || ask(device, &count, NULL) < 0)
        return;
    VkCooperativeMatrixPropertiesKHR *list = os_alloc(count * sizeof *list);
    for (uint32_t i = 0; i < count; i++)
        list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (ask(device, &count, list) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        keep(caps->matrix, &caps->matrix_count,
             &(VkCooperativeMatrixFlexibleDimensionsPropertiesNV){
                 .MGranularity = list[i].MSize, .NGranularity = list[i].NSize,
                 .KGranularity = list[i].KSize, .AType = list[i].AType, .BType = list[i].BType,
                 .CType = list[i].CType, .ResultType = list[i].ResultType,
                 .saturatingAccumulation = list[i].saturatingAccumulation,
                 .scope = list[i].scope});
    free(list);
}

static void flexible_fill(struct gpu_caps *caps, VkPhysicalDevice device)
{
    const PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV ask =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV)
            vkGetInstanceProcAddr(
                volkGetLoadedInstance(),
                "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
    uint32_t count = 0;
    if (!ask || ask(device, &count, NULL) < 0)
        return;
    VkCooperativeMatrixFlexibleDimensionsPropertiesNV *list = os_alloc(count * sizeof *list);
    for (uint32_t i = 0; i < count; i++)
        list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV;
    if (ask(device, &count, list) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        keep(caps->flexible, &caps->flexible_count, &list[i]);
    free(list);
}

void vk_matrices_fill(struct gpu_caps *caps, VkPhysicalDevice device)
{
    if (caps->mask & GPU_CAP_COOP)
        fixed_fill(caps, device);
    if (caps->mask & GPU_CAP_COOP2)
        flexible_fill(caps, device);
    vk_matrices_mask(caps);
}

static uint32_t thin(const struct gpu_caps *caps, struct gpu_matrix *list, uint32_t count)
{
    const uint32_t kept = count;
    count = 0;
    for (uint32_t i = 0; i < kept; i++) {
        const struct gpu_matrix m = list[i];
        const bool f16 = m.in == GPU_SCALAR_F16 || m.out == GPU_SCALAR_F16;
        const bool bf16 = m.in == GPU_SCALAR_BF16 || m.out == GPU_SCALAR_BF16;
        if ((!f16 || caps->mask & GPU_CAP_F16) && (!bf16 || caps->mask & GPU_CAP_BF16) &&
            (m.scope != GPU_SCOPE_WORKGROUP || caps->mask & GPU_CAP_TENSOR))
            list[count++] = m;
    }
    return count;
}

void vk_matrices_mask(struct gpu_caps *caps)
{
    if (!(caps->mask & GPU_CAP_COOP))
        caps->mask &= ~(uint32_t)GPU_CAP_COOP2, caps->matrix_count = 0;
    if (!(caps->mask & GPU_CAP_COOP2))
        caps->mask &= ~(uint32_t)GPU_CAP_TENSOR, caps->flexible_count = 0;
    caps->matrix_count = thin(caps, caps->matrix, caps->matrix_count);
    caps->flexible_count = thin(caps, caps->flexible, caps->flexible_count);
}
