// SPDX-License-Identifier: MIT
// Checks of a router's statistics: counts, means and entropies of each expert, the sums of gates,
// every auxiliary loss and its slope, the loss that is over all layers, and the balancing bias.
// The slopes are held against differences of the losses themselves.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

// Not too near 1, where the logarithm of some drivers has no digits left; some are 0.
static void some_probabilities(struct check *t, int b, uint64_t count)
{
    double *values = malloc(count * sizeof *values);
    const uint64_t stream = t->stream++;
    for (uint64_t i = 0; i < count; i++)
        values[i] = i % 7 == 6 ? 0 : 1e-6 + 0.8 * rng_uniform(t->seed, stream, i);
    check_values(t, b, DTYPE_F32, values, count);
    free(values);
}

// Rows of the experts: some have none.
static uint32_t *some_offsets(struct check *t, uint32_t experts, uint32_t pairs)
{
    uint32_t *offsets = calloc(experts + 1, sizeof *offsets);
    for (uint32_t i = 0; i < pairs; i++)
        offsets[1 + check_random(t, experts) / 2 * 2 % experts]++;
    for (uint32_t e = 0; e < experts; e++) offsets[e + 1] += offsets[e];
    return offsets;
}

static void stats(struct check *t, uint32_t tokens, uint32_t experts)
{
    uint32_t *offsets = some_offsets(t, experts, 2 * tokens);
    for (uint32_t mode = 0; mode < 8; mode++) {
        const bool adds = mode & 1;
        const struct push_router push = {
            .tokens = tokens, .experts = experts, .top_k = 2, .inv_temperature = 0.5f,
            .accumulate = adds, .total = adds ? 3 * tokens : 0, .sigmoid = mode & 2,
            .z_square_coef = mode & 4 ? 0.1f : 0};
        check_begin(t, KERNEL_ROUTER_STATS, 0, "T %u E %u mode %u", tokens, experts, mode);
        some_probabilities(t, 0, (uint64_t)tokens * experts);
        check_words(t, 1, offsets, experts + 1);
        check_normal(t, 2, DTYPE_F32, tokens, 1);
        check_normal(t, 3, DTYPE_F32, (uint64_t)tokens * experts, 1);
        check_normal(t, 4, DTYPE_F32, ROUTER_STATS_HEAD + 3 * (uint64_t)experts, 1);
        if (adds) check_normal(t, 5, DTYPE_F32, experts, 1);
        else check_output(t, 5, DTYPE_F32, experts);
        check_run(t, &push, 1e-10);
    }
    free(offsets);
}

static void entropies(struct check *t, uint32_t tokens, uint32_t experts)
{
    for (uint32_t sigmoid = 0; sigmoid < 2; sigmoid++) {
        const struct push_router push = {.tokens = tokens, .experts = experts, .top_k = 2,
                                         .sigmoid = sigmoid};
        check_begin(t, KERNEL_ROUTER_ENTROPY, 0, "T %u E %u sigmoid %u", tokens, experts, sigmoid);
        some_probabilities(t, 0, (uint64_t)tokens * experts);
        check_normal(t, 1, DTYPE_F32, tokens, 1);
        check_output(t, 2, DTYPE_F32, tokens);
        check_run(t, &push, 1e-10);
    }
}

static void gates(struct check *t, uint32_t tokens, uint32_t experts)
{
    const uint32_t pairs = 2 * tokens;
    uint32_t *offsets = some_offsets(t, experts, pairs), *order = calloc(pairs, sizeof *order);
    for (uint32_t i = 0; i < pairs; i++) order[i] = pairs - 1 - i;
    const struct push_router push = {.tokens = tokens, .experts = experts, .top_k = 2};
    check_begin(t, KERNEL_ROUTER_GATES, 0, "T %u E %u", tokens, experts);
    some_probabilities(t, 0, pairs);
    check_words(t, 1, offsets, experts + 1);
    check_words(t, 2, order, pairs);
    check_output(t, 3, DTYPE_F32, experts);
    check_run(t, &push, 1e-10);
    free(order), free(offsets);
}

static struct push_router_losses losses_push(uint32_t tokens, uint32_t experts, uint32_t mode)
{
    return (struct push_router_losses){
        .tokens = tokens, .experts = experts, .count = mode & 1, .global = mode == 1,
        .balance_coef = 0.1f, .variance_coef = mode & 2 ? 30 : 0,
        .mean_entropy_coef = mode & 2 ? 0.2f : 0, .importance_coef = mode & 2 ? 0.3f : 0};
}

static void losses(struct check *t, uint32_t tokens, uint32_t experts)
{
    uint32_t *offsets = some_offsets(t, experts, 2 * tokens);
    for (uint32_t mode = 0; mode < 4; mode++) {
        const struct push_router_losses push = losses_push(tokens, experts, mode);
        check_begin(t, KERNEL_ROUTER_LOSSES, 0, "T %u E %u mode %u", tokens, experts, mode);
        check_normal(t, 0, DTYPE_F32, tokens, 1);
        some_probabilities(t, 1, experts);
        some_probabilities(t, 2, experts);
        check_words(t, 3, offsets, experts + 1);
        some_probabilities(t, 4, ROUTER_STATS_HEAD + 3 * (uint64_t)experts);
        check_output(t, 5, DTYPE_F32, 2 * (uint64_t)experts);
        some_probabilities(t, 6, tokens);
        check_run(t, &push, 1e-9);
    }
    free(offsets);
}

// ---- the slopes, by differences of the losses' values in the reference

enum { SOME = 6, STATS = ROUTER_STATS_HEAD + 3 * SOME };

static double total(struct push_router_losses push, const float *mean, const float *gate_sums,
                    float *slope)
{
    float stats[STATS] = {0}, sums[SOME] = {0}, out[2 * SOME], lse[4] = {0};
    uint32_t offsets[SOME + 1] = {0};
    for (uint32_t e = 0; e < SOME; e++) {
        stats[ROUTER_STATS_HEAD + e] = (float)(3 * e);
        stats[ROUTER_STATS_HEAD + SOME + e] = mean[e];
    }
    const struct gpu_ref_call call = {.push = &push,
        .buffer = {lse, sums, (float *)gate_sums, offsets, stats, slope ? slope : out,
                   lse}};
    kernel_info(KERNEL_ROUTER_LOSSES)->ref(&call);
    return (double)push.balance_coef * (double)stats[ROUTER_BALANCE] +
           (double)push.variance_coef * (double)stats[ROUTER_VARIANCE] -
           (double)push.mean_entropy_coef * (double)stats[ROUTER_MEAN_ENTROPY] +
           (double)push.importance_coef * (double)stats[ROUTER_IMPORTANCE];
}

static void slopes(struct check *t, uint32_t loss)
{
    const struct push_router_losses push = {
        .tokens = 4, .experts = SOME, .balance_coef = loss == 0, .variance_coef = loss == 1,
        .mean_entropy_coef = loss == 2, .importance_coef = loss == 3};
    float x[2 * SOME], slope[2 * SOME];
    for (int i = 0; i < 2 * SOME; i++)
        x[i] = 0.1f + 0.3f * (float)rng_uniform(t->seed, 77, (uint64_t)i);
    total(push, x, x + SOME, slope);
    check_begin(t, KERNEL_ROUTER_LOSSES, 0, "differences of loss %u", loss);
    for (int i = 0; i < 2 * SOME; i++) {
        const float h = 1.0f / 256, middle = x[i];
        x[i] = middle + h;
        const double above = total(push, x, x + SOME, NULL);
        x[i] = middle - h;
        const double by_difference = (above - total(push, x, x + SOME, NULL)) / (2 * (double)h);
        x[i] = middle;
        if (fabs(by_difference - (double)slope[i]) > 2e-3 + 2e-3 * fabs(by_difference))
            check_fail(t, "slope %d is %g, by differences %g", i, (double)slope[i], by_difference);
    }
}

// ---- over all layers, and after the step

static void pool(struct check *t, uint32_t experts, uint32_t layers)
{
    const uint32_t stride = ROUTER_STATS_HEAD + 3 * experts + 5;
    const struct push_router_pool push = {.tokens = 11, .experts = experts, .layers = layers,
                                          .stride = stride, .layer = layers - 1, .coef = 0.3f};
    check_begin(t, KERNEL_ROUTER_POOL, 0, "E %u layers %u", experts, layers);
    some_probabilities(t, 0, (uint64_t)layers * stride);
    check_normal(t, 1, DTYPE_F32, 2 * (uint64_t)experts, 1);
    check_run(t, &push, 1e-10);
}

static void bias(struct check *t, uint32_t experts, bool copy, bool skipped)
{
    const struct push_router_bias push = {.experts = experts, .copy = copy, .speed = 0.001f};
    double *load = calloc(ROUTER_STATS_HEAD + 3 * (size_t)experts, sizeof *load);
    for (uint32_t e = 0; e < experts; e++) // the first half of them is at the mean
        load[ROUTER_STATS_HEAD + 2 * experts + e] = e < experts / 2 ? 8 : 8 + (e % 2 ? 3 : -3);
    check_begin(t, KERNEL_ROUTER_BIAS, 0, "E %u copy %d skipped %d", experts, (int)copy,
                (int)skipped);
    check_values(t, 0, DTYPE_F32, load, ROUTER_STATS_HEAD + 3 * (uint64_t)experts);
    check_values(t, 1, DTYPE_F32, (const double[]){1, 1, skipped ? 0 : 1, 0}, 4);
    check_normal(t, 2, DTYPE_F32, experts, 0.1);
    check_output(t, 3, CHECK_STORE, experts);
    check_run(t, &push, 1e-12);
    free(load);
}

// Every bit is the reference's: one sum in f32, rounded by the same random numbers.
static void stochastic_bias(struct check *t, uint32_t experts, bool skipped, bool nearest)
{
    const struct push_router_bias_stochastic push = {
        .experts = experts, .draw = 11, .nearest = nearest, .speed = 0.001f};
    double *load = calloc(ROUTER_STATS_HEAD + 3 * (size_t)experts, sizeof *load);
    for (uint32_t e = 0; e < experts; e++)
        load[ROUTER_STATS_HEAD + 2 * experts + e] = e < experts / 2 ? 8 : 8 + (e % 2 ? 3 : -3);
    check_begin(t, KERNEL_ROUTER_BIAS_STOCHASTIC, 0, "E %u skipped %d nearest %d", experts,
                (int)skipped, (int)nearest);
    check_step(t, 0, &(struct step_words){.step = 9, .seed_low = 7});
    check_values(t, 1, DTYPE_F32, load, ROUTER_STATS_HEAD + 3 * (uint64_t)experts);
    check_values(t, 2, DTYPE_F32, (const double[]){1, 1, skipped ? 0 : 1, 0}, 4);
    check_normal(t, 3, CHECK_STORE, experts, 0.5);
    free(load);
    if (!check_run(t, &push, 1e-12)) return;
    struct gpu_ref_call call = {.push = &push, .tag = (int)t->store};
    for (int b = 0; b < 4; b++) call.buffer[b] = t->binding[b].initial;
    uint16_t *want = malloc(experts * sizeof *want);
    memcpy(want, t->binding[3].initial, experts * sizeof *want);
    call.buffer[3] = want;
    kernel_info(KERNEL_ROUTER_BIAS_STOCHASTIC)->ref(&call);
    if (memcmp(want, check_result(t, 3), experts * sizeof *want) != 0)
        check_fail(t, "not the bits of the reference");
    if ((memcmp(want, t->binding[3].initial, experts * sizeof *want) == 0) != skipped)
        check_fail(t, skipped ? "moved in a skipped step" : "nothing moved");
    free(want);
}

void check_router_stats(struct check *t)
{
    static const uint32_t sizes[][2] = {{1, 1}, {3, 2}, {31, 8}, {64, 33}, {129, 7}, {5, 2048}};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        stats(t, sizes[i][0], sizes[i][1]);
        entropies(t, sizes[i][0], sizes[i][1]);
        gates(t, sizes[i][0], sizes[i][1]);
        losses(t, sizes[i][0], sizes[i][1]);
    }
    for (uint32_t loss = 0; loss < 4; loss++) slopes(t, loss);
    pool(t, 5, 1);
    pool(t, 64, 3);
    for (int copy = 0; copy < 2; copy++)
        for (int skipped = 0; skipped < 2; skipped++)
            bias(t, copy ? 33 : 4, copy, skipped);
    for (int i = 0; t->store == DTYPE_BF16 && i < 4; i++)
        stochastic_bias(t, i & 1 ? 2048 : 61, i == 2, i == 3);
}
