// SPDX-License-Identifier: MIT
// What the kernels of lib/coop2.glsl turn on before their first token.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#ifndef STAGED
#extension GL_EXT_buffer_reference : require
#endif
#extension GL_EXT_shader_16bit_storage : require
#ifdef STORE_BF16
#extension GL_EXT_bfloat16 : require
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
