// SPDX-License-Identifier: MIT
// Kernels: SPIR-V to a compute pipeline whose one descriptor set is pushed, and what the driver
// says of the compiled code.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/vk.h"

static bool layout_create(struct vk_gpu *vk, struct vk_kernel *kernel,
                          const struct gpu_kernel_params *params)
{
    VkDescriptorSetLayoutBinding bindings[GPU_MAX_BINDINGS];
    for (uint32_t b = 0; b < params->binding_count; b++)
        bindings[b] = (VkDescriptorSetLayoutBinding){
            .binding = b,
            .descriptorType = params->texel_bytes[b] ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                                     : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    const VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, params->push_bytes};
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .flags = VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR,
        .bindingCount = params->binding_count,
        .pBindings = bindings,
    };
    const VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &kernel->set,
        .pushConstantRangeCount = params->push_bytes != 0,
        .pPushConstantRanges = &push,
    };
    return VK_MADE(vk, kernel->set,
                   vk->fn.vkCreateDescriptorSetLayout(vk->device, &set, NULL, &kernel->set),
                   params->name) &&
           VK_MADE(vk, kernel->layout,
                   vk->fn.vkCreatePipelineLayout(vk->device, &layout, NULL, &kernel->layout),
                   params->name);
}

static VkResult pipeline_create(struct vk_gpu *vk, const struct vk_kernel *kernel,
                                const struct gpu_kernel_params *params, VkPipelineCreateFlags flags,
                                VkPipeline *out)
{
    VkSpecializationMapEntry entries[GPU_MAX_SPEC];
    for (uint32_t i = 0; i < params->spec_count; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * 4, 4};
    const VkSpecializationInfo spec = {params->spec_count, entries, params->spec_count * 4,
                                       params->spec};
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = params->subgroup_size,
    };
    const bool sized = params->subgroup_size && vk->base.gpu.caps.mask & GPU_CAP_SIZE;
    return vk->fn.vkCreateComputePipelines(vk->device, vk->cache, 1, &(VkComputePipelineCreateInfo){
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = flags,
        .stage = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
            .pNext = sized ? &size : NULL,
            .flags = sized ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
            .stage = VK_SHADER_STAGE_COMPUTE_BIT,
            .module = kernel->module,
            .pName = "main",
            .pSpecializationInfo = params->spec_count ? &spec : NULL,
        },
        .layout = kernel->layout,
    }, NULL, out);
}

struct gpu_kernel *vk_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params)
{
    struct vk_gpu    *vk = vk_gpu(gpu);
    struct vk_kernel *kernel = os_alloc(sizeof *kernel);
    const VkShaderModuleCreateInfo module = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = params->spirv_bytes,
        .pCode = params->spirv,
    };
    const bool ok =
        VK_MADE(vk, kernel->module,
                vk->fn.vkCreateShaderModule(vk->device, &module, NULL, &kernel->module),
                params->name) &&
        layout_create(vk, kernel, params) &&
        VK_MADE(vk, kernel->pipeline, pipeline_create(vk, kernel, params, 0, &kernel->pipeline),
                params->name);
    if (ok) {
        vk_name(vk, VK_OBJECT_TYPE_PIPELINE, (uint64_t)kernel->pipeline, params->name);
        return &kernel->kernel;
    }
    vk_kernel_destroy(gpu, &kernel->kernel);
    return NULL;
}

void vk_kernel_destroy(struct gpu *gpu, struct gpu_kernel *kernel)
{
    struct vk_kernel *own = (struct vk_kernel *)kernel;
    vk_retire(vk_gpu(gpu), &(struct vk_retired){
        .set = own->set, .layout = own->layout, .module = own->module, .pipeline = own->pipeline});
    free(own);
}

// ---- statistics

static int64_t number_of(const VkPipelineExecutableStatisticKHR *s)
{
    switch ((int)s->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:  return s->value.b32;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:   return s->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:  return (int64_t)s->value.u64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR: return (int64_t)s->value.f64;
    default:                                                  return -1;
    }
}

static bool named(const char *name, const char *part)
{
    const size_t length = strlen(part);
    for (; *name; name++) {
        size_t i = 0;
        while (i < length && tolower((unsigned char)name[i]) == part[i])
            i++;
        if (i == length)
            return true;
    }
    return false;
}

static void add(int64_t *total, int64_t value)
{
    *total = (*total < 0 ? 0 : *total) + value;
}

// Drivers name what they count as they like: RADV "VGPRs", "Spilled VGPRs", "LDS size", "Code
// size", "Scratch size", "Subgroups per SIMD"; ANV "Spill count"; NVIDIA "Register Count", "Local
// Memory Size", "Shared Memory Size", "Binary Size".
static void statistic_take(const VkPipelineExecutableStatisticKHR *s, struct gpu_statistics *out)
{
    const int64_t value = number_of(s);
    if (value < 0)
        return;
    if (named(s->name, "spill") || named(s->name, "local memory size"))
        add(&out->spills, value);
    else if (strcmp(s->name, "VGPRs") == 0 || named(s->name, "register count") ||
             named(s->name, "grf registers"))
        add(&out->registers, value);
    else if (named(s->name, "lds size") || named(s->name, "shared memory") ||
             named(s->name, "workgroup memory"))
        add(&out->shared_bytes, value);
    else if (named(s->name, "code size") || named(s->name, "binary size"))
        add(&out->code_bytes, value);
    else if (named(s->name, "scratch size"))
        add(&out->scratch_bytes, value);
    else if (named(s->name, "subgroups per simd"))
        out->waves = value;
}

static void executable_take(struct vk_gpu *vk, VkPipeline pipeline, uint32_t index,
                            struct gpu_statistics *out)
{
    const VkPipelineExecutableInfoKHR which = {.sType =
                                                   VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
                                               .pipeline = pipeline,
                                               .executableIndex = index};
    uint32_t count = 0;
    if (vk->fn.vkGetPipelineExecutableStatisticsKHR(vk->device, &which, &count, NULL) != VK_SUCCESS)
        return;
    VkPipelineExecutableStatisticKHR *list = os_alloc(count * sizeof *list);
    for (uint32_t i = 0; i < count; i++)
        list[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    if (vk->fn.vkGetPipelineExecutableStatisticsKHR(vk->device, &which, &count, list) >= 0)
        for (uint32_t i = 0; i < count; i++)
            statistic_take(&list[i], out);
    free(list);
}

// The kernel is compiled once more with capture on: capturing always would cost every start.
bool vk_kernel_statistics(struct gpu *gpu, struct gpu_kernel *kernel, struct gpu_statistics *out)
{
    struct vk_gpu *vk = vk_gpu(gpu);
    VkPipeline     pipeline = VK_NULL_HANDLE;
    if (!vk_ok(vk,
               pipeline_create(vk, (struct vk_kernel *)kernel, &kernel->params,
                               VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR, &pipeline),
               kernel->params.name))
        return false;
    uint32_t count = 0;
    const VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR,
                                    .pipeline = pipeline};
    VkResult result = vk->fn.vkGetPipelineExecutablePropertiesKHR(vk->device, &info, &count, NULL);
    for (uint32_t i = 0; result == VK_SUCCESS && i < count; i++)
        executable_take(vk, pipeline, i, out);
    vk->fn.vkDestroyPipeline(vk->device, pipeline, NULL);
    return vk_ok(vk, result, "asking for pipeline statistics") && count > 0;
}
