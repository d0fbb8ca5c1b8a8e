// SPDX-License-Identifier: MIT
// The most multiply-adds a second that KHR cooperative matrices give: four sums a subgroup, four
// products each a loop, whose B comes from shared memory anew, since a compiler for CPUs would take
// what does not change out of the loop. For `vkmoe bench` alone.
#version 450
#pragma use_vulkan_memory_model
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#if defined(COOP_BF16)
#extension GL_EXT_bfloat16 : require
#define INPUT bfloat16_t
#define SUM float
#elif defined(COOP_I8)
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#define INPUT int8_t
#define SUM int
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define INPUT float16_t
#define SUM float
#endif
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = 7) const uint M = 16;
layout(constant_id = 8) const uint N = 16;
layout(constant_id = 9) const uint K = 16;
layout(binding = 0) writeonly buffer Result { SUM result[]; };
layout(push_constant) uniform Push { uint loops; float factor, addend; };

// 4 products of 4 sums a loop: COOP_PRODUCTS (16) of tools/bench_peaks.c
#define TYPE(type, rows, columns, use) coopmat<type, gl_ScopeSubgroup, rows, columns, use>
#define MATRIX_A TYPE(INPUT, M, K, gl_MatrixUseA)
#define MATRIX_B TYPE(INPUT, K, N, gl_MatrixUseB)
#define ACCUMULATOR TYPE(SUM, M, N, gl_MatrixUseAccumulator)
const uint SIZE = (M > N ? M : N) * K;
shared INPUT stage[5 * SIZE];

void main()
{
    for (uint at = gl_LocalInvocationIndex; at < 5 * SIZE; at += gl_WorkGroupSize.x)
        stage[at] = INPUT(float(1 + at % 7) * factor);
    barrier();
    MATRIX_A a[4];
    MATRIX_B b[4];
    [[unroll]] for (uint j = 0; j < 4; j++)
        coopMatLoad(a[j], stage, j * SIZE, K, gl_CooperativeMatrixLayoutRowMajor);
    ACCUMULATOR c[4];
    [[unroll]] for (uint j = 0; j < 4; j++) c[j] = ACCUMULATOR(SUM(addend));
    uint i = 0;
    do {
        [[unroll]] for (uint j = 0; j < 4; j++)
            coopMatLoad(b[j], stage, (j + (i & 1u)) * SIZE, N, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint k = 0; k < 4; k++)
            [[unroll]] for (uint j = 0; j < 4; j++) c[j] = coopMatMulAdd(a[k], b[j ^ k], c[j]);
        i++;
    } while (i < loops);
    const ACCUMULATOR sum = (c[0] + c[1]) + (c[2] + c[3]);
    coopMatStore(sum, result, gl_WorkGroupID.x * M * N, N, gl_CooperativeMatrixLayoutRowMajor);
}
