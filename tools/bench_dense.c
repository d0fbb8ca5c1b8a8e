// SPDX-License-Identifier: MIT
// Dense matmuls of the benchmark: squares, the matrices of real models in a training step (forward,
// dX, dW) and in decoding (one row).
#include "tools/bench.h"

struct matmul_shape {
    enum kernel_op   op;
    uint32_t         m, n, k;
    enum bench_level level;  // of f32
    bool             bf16;   // on CPU drivers too
    const char      *model;
};

static const struct matmul_shape matmuls[] = {
    {KERNEL_MATMUL_NT, 512, 512, 512, BENCH_DEFAULT, true},
    {KERNEL_MATMUL_NN, 512, 512, 512, BENCH_DEFAULT, true},
    {KERNEL_MATMUL_TN, 512, 512, 512, BENCH_DEFAULT, true},
    {KERNEL_MATMUL_NT, 1024, 1024, 1024, BENCH_DEFAULT},
    {KERNEL_MATMUL_NN, 1024, 1024, 1024, BENCH_CARD},
    {KERNEL_MATMUL_TN, 1024, 1024, 1024, BENCH_CARD},
    {KERNEL_MATMUL_NT, 2048, 2048, 2048, BENCH_CARD},
    {KERNEL_MATMUL_NN, 2048, 2048, 2048, BENCH_CARD},
    {KERNEL_MATMUL_TN, 2048, 2048, 2048, BENCH_CARD},
    {KERNEL_MATMUL_NT, 4096, 4096, 4096, BENCH_CARD},
    {KERNEL_MATMUL_NN, 4096, 4096, 4096, BENCH_CARD},
    {KERNEL_MATMUL_TN, 4096, 4096, 4096, BENCH_CARD},
    {KERNEL_MATMUL_NT, 8192, 8192, 8192, BENCH_CARD},
    // q and o, the router, the head, and their gradients
    {KERNEL_MATMUL_NT, 1024, 128, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATMUL_NN, 1024, 128, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATMUL_TN, 128, 128, 1024, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATMUL_NTF, 1024, 8, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATMUL_NT, 1024, 260, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATMUL_NTF, 1024, 260, 128, BENCH_CARD, false, "tiny"},
    // the dense feed-forward and its gradients, the head
    {KERNEL_MATMUL_NT, 512, 3072, 768, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATMUL_NT, 512, 768, 3072, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATMUL_NN, 512, 768, 3072, BENCH_CARD, false, "h64lm"},
    {KERNEL_MATMUL_TN, 3072, 768, 512, BENCH_CARD, false, "h64lm"},
    {KERNEL_MATMUL_NT, 512, 32000, 768, BENCH_CARD, false, "h64lm"},
    // q, the head of one chunk, and q's gradients
    {KERNEL_MATMUL_NT, 4096, 2048, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATMUL_NN, 4096, 2048, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATMUL_TN, 2048, 2048, 4096, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATMUL_NT, 64, 50304, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATMUL_NTF, 4096, 64, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATMUL_NT, 4096, 4096, 2048, BENCH_CARD, false, "qwen3"},
    {KERNEL_MATMUL_NT, 4096, 512, 2048, BENCH_CARD, false, "qwen3"},
    {KERNEL_MATMUL_NTF, 4096, 128, 2048, BENCH_CARD, false, "qwen3"},
    {KERNEL_MATMUL_NT, 4096, 4096, 4096, BENCH_CARD, false, "mixtral"},
    {KERNEL_MATMUL_NT, 4096, 1024, 4096, BENCH_CARD, false, "mixtral"},
    // a router over 20,480 experts
    {KERNEL_MATMUL_NTF, 256, 20480, 2048, BENCH_CARD, false, "arche3"},
    // few rows: decoding
    {KERNEL_MATMUL_NT, 8, 3072, 768, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATVEC, 1, 4096, 4096, BENCH_DEFAULT, true},
    {KERNEL_MATVEC, 1, 128, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATVECF, 1, 260, 128, BENCH_DEFAULT, false, "tiny"},
    {KERNEL_MATVEC, 1, 3072, 768, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATVEC, 1, 768, 3072, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATVEC, 4, 768, 3072, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATVECF, 1, 32000, 768, BENCH_DEFAULT, false, "h64lm"},
    {KERNEL_MATVEC, 1, 2048, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATVECF, 1, 50304, 2048, BENCH_CARD, false, "olmoe"},
    {KERNEL_MATVEC, 1, 4096, 2048, BENCH_CARD, false, "qwen3"},
    {KERNEL_MATVECF, 1, 151936, 2048, BENCH_CARD, false, "qwen3"},
    {KERNEL_MATVECF, 1, 20480, 2048, BENCH_CARD, false, "arche3"},
};

void bench_dense_steps(struct bench_case *c, enum kernel_op op, uint32_t m, uint32_t n, uint32_t k)
{
    const bool f32 = op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_TN || op == KERNEL_MATVECF;
    const uint32_t a = bench_case_normal(c, BENCH_STORE, (uint64_t)m * k, 1);
    const uint32_t b = bench_case_normal(c, BENCH_STORE, (uint64_t)n * k, 1);
    const uint32_t out = bench_case_zero(c, f32 ? (int)DTYPE_F32 : BENCH_STORE, (uint64_t)m * n);
    bench_case_step(c, BENCH_BIND(a, b, out, out, a), BENCH_DIRECT);
}

static bool matmul(struct bench *bench, const struct matmul_shape *s, enum dtype store)
{
    const enum bench_level level =
        s->bf16 && store == DTYPE_BF16 ? s->level : bench_level_of(s->level, store);
    const struct push_matmul push = {.m = s->m, .n = s->n, .k = s->k};
    const struct bench_case_params params = {.level = level,
                                             .family = "matmul",
                                             .model = s->model,
                                             .op = s->op,
                                             .store = store,
                                             .rows = s->m,
                                             .push = &push};
    struct bench_case c;
    if (!bench_case_begin(&c, bench, &params, "%ux%ux%u", s->m, s->n, s->k)) return true;
    bench_dense_steps(&c, s->op, s->m, s->n, s->k);
    return bench_case_run(&c);
}

bool bench_matmuls(struct bench *bench)
{
    for (size_t i = 0; i < COUNT_OF(matmuls); i++)
        for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++)
            if (!matmul(bench, &matmuls[i], store)) return false;
    return true;
}
