// SPDX-License-Identifier: MIT
// Does the compiler know GL_NV_cooperative_matrix2, as lib/coop2.glsl uses it, for f16 and bf16?
#version 450
#pragma use_vulkan_memory_model
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_bfloat16 : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_16bit_storage : require
layout(local_size_x_id = 0) in;
layout(constant_id = 7) const uint M = 64;
layout(binding = 0) readonly buffer A { float16_t a[]; };
layout(binding = 1) buffer C { bfloat16_t c[]; };
layout(push_constant) uniform Push { uint rows, columns; };
layout(buffer_reference, buffer_reference_align = 2) readonly buffer Element { float16_t e; };
float16_t at(const in Element e, const in uint place[2], const in uint in_place[2])
{
    return a[place[0]];
}
float twice(const in uint row, const in uint column, const in float x) { return 2.0 * x; }
void main()
{
    tensorLayoutNV<2, gl_CooperativeMatrixClampModeConstantNV> layout_a =
        createTensorLayoutNV(2, gl_CooperativeMatrixClampModeConstantNV);
    layout_a = setTensorLayoutDimensionNV(layout_a, rows, columns);
    coopmat<float16_t, gl_ScopeWorkgroup, M, M, gl_MatrixUseA> x;
    coopmat<float16_t, gl_ScopeWorkgroup, M, M, gl_MatrixUseB> y;
    coopMatLoadTensorNV(x, a, 0, sliceTensorLayoutNV(layout_a, 0, M, 0, M), at);
    coopMatLoadTensorNV(y, a, 0, sliceTensorLayoutNV(layout_a, 0, M, 0, M),
                        createTensorViewNV(2, false, 1, 0));
    coopmat<float, gl_ScopeWorkgroup, M, M, gl_MatrixUseAccumulator> sums =
        coopmat<float, gl_ScopeWorkgroup, M, M, gl_MatrixUseAccumulator>(0.0);
    sums = coopMatMulAdd(x, y, sums);
    coopMatPerElementNV(sums, sums, twice);
    const coopmat<bfloat16_t, gl_ScopeWorkgroup, M, M, gl_MatrixUseAccumulator> rounded =
        coopmat<bfloat16_t, gl_ScopeWorkgroup, M, M, gl_MatrixUseAccumulator>(sums);
    coopMatStoreTensorNV(rounded, c, 0, sliceTensorLayoutNV(layout_a, 0, M, 0, M));
}
