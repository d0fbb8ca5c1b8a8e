// SPDX-License-Identifier: MIT
// Checks of what stands before and beside routers: noise, jitter and the learned temperature with
// their way back (the same numbers whatever the part, others in the next step), the hash, and the
// capacity of experts.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static void noise(struct check *t, uint32_t tokens, uint32_t experts, uint32_t mode)
{
    const struct push_router_noise push = {
        .tokens = tokens, .experts = experts, .total = 2 * tokens, .first = tokens, .layer = 3,
        .noisy = mode & 1, .learned = mode & 2, .jitter = mode & 4 ? 0.3f : 0};
    const struct step_words step = {.step = 9, .seed_low = 5, .seed_high = 1u << 31, .micro = 2};
    const uint64_t cells = (uint64_t)tokens * experts;
    for (int back = 0; back < 2; back++) {
        check_begin(t, back ? KERNEL_ROUTER_NOISE_BACK : KERNEL_ROUTER_NOISE, 0,
                    "T %u E %u mode %u", tokens, experts, mode);
        check_step(t, 0, &step);
        check_normal(t, 1, DTYPE_F32, cells, 2);
        check_normal(t, 2, CHECK_STORE, 1, 1);
        check_normal(t, 3, DTYPE_F32, cells, 1);
        if (back) {
            check_normal(t, 4, CHECK_STORE, cells, 1);
            check_normal(t, 5, CHECK_STORE, cells, 1); // not written where there is no noise
            check_normal(t, 6, DTYPE_F32, tokens, 1);
        }
        check_run(t, &push, 1e-9);
    }
}

// Noise of the whole batch against that of its second half, and against the next step's.
static void parts_agree(struct check *t)
{
    enum { TOKENS = 8, EXPERTS = 5, CELLS = TOKENS * EXPERTS };
    float whole[CELLS] = {0}, half[CELLS] = {0}, later[CELLS] = {0}, theta = 0, zero[CELLS] = {0};
    struct step_words step = {.step = 4, .seed_low = 3};
    struct push_router_noise push = {.tokens = TOKENS, .experts = EXPERTS, .total = TOKENS,
                                     .noisy = 1};
    struct gpu_ref_call call = {.push = &push, .tag = DTYPE_F32,
                                .buffer = {&step, zero, &theta, whole}};
    kernel_info(KERNEL_ROUTER_NOISE)->ref(&call);
    step.step++, call.buffer[3] = later;
    kernel_info(KERNEL_ROUTER_NOISE)->ref(&call);
    step.step--, call.buffer[3] = half, push.tokens = push.first = TOKENS / 2;
    kernel_info(KERNEL_ROUTER_NOISE)->ref(&call);
    check_begin(t, KERNEL_ROUTER_NOISE, 0, "parts");
    if (memcmp(half, whole + CELLS / 2, sizeof half / 2) != 0)
        check_fail(t, "a part has other noise than the whole");
    for (int i = 0; i < CELLS; i++)
        if (whole[i] == later[i]) check_fail(t, "the next step has the same noise at %d", i);
}

static void hash(struct check *t, uint32_t tokens, uint32_t experts, uint32_t top_k)
{
    const struct push_router_hash push = {tokens, experts, top_k, 7};
    uint32_t *ids = calloc(tokens, sizeof *ids);
    for (uint32_t i = 0; i < tokens; i++) ids[i] = (uint32_t)check_random(t, 50000);
    check_begin(t, KERNEL_ROUTER_HASH, 0, "T %u E %u K %u", tokens, experts, top_k);
    check_words(t, 0, ids, tokens);
    check_output(t, 1, DTYPE_F32, (uint64_t)tokens * experts);
    check_output(t, 2, DTYPE_U32, (uint64_t)tokens * top_k);
    check_output(t, 3, DTYPE_F32, (uint64_t)tokens * top_k);
    check_output(t, 4, DTYPE_F32, tokens);
    check_run(t, &push, 1e-12);
    const uint32_t *picks = check_result(t, 2);
    for (uint32_t i = 0; picks && i < tokens * top_k; i++)
        for (uint32_t j = i / top_k * top_k; j < i; j++)
            if (picks[i] == picks[j]) check_fail(t, "token %u has an expert twice", i / top_k);
    free(ids);
}

// Pairs to experts at random, sorted by the reference; what is kept is counted.
static void capacity(struct check *t, uint32_t pairs, uint32_t experts, uint32_t most)
{
    const struct push_moe_capacity push = {pairs, experts, most};
    uint32_t *ids = calloc(pairs, 4), *inverse = calloc(pairs, 4),
             *offsets = calloc(experts + 1, 4), *next = calloc(experts + 1, 4);
    for (uint32_t p = 0; p < pairs; p++) {
        ids[p] = p % 5 == 4 ? KERNEL_NONE_ID : (uint32_t)check_random(t, experts);
        if (ids[p] < experts) offsets[ids[p] + 1]++;
    }
    for (uint32_t e = 0; e < experts; e++) next[e + 1] = offsets[e + 1] += offsets[e];
    for (uint32_t p = 0; p < pairs; p++)
        inverse[p] = ids[p] < experts ? next[ids[p]]++ : KERNEL_NONE_ID;
    check_begin(t, KERNEL_MOE_CAPACITY, 0, "P %u E %u capacity %u", pairs, experts, most);
    check_words(t, 0, ids, pairs);
    check_words(t, 1, inverse, pairs);
    check_words(t, 2, offsets, experts + 1);
    check_output(t, 3, DTYPE_U32, pairs);
    check_run(t, &push, 0);
    const uint32_t *kept = check_result(t, 3);
    for (uint32_t e = 0; kept && e < experts; e++) {
        uint32_t count = 0;
        for (uint32_t p = 0; p < pairs; p++) count += kept[p] == e;
        if (count != min_u32(most, offsets[e + 1] - offsets[e]))
            check_fail(t, "expert %u keeps %u of %u", e, count, offsets[e + 1] - offsets[e]);
    }
    free(ids), free(inverse), free(offsets), free(next);
}

void check_router_noise(struct check *t)
{
    for (uint32_t mode = 0; mode < 8; mode++) {
        noise(t, 1, 1, mode);
        noise(t, 5, 3, mode);
        noise(t, 3, 33, mode);
        noise(t, 2, 257, mode);
    }
    parts_agree(t);
    hash(t, 1, 1, 1);
    hash(t, 9, 7, 3);
    hash(t, 31, 64, 8);
    hash(t, 5, 6, 6);
    capacity(t, 1, 1, 1);
    capacity(t, 333, 7, 20);
    capacity(t, 1000, 64, 1);
    capacity(t, 97, 5, 1000);
}
