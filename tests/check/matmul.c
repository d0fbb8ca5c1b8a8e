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

static int out_type(enum kernel_op op)
{
    switch ((int)op) {
    case KERNEL_MATMUL_NTF: case KERNEL_MATMUL_NNF: case KERNEL_MATMUL_TN: case KERNEL_MATMUL_SUMF:
        return DTYPE_F32;
    }
    return CHECK_STORE;
}

static void run(struct check *t, enum kernel_op op, const struct size *size,
                const struct kernel_shape *shape, bool add)
{
    const uint64_t m = size->m, n = size->n, k = size->k;
    const int out = out_type(op);
    check_begin(t, op, size->m, "%ux%ux%u, add %d", size->m, size->n, size->k, add);
    check_with(t, shape);
    check_normal(t, 0, CHECK_STORE, m * k, 1);
    check_normal(t, 1, CHECK_STORE, n * k, 1);
    check_normal(t, 2, out, m * n, 3);
    check_output(t, 3, out, (m + SLACK_ROWS) * n);
    check_normal(t, 4, CHECK_STORE, n, 1);
    const struct push_matmul push = {.m = size->m, .n = size->n, .k = size->k, .add = add};
    check_run(t, &push, 1e-11);
}

// ---- strides, epilogues, split sums

static bool along_k(enum kernel_op op) { return op != KERNEL_MATMUL_TN; } // how A's rows run

// One of the candidate shapes of a size, another for each i.
static struct kernel_shape some_shape(struct check *t, enum kernel_op op,
                                      const struct push_matmul *push, uint32_t i)
{
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    const struct kernel_size size = kernel_size_of(op, push->m, push);
    return shape[i % kernel_candidates(&t->gpu->caps, op, t->store, &size, shape)];
}

// Rows that lie `extra` elements further apart than they are long.
static void run_end(struct check *t, enum kernel_op op, const struct size *size, uint32_t i,
                    uint32_t extra, const struct push_matmul *end)
{
    const uint64_t m = size->m, n = size->n, k = size->k;
    const bool nt = op == KERNEL_MATMUL_NT || op == KERNEL_MATMUL_NTF;
    struct push_matmul push = *end;
    push.m = size->m, push.n = size->n, push.k = size->k;
    if (extra) {
        push.lda = (along_k(op) ? size->k : size->m) + extra;
        push.ldb = (nt ? size->k : size->n) + 2 * extra;
        push.ldc = size->n + 3 * extra;
    }
    const struct kernel_shape shape = some_shape(t, op, &push, i);
    if (!check_has(t, op, &shape)) return;
    check_begin(t, op, push.m, "%ux%ux%u, stride +%u, add %u, activation %u, bias %u, scale %g",
                push.m, push.n, push.k, extra, push.add, push.activation, push.bias,
                (double)push.scale);
    check_with(t, &shape);
    check_normal(t, 0, CHECK_STORE, (along_k(op) ? m : k) * (push.lda ? push.lda : k + m), 1);
    check_normal(t, 1, CHECK_STORE, (nt ? n : k) * (push.ldb ? push.ldb : n + k), 1);
    check_normal(t, 2, out_type(op), m * (push.ldc ? push.ldc : n), 3);
    check_output(t, 3, out_type(op), m * (push.ldc ? push.ldc : n) + SLACK_ROWS);
    check_normal(t, 4, CHECK_STORE, n, 1);
    check_run(t, &push, 1e-11);
}

static void check_ends(struct check *t, enum kernel_op op)
{
    static const struct size some[] = {{5, 7, 9}, {33, 36, 40}, {67, 130, 37}, {20, 64, 8}};
    static const uint32_t extras[] = {0, 1, 4, 12};
    uint32_t i = 0;
    for (size_t s = 0; s < COUNT_OF(some); s++)
        for (size_t e = 0; e < COUNT_OF(extras); e++)
            for (uint32_t act = 0; act < ACTIVATION_COUNT; act++, i++) {
                const struct push_matmul end = {.add = i % 2,
                                                .activation = act,
                                                .bias = i / 2 % 2,
                                                .scale = i % 3 ? 0 : 0.25f};
                run_end(t, op, &some[s], i + i / 7, extras[e], &end);
            }
}

static void check_parts(struct check *t, enum kernel_op op)
{
    static const uint32_t ks[] = {1, 31, 64, 65, 200, 512};
    for (uint32_t i = 0; i < 2 * COUNT_OF(ks); i++) {
        const uint32_t k = ks[i / 2], m = i * 7 % 29 + 1, n = i % 2 ? 36 : 4 * i + 3;
        const struct push_matmul push = {.m = m, .n = n, .k = k, .parts = i % 5 + 2};
        const struct kernel_shape shape = some_shape(t, op, &push, i);
        if (!check_has(t, op, &shape)) continue;
        check_begin(t, op, m, "%ux%ux%u in %u parts", m, n, k, push.parts);
        check_with(t, &shape);
        check_normal(t, 0, CHECK_STORE, (uint64_t)m * k, 1);
        check_normal(t, 1, CHECK_STORE, (uint64_t)n * k, 1);
        check_normal(t, 2, DTYPE_F32, 1, 1);
        check_output(t, 3, DTYPE_F32, (uint64_t)push.parts * m * n + SLACK_ROWS);
        check_normal(t, 4, CHECK_STORE, n, 1);
        check_run(t, &push, 1e-11);
    }
}

// Magnitudes near the ends of bf16's exponents, also such that change along k: what goes through
// f16 on the way must be scaled, and scaled anew.
static void check_ranges(struct check *t, enum kernel_op op)
{
    static const double scales[][2] = {{1e-30, 1e-30}, {1e30, 1e30}, {1e-30, 1e30}, {1, 1e6}};
    static const uint32_t m = 20, n = 24, ks[] = {72, 69};
    static double values[20 * 72];
    for (uint32_t i = 0; i < 2 * COUNT_OF(scales); i++) {
        const uint32_t k = ks[i % 2];
        const double *scale = scales[i / 2];
        const struct push_matmul push = {.m = m, .n = n, .k = k};
        struct kernel_shape list[KERNEL_MAX_CANDIDATES];
        const struct kernel_size size = {m, n, k};
        const uint32_t count = kernel_candidates(&t->gpu->caps, op, t->store, &size, list);
        const struct kernel_shape shape = list[count - 1 - i / 4 % 2]; // not flat where there are
        check_begin(t, op, m, "%ux%ux%u, %g then %g", m, n, k, scale[0], scale[1]);
        check_with(t, &shape);
        for (uint32_t e = 0; e < m * k; e++) {
            const uint32_t at = along_k(op) ? e % k : e / m;
            values[e] = scale[at > k / 2] * ((double)check_random(t, 2001) / 1000 - 1);
        }
        check_values(t, 0, CHECK_STORE, values, (uint64_t)m * k);
        check_normal(t, 1, CHECK_STORE, (uint64_t)n * k, i % 3 ? 1 : 1e-3);
        check_normal(t, 2, out_type(op), m * n, 1);
        check_output(t, 3, out_type(op), (m + SLACK_ROWS) * n);
        check_normal(t, 4, CHECK_STORE, n, 1);
        check_run(t, &push, 1e-11);
    }
}

// bf16 in f16 tiles keeps all eight bits of what is up to 2^24 times smaller than the largest value
// of its panel (lib/coop.glsl). Large values stand where B is 0, so that only small ones count.
static void check_far(struct check *t, enum kernel_op op)
{
    enum { M = 20, N = 24, K = 72, LARGE = 5 };
    static double a[M * K], b[N * K];
    const struct push_matmul push = {.m = M, .n = N, .k = K};
    const struct kernel_size size = {M, N, K};
    const bool nt = op == KERNEL_MATMUL_NT || op == KERNEL_MATMUL_NTF;
    struct kernel_shape list[KERNEL_MAX_CANDIDATES];
    const uint32_t count = kernel_candidates(&t->gpu->caps, op, t->store, &size, list);
    for (uint32_t e = 0; e < M * K; e++)
        a[e] = (double)check_random(t, 1000) / 1000 + 1; // 1 .. 2
    for (uint32_t e = 0; e < N * K; e++) b[e] = (double)check_random(t, 2001) / 1000 - 1;
    for (uint32_t i = 0; i < M; i++) a[along_k(op) ? i * K + LARGE : LARGE * M + i] = 0x1p24;
    for (uint32_t i = 0; i < N; i++) b[nt ? i * K + LARGE : LARGE * N + i] = 0;
    for (uint32_t c = 0; c < count; c++) {
        if (kernel_is_flat(&list[c]) || !check_has(t, op, &list[c])) continue;
        check_begin(t, op, M, "%ux%ux%u, beside values 2^24 times as large", M, N, K);
        check_with(t, &list[c]);
        check_values(t, 0, CHECK_STORE, a, M * K);
        check_values(t, 1, CHECK_STORE, b, N * K);
        check_normal(t, 2, out_type(op), M * N, 1);
        check_output(t, 3, out_type(op), (M + SLACK_ROWS) * N);
        check_normal(t, 4, CHECK_STORE, N, 1);
        check_run(t, &push, 1e-11);
    }
}

static void check_sums(struct check *t)
{
    for (uint32_t i = 0; i < 24; i++) {
        const enum kernel_op op = i % 2 ? KERNEL_MATMUL_SUM : KERNEL_MATMUL_SUMF;
        const struct push_matmul push = {.m = i * 5 % 37 + 1, .n = i % 3 ? 4 * i + 4 : 2 * i + 1,
                                         .parts = i % 4 + 2, .add = i / 2 % 2, .bias = i / 4 % 2,
                                         .ldc = i % 5 ? 0 : 111, .scale = i % 7 ? 0 : -2,
                                         .activation = i % ACTIVATION_COUNT};
        const uint64_t m = push.m, n = push.n, row = push.ldc ? push.ldc : n;
        check_begin(t, op, push.m, "%u parts of %ux%u, add %u, activation %u", push.parts, push.m,
                    push.n, push.add, push.activation);
        check_normal(t, 0, DTYPE_F32, push.parts * m * n, 1);
        check_normal(t, 1, out_type(op), m * row, 2);
        check_output(t, 2, out_type(op), m * row + SLACK_ROWS);
        check_normal(t, 3, CHECK_STORE, n, 1);
        check_run(t, &push, 1e-11);
    }
}

void check_matmul(struct check *t)
{
    static const enum kernel_op ops[] = {KERNEL_MATMUL_NT, KERNEL_MATMUL_NTF, KERNEL_MATMUL_NN,
                                         KERNEL_MATMUL_NNF, KERNEL_MATMUL_TN};
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    for (size_t o = 0; o < COUNT_OF(ops); o++)
        for (size_t s = COUNT_OF(sizes); s-- > 0;) {
            const struct kernel_size size = {sizes[s].m, sizes[s].n, sizes[s].k};
            const uint32_t count =
                kernel_candidates(&t->gpu->caps, ops[o], t->store, &size, shape);
            for (uint32_t i = 0; i < count; i++)
                // the default at all sizes, every other shape at a third of the small ones (and, if
                // it is not flat, of the real ones): all of them takes minutes
                if ((i == 0 || ((s + i) % 3 == 0 &&
                                (sizes[s].m < 100 || !kernel_is_flat(&shape[i])))) &&
                    check_chooses(t, ops[o], &shape[i]))
                    run(t, ops[o], &sizes[s], &shape[i], (s + i) % 2);
        }
    for (size_t o = 0; o < COUNT_OF(ops); o++) check_ends(t, ops[o]);
    for (size_t o = 0; o < COUNT_OF(ops); o++)
        if (out_type(ops[o]) == DTYPE_F32) check_parts(t, ops[o]);
    for (size_t o = 0; o < COUNT_OF(ops) && t->store == DTYPE_BF16; o++) {
        check_ranges(t, ops[o]);
        check_far(t, ops[o]);
    }
    check_sums(t);
}
