// SPDX-License-Identifier: MIT
// Does the compiler know GL_KHR_cooperative_matrix, as lib/coop.glsl uses it?
#version 450
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x = 32) in;
layout(constant_id = 7) const uint M = 16;
shared uvec4 stage[64];
void main()
{
    coopmat<float16_t, gl_ScopeSubgroup, M, M, gl_MatrixUseA> a;
    coopmat<float16_t, gl_ScopeSubgroup, M, M, gl_MatrixUseB> b;
    coopMatLoad(a, stage, 0, 2, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(b, stage, 0, 2, gl_CooperativeMatrixLayoutColumnMajor);
    coopmat<float, gl_ScopeSubgroup, M, M, gl_MatrixUseAccumulator> c =
        coopmat<float, gl_ScopeSubgroup, M, M, gl_MatrixUseAccumulator>(0.0);
    coopMatStore(coopMatMulAdd(a, b, c), stage, 0, 4, gl_CooperativeMatrixLayoutRowMajor);
}
