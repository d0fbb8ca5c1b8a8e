// SPDX-License-Identifier: MIT
// What matmul.comp and matvec.comp bind (KERNEL_MATMUL_NT in src/kernel.h), the strides of their
// operands, and the share of k of a workgroup where the sum is split.
#include "ragged.glsl"
#define BINDING 0
#include "operand_a.glsl"
#define BINDING 1
#include "operand_b.glsl"
layout(push_constant) uniform Push {
    uint m, n, k, add, lda, ldb, ldc, parts, activation, bias;
    float scale;
};
#define EPILOGUE 2
#include "epilogue.glsl"

// Elements from one row to the next; do rows run along k?
#if defined(TN)
#define A_ALONG_K false
#define B_ALONG_K false
#elif defined(NT)
#define A_ALONG_K true
#define B_ALONG_K true
#elif defined(NN)
#define A_ALONG_K true
#define B_ALONG_K false
#else // by a constant: tile and coop have all three in one module
layout(constant_id = 11) const uint FORM = 0; // enum kernel_form of src/kernel_shape.h
const bool A_ALONG_K = FORM != 2, B_ALONG_K = FORM == 0;
#endif
uint stride_a() { return lda != 0 ? lda : A_ALONG_K ? k : m; }
uint stride_b() { return ldb != 0 ? ldb : B_ALONG_K ? k : n; }

// KERNEL_SHARE of src/kernel.h: [begin, end) of k for workgroup z.
uvec2 share_of_k()
{
    if (parts < 2) return uvec2(0, k);
    const uint share = (k + 32 * parts - 1) / (32 * parts) * 32;
    return min(uvec2(gl_WorkGroupID.z, gl_WorkGroupID.z + 1) * share, uvec2(k));
}

// What a workgroup has summed: the end of the matmul, or one of `parts`, bare.
void write_sum(uint row, uint column, vec4 sum)
{
#ifdef OUT_F32
    if (parts > 1) {
        const uint at = (gl_WorkGroupID.z * m + row) * n + column;
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            c[at + i] = sum.x;
            sum = sum.yzwx;
        }
        return;
    }
#endif
    write_row(row, column, sum);
}
