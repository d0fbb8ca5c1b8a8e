// SPDX-License-Identifier: MIT
// Does the compiler know cooperative matrices of GL_EXT_bfloat16?
#version 450
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_bfloat16 : require
layout(local_size_x = 32) in;
layout(constant_id = 7) const uint M = 16;
shared uvec4 stage[64];
void main()
{
    coopmat<bfloat16_t, gl_ScopeSubgroup, M, M, gl_MatrixUseA> a;
    coopmat<bfloat16_t, gl_ScopeSubgroup, M, M, gl_MatrixUseB> b;
    coopMatLoad(a, stage, 0, 2, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(b, stage, 0, 2, gl_CooperativeMatrixLayoutColumnMajor);
    coopmat<float, gl_ScopeSubgroup, M, M, gl_MatrixUseAccumulator> c =
        coopmat<float, gl_ScopeSubgroup, M, M, gl_MatrixUseAccumulator>(0.0);
    coopMatStore(coopMatMulAdd(a, b, c), stage, 0, 4, gl_CooperativeMatrixLayoutRowMajor);
}
