// SPDX-License-Identifier: MIT
// Does the compiler know GL_NV_cooperative_matrix2: workgroup scope, tensor addressing?
#version 450
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
layout(local_size_x = 128) in;
layout(constant_id = 7) const uint M = 64;
layout(binding = 0) readonly buffer A { float16_t a[]; };
layout(push_constant) uniform Push { uint rows, columns; };
void main()
{
    tensorLayoutNV<2, gl_CooperativeMatrixClampModeConstantNV> layout_a =
        createTensorLayoutNV(2, gl_CooperativeMatrixClampModeConstantNV);
    layout_a = setTensorLayoutDimensionNV(layout_a, rows, columns);
    coopmat<float16_t, gl_ScopeWorkgroup, M, M, gl_MatrixUseA> matrix;
    coopMatLoadTensorNV(matrix, a, 0, sliceTensorLayoutNV(layout_a, 0, M, 0, M));
}
