// SPDX-License-Identifier: MIT
// Dense matrix products: every form in every candidate shape, odd sizes, with and without the sum.
#include "check.h"

// Rows past the end of C that must stay as they were: drivers hide writes past the end of a
// binding.
enum { SLACK_ROWS = 32 };

struct size {
    uint32_t m, n, k;
};

static const struct size sizes[] = {
    {1, 1, 1},    {2, 3, 1},    {1, 2, 3},    {3, 31, 33},     {31, 33, 32},
    {32, 32, 31}, {33, 1, 37},  {13, 4, 4},   {16, 128, 8},    {17, 132, 20},
    {64, 36, 61}, {61, 67, 64}, {4, 260, 12}, {128, 512, 128}, {257, 96, 768},
};

static void run(struct check *t, enum kernel_op op, const struct size *size,
                const struct kernel_shape *shape, bool add)
{
    const uint64_t m = size->m, n = size->n, k = size->k;
    const int out = op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_TN ? DTYPE_F32 : CHECK_STORE;
    check_begin(t, op, size->m, "%ux%ux%u, add %d", size->m, size->n, size->k, add);
    check_with(t, shape);
    check_normal(t, 0, CHECK_STORE, m * k, 1);
    check_normal(t, 1, CHECK_STORE, n * k, 1);
    check_normal(t, 2, out, m * n, 3);
    check_output(t, 3, out, (m + SLACK_ROWS) * n);
    const struct push_matmul push = {.m = size->m, .n = size->n, .k = size->k, .add = add};
    check_run(t, &push, 1e-11);
}

void check_matmul(struct check *t)
{
    static const enum kernel_op ops[] = {KERNEL_MATMUL_NT, KERNEL_MATMUL_NTF, KERNEL_MATMUL_NN,
                                         KERNEL_MATMUL_TN};
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    for (size_t o = 0; o < COUNT_OF(ops); o++)
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            const struct kernel_size size = {sizes[s].m, sizes[s].n, sizes[s].k};
            const uint32_t count =
                kernel_candidates(&t->gpu->caps, ops[o], t->store, &size, shape);
            for (uint32_t i = 0; i < count; i++)
                // flat: all tiles at small sizes, the one that the plan takes at the real ones
                if (sizes[s].m < 100 || i == 0 || shape[i].variant != KERNEL_FLAT)
                    run(t, ops[o], &sizes[s], &shape[i], (s + i) % 2);
        }
}
