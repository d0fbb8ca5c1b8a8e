// SPDX-License-Identifier: MIT
// Decoding's own operations: K below, at and above a multiple of the lanes, columns that end
// inside a workgroup, empty layers, heads with and without a norm, padding and a full cache.
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "src/kernel_shape.h"

// Runs the case in every shape the operation has here.
static void run(struct check *t, const void *push, double tolerance)
{
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    const struct kernel_size size = kernel_size_of(t->op, 0, push);
    const uint32_t count = kernel_candidates(&t->gpu->caps, t->op, t->store, &size, shape);
    for (uint32_t i = 0; i < count; i++) {
        if (!check_has(t, t->op, &shape[i])) continue;
        check_with(t, &shape[i]);
        check_run(t, push, tolerance);
    }
}

static void linear(struct check *t, enum kernel_op op, uint32_t k, uint32_t n)
{
    check_begin(t, op, 0, "k %u n %u", k, n);
    check_normal(t, 0, CHECK_STORE, k, 2);
    check_normal(t, 1, CHECK_STORE, k, 1);
    check_normal(t, 2, CHECK_STORE, (uint64_t)n * k, 1);
    check_output(t, 3, op == KERNEL_TOKEN_LINEARF ? DTYPE_F32 : CHECK_STORE, n + 4);
    run(t, &(struct push_token_linear){k, n, 1e-5f}, 1e-11);
}

static void fill_table(struct check *t, uint32_t positions, uint32_t half)
{
    double *table = calloc((size_t)positions * half * 2, sizeof *table);
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t i = 0; i < half; i++) {
            const double angle = p * pow(10000, -1.0 * i / half);
            table[(p * half + i) * 2] = cos(angle);
            table[(p * half + i) * 2 + 1] = sin(angle);
        }
    check_values(t, 1, DTYPE_F32, table, (uint64_t)positions * half * 2);
    free(table);
}

static void heads(struct check *t, struct push_heads p, uint32_t base, uint32_t length)
{
    const uint64_t rows = (uint64_t)p.tokens * p.head_dim,
                   cache = (uint64_t)p.capacity * p.kv_heads * p.head_dim;
    check_begin(t, KERNEL_HEADS, 0, "tokens %u of %u heads %u+%u of %u base %u of %u norm %u",
                length, p.tokens, p.heads, p.kv_heads, p.head_dim, base, p.capacity, p.normalise);
    check_step(t, 0, &(struct step_words){.base = base, .length = length});
    fill_table(t, base + p.tokens, p.head_dim / 2);
    check_normal(t, 2, CHECK_STORE, rows * (p.heads + 2 * p.kv_heads), 2);
    check_normal(t, 3, CHECK_STORE, p.head_dim, 1);
    check_normal(t, 4, CHECK_STORE, p.head_dim, 1);
    check_output(t, 5, CHECK_STORE, rows * p.heads);
    check_normal(t, 6, CHECK_STORE, cache, 1);
    check_normal(t, 7, CHECK_STORE, cache, 1);
    run(t, &p, 1e-12);
}

static void router(struct check *t, uint32_t k, uint32_t experts, uint32_t top_k,
                   uint32_t renormalise)
{
    check_begin(t, KERNEL_TOKEN_ROUTER, 0, "k %u E %u K %u renormalise %u", k, experts, top_k,
                renormalise);
    check_normal(t, 0, CHECK_STORE, k, 2);
    check_normal(t, 1, CHECK_STORE, k, 1);
    check_normal(t, 2, CHECK_STORE, (uint64_t)experts * k, 1);
    check_output(t, 3, DTYPE_F32, experts);
    check_output(t, 4, DTYPE_U32, top_k);
    check_output(t, 5, DTYPE_F32, top_k);
    run(t, &(struct push_token_router){k, experts, top_k, renormalise, 0.5f, 1e-6f}, 1e-10);
}

// Different experts, as a router picks them.
static void picks(struct check *t, int b, uint32_t experts, uint32_t top_k)
{
    uint32_t *ids = calloc(top_k, sizeof *ids);
    const uint32_t first = (uint32_t)check_random(t, experts);
    for (uint32_t i = 0; i < top_k; i++) ids[i] = (first + i * (experts / top_k)) % experts;
    check_words(t, b, ids, top_k);
    free(ids);
}

static void experts(struct check *t, uint32_t experts, uint32_t top_k, uint32_t n, uint32_t k)
{
    const struct push_token_moe push = {experts, top_k, n, k, k % ACTIVATION_COUNT, 1e-5f};
    const uint64_t weights = (uint64_t)experts * n * k;
    check_begin(t, KERNEL_TOKEN_UP, 0, "E %u K %u %ux%u", experts, top_k, n, k);
    check_normal(t, 0, CHECK_STORE, k, 2);
    check_normal(t, 1, CHECK_STORE, k, 0.5);
    picks(t, 2, experts, top_k);
    check_normal(t, 3, CHECK_STORE, weights, 1);
    check_normal(t, 4, CHECK_STORE, weights, 1);
    check_output(t, 5, CHECK_STORE, (uint64_t)top_k * n);
    run(t, &push, 1e-10);

    check_begin(t, KERNEL_TOKEN_DOWN, 0, "E %u K %u %ux%u", experts, top_k, n, k);
    check_normal(t, 0, CHECK_STORE, (uint64_t)top_k * k, 2);
    picks(t, 1, experts, top_k);
    check_normal(t, 2, DTYPE_F32, top_k, 1);
    check_normal(t, 3, CHECK_STORE, weights, 1);
    check_normal(t, 4, CHECK_STORE, n, 3);
    check_output(t, 5, CHECK_STORE, n);
    run(t, &push, 1e-11);
}

void check_token(struct check *t)
{
    static const uint32_t ks[] = {1, 4, 31, 33, 64, 96, 513};
    for (size_t i = 0; i < COUNT_OF(ks); i++) {
        const uint32_t odd = (uint32_t)(7 * i % 23);
        linear(t, i % 2 ? KERNEL_TOKEN_LINEAR : KERNEL_TOKEN_LINEARF, ks[i], odd + 1);
        router(t, ks[i], odd + 2, min_u32(odd + 2, 1 + (uint32_t)i), i % 2);
        experts(t, 1 + odd, min_u32(1 + odd, 1 + (uint32_t)i % 4), (uint32_t)(i * 5 % 19) + 1,
                ks[i]);
    }
    linear(t, KERNEL_TOKEN_LINEAR, 256, 384);
    linear(t, KERNEL_TOKEN_LINEARF, 128, 1031);
    router(t, 256, 64, 8, 1);
    router(t, 64, 257, 8, 0);
    experts(t, 16, 2, 96, 128);
    for (uint32_t norm = 0; norm < 2; norm++) {
        heads(t, (struct push_heads){1, 4, 2, 64, 9, norm, 1e-5f}, 8, 1);
        heads(t, (struct push_heads){5, 3, 3, 12, 9, norm, 1e-5f}, 2, 3); // padded
        heads(t, (struct push_heads){4, 2, 1, 2, 5, norm, 1e-5f}, 3, 4);  // past the end
        heads(t, (struct push_heads){3, 1, 1, 256, 40, norm, 1e-5f}, 31, 3);
        heads(t, (struct push_heads){2, 8, 2, 6, 7, norm, 1e-5f}, 0, 2);
    }
}
