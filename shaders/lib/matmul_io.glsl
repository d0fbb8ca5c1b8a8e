// SPDX-License-Identifier: MIT
// What matmul.comp and matvec.comp bind (KERNEL_MATMUL_NT in src/kernel.h) and how four
// neighbouring values of a row of C are written. Every array is there twice: as scalars and, for
// the same binding, as vectors.
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

layout(binding = 0) readonly buffer A { STORE a[]; };
layout(binding = 0) readonly buffer A4 { STORE4 a4[]; };
layout(binding = 1) readonly buffer B { STORE b[]; };
layout(binding = 1) readonly buffer B4 { STORE4 b4[]; };
layout(binding = 2) readonly buffer R { OUT r[]; };
layout(binding = 2) readonly buffer R4 { OUT4 r4[]; };
layout(binding = 3) writeonly buffer C { OUT c[]; };
layout(binding = 3) writeonly buffer C4 { OUT4 c4[]; };
layout(push_constant) uniform Push { uint m, n, k, add; };

// Each value of r is read by the lane that then writes it in c, so r may be c. `column` is a
// multiple of 4.
void write_row(uint row, uint column, vec4 sum)
{
    const uint at = row * n + column;
    if (n % 4 == 0) {
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
