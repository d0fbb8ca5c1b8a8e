// SPDX-License-Identifier: MIT
// Matrix products of few rows: K across the lanes, so K below, at and above a multiple of the
// lanes.
#include "check.h"

static void run(struct check *t, enum kernel_op op, uint32_t m, uint32_t n, uint32_t k, bool add,
                uint32_t parts)
{
    const int out = op == KERNEL_MATVECF ? DTYPE_F32 : CHECK_STORE;
    check_begin(t, op, m, "%ux%ux%u add %d parts %u", m, n, k, add, parts);
    check_normal(t, 0, CHECK_STORE, (uint64_t)m * k, 1);
    check_normal(t, 1, CHECK_STORE, (uint64_t)n * k, 1);
    check_normal(t, 2, out, (uint64_t)m * n, 3);
    // what lies past the end stays poisoned
    check_output(t, 3, out, (uint64_t)(m * max_u32(parts, 1) + 4) * n);
    check_normal(t, 4, CHECK_STORE, n, 1);
    const bool end = parts == 0 && k > 32;
    const struct push_matmul push = {.m = m, .n = n, .k = k, .add = add, .parts = parts,
                                     .bias = end, .activation = end ? k % ACTIVATION_COUNT : 0};
    check_run(t, &push, 1e-11);
}

void check_matvec(struct check *t)
{
    static const uint32_t ks[] = {1, 2, 3, 4, 31, 32, 33, 61, 64, 96, 513};
    for (size_t i = 0; i < COUNT_OF(ks); i++)
        for (uint32_t m = 1; m <= 8; m += 1 + (m > 2))
            run(t, i % 2 ? KERNEL_MATVEC : KERNEL_MATVECF, m, (uint32_t)(i + m) * 5 % 37 + 1,
                ks[i], m % 2, 0);
    run(t, KERNEL_MATVEC, 1, 512, 768, true, 0);
    run(t, KERNEL_MATVECF, 1, 1031, 256, false, 0);
    run(t, KERNEL_MATVEC, 8, 96, 128, false, 0);
    for (uint32_t parts = 2; parts < 6; parts++)
        run(t, KERNEL_MATVECF, parts % 3 + 1, 7 * parts, 32 * parts + parts % 3, false, parts);
}
