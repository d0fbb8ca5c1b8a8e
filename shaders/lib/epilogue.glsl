// SPDX-License-Identifier: MIT
// The end of every dense matmul (KERNEL_MATMUL_NT in src/kernel.h): scale, bias, activation,
// residual, and the one rounding. The includer defines EPILOGUE as the binding of r (c and bias
// follow it) and has the push words n, add, ldc, activation, bias and scale. Every array is there
// twice: as scalars and, for the same binding, as vectors.
#include "activation.glsl"
#ifdef OUT_F32
#define OUT  float
#define OUT4 vec4
#define OUT_LOAD(x) (x)
#define OUT_SAVE(x) (x)
#else
#define OUT  STORE
#define OUT4 STORE4
#define OUT_LOAD LOAD
#define OUT_SAVE SAVE
#endif

layout(binding = EPILOGUE) readonly buffer R { OUT r[]; };
layout(binding = EPILOGUE) readonly buffer R4 { OUT4 r4[]; };
layout(binding = EPILOGUE + 1) writeonly buffer C { OUT c[]; };
layout(binding = EPILOGUE + 1) writeonly buffer C4 { OUT4 c4[]; };
layout(binding = EPILOGUE + 2) readonly buffer Bias { STORE bias_of[]; };

// Columns past the last one read the last one's bias; they are never written.
vec4 finish(vec4 sum, uint column)
{
    if (scale != 0.0) sum *= scale;
    if (bias != 0)
        sum += vec4(LOAD(bias_of[min(column, n - 1)]), LOAD(bias_of[min(column + 1, n - 1)]),
                    LOAD(bias_of[min(column + 2, n - 1)]), LOAD(bias_of[min(column + 3, n - 1)]));
    if (activation != 0) sum = activate(activation, sum);
    return sum;
}

// Four neighbours of a row of C. Each value of r is read by the lane that then writes it in c, so
// r may be c. `column` is a multiple of 4.
void write_row(uint row, uint column, vec4 sum)
{
    const uint stride = ldc != 0 ? ldc : n, at = row * stride + column;
    sum = finish(sum, column);
    if ((n | stride) % 4 == 0) {
        if (column < n) {
            if (add != 0) sum += OUT_LOAD(r4[at / 4]);
            c4[at / 4] = OUT_SAVE(sum);
        }
    } else {
        for (uint i = 0; i < min(n - min(column, n), 4); i++) {
            if (add != 0) sum.x += OUT_LOAD(r[at + i]);
            c[at + i] = OUT_SAVE(sum.x);
            sum = sum.yzwx;
        }
    }
}
