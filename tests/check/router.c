// SPDX-License-Identifier: MIT
// Checks of router, router_back, router_stats and router_totals: sizes of experts and picks, ties,
// NaN, the auxiliary losses, picks that were dropped, parts of a batch; the reference of the
// gradient itself against central finite differences.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

// what a router saw and made, on the host
struct routing {
    struct push_router push;
    float             *logits, *probs, *gates, *dgates, *lse;
    uint32_t          *ids, *offsets;
};

enum logit_kind { LOGITS_NORMAL, LOGITS_EQUAL, LOGITS_FEW, LOGITS_HUGE, LOGITS_KINDS };

static float logit(struct check *t, enum logit_kind kind, uint64_t stream, uint64_t i)
{
    static const float few[] = {-1.0f, -0.0f, 0.0f, 1.0f};
    switch (kind) {
    case LOGITS_NORMAL: break;
    case LOGITS_EQUAL: return 0.25f;
    case LOGITS_FEW: return few[rng_below(t->seed, stream, i, COUNT_OF(few))];
    case LOGITS_HUGE: return 1e4f * (float)(rng_uniform(t->seed, stream, i) * 2 - 1);
    case LOGITS_KINDS: break;
    }
    return 2.0f * (float)rng_normal(t->seed, stream, i);
}

static void run_reference(struct routing *r)
{
    const struct gpu_ref_call call = {.buffer = {r->logits, r->probs, r->ids, r->gates, r->lse},
                                      .push = &r->push};
    kernel_info(KERNEL_ROUTER)->ref(&call);
}

static struct routing routing_create(struct check *t, struct push_router push, enum logit_kind kind)
{
    const size_t cells = (size_t)push.tokens * push.experts,
                 pairs = (size_t)push.tokens * push.top_k;
    struct routing r = {.push = push};
    r.logits = malloc(cells * sizeof(float)), r.probs = malloc(cells * sizeof(float));
    r.gates = malloc(pairs * sizeof(float)), r.dgates = malloc(pairs * sizeof(float));
    r.ids = malloc(pairs * sizeof(uint32_t)), r.lse = malloc(push.tokens * sizeof(float));
    r.offsets = calloc(push.experts + 1, sizeof(uint32_t));
    const uint64_t stream = t->stream++;
    for (size_t i = 0; i < cells; i++) r.logits[i] = logit(t, kind, stream, i);
    for (size_t i = 0; i < pairs; i++) r.dgates[i] = (float)rng_normal(t->seed, stream + 7777, i);
    run_reference(&r);
    for (size_t i = 0; i < pairs; i++) r.offsets[r.ids[i] + 1]++;
    for (uint32_t e = 0; e < push.experts; e++) r.offsets[e + 1] += r.offsets[e];
    return r;
}

static void routing_free(struct routing *r)
{
    free(r->logits), free(r->probs), free(r->gates), free(r->dgates), free(r->lse), free(r->ids),
        free(r->offsets);
}

static void floats(struct check *t, int b, const float *values, uint64_t count)
{
    check_words(t, b, (const uint32_t *)values, count);
}

static void forward(struct check *t, const struct routing *r, enum logit_kind kind)
{
    const struct push_router *push = &r->push;
    const uint64_t cells = (uint64_t)push->tokens * push->experts,
                   pairs = (uint64_t)push->tokens * push->top_k;
    check_begin(t, KERNEL_ROUTER, 0, "T %u E %u K %u renormalise %u kind %d", push->tokens,
                push->experts, push->top_k, push->renormalise, (int)kind);
    floats(t, 0, r->logits, cells);
    check_output(t, 1, DTYPE_F32, cells);
    check_output(t, 2, DTYPE_U32, pairs);
    check_output(t, 3, DTYPE_F32, pairs);
    check_output(t, 4, DTYPE_F32, push->tokens);
    check_run(t, push, 1e-10);
}

static void backward(struct check *t, const struct routing *r, float aux_scale, const char *what)
{
    const struct push_router *push = &r->push;
    const uint64_t cells = (uint64_t)push->tokens * push->experts,
                   pairs = (uint64_t)push->tokens * push->top_k;
    check_begin(t, KERNEL_ROUTER_BACK, 0, "T %u E %u K %u renormalise %u balance %g z %g %s",
                push->tokens, push->experts, push->top_k, push->renormalise,
                (double)push->balance_coef, (double)push->z_coef, what);
    floats(t, 0, r->probs, cells);
    check_words(t, 1, r->ids, pairs);
    floats(t, 2, r->gates, pairs);
    floats(t, 3, r->dgates, pairs);
    floats(t, 4, r->lse, push->tokens);
    check_words(t, 5, r->offsets, push->experts + 1);
    check_step(t, 6, &(struct step_words){.aux_scale = aux_scale});
    check_output(t, 7, CHECK_STORE, cells);
    // a single pick that is renormalised has a gradient of rounding errors alone
    check_run(t, push, 1e-9);
}

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

static void stats(struct check *t, const struct routing *r)
{
    const struct push_router *push = &r->push;
    const uint64_t experts = push->experts;
    for (uint32_t accumulate = 0; accumulate < 2; accumulate++) {
        struct push_router part = *push;
        part.accumulate = accumulate;
        part.total = accumulate ? 3 * part.tokens : 0;
        check_begin(t, KERNEL_ROUTER_STATS, 0, "T %u of %u E %u K %u", part.tokens, part.total,
                    part.experts, part.top_k);
        some_probabilities(t, 0, part.tokens * experts);
        check_words(t, 1, r->offsets, experts + 1);
        if (accumulate) check_normal(t, 2, DTYPE_F32, 4 + 2 * experts, 1);
        else check_output(t, 2, DTYPE_F32, 4 + 2 * experts);
        if (accumulate) check_normal(t, 3, DTYPE_F32, experts, 1);
        else check_output(t, 3, DTYPE_F32, experts);
        check_run(t, &part, 1e-10);
    }
    check_begin(t, KERNEL_ROUTER_TOTALS, 0, "T %u E %u K %u", push->tokens, push->experts,
                push->top_k);
    floats(t, 0, r->lse, push->tokens);
    some_probabilities(t, 1, experts);
    some_probabilities(t, 2, 4 + 2 * experts);
    check_run(t, push, 1e-10);
}

// A row with NaN, and one of nothing else: ids must stay in range and distinct.
static void not_a_number(struct check *t, uint32_t experts, uint32_t top_k)
{
    const struct push_router push = {3, experts, top_k, 1, 1, 0, 0};
    struct routing r = routing_create(t, push, LOGITS_NORMAL);
    for (uint32_t e = 0; e < experts; e++) r.logits[e] = NAN;
    r.logits[experts + experts / 2] = -NAN;
    check_begin(t, KERNEL_ROUTER, 0, "NaN E %u K %u", experts, top_k);
    floats(t, 0, r.logits, 3 * (uint64_t)experts);
    check_output(t, 1, DTYPE_F32, 3 * (uint64_t)experts);
    check_output(t, 2, DTYPE_U32, 3 * (uint64_t)top_k);
    check_output(t, 3, DTYPE_F32, 3 * (uint64_t)top_k);
    check_output(t, 4, DTYPE_F32, 3);
    check_run_only(t, &push);
    const uint32_t *ids = check_result(t, 2);
    const float *probs = check_result(t, 1);
    for (uint32_t i = 0; ids && i < 3 * top_k; i++)
        for (uint32_t j = i / top_k * top_k; j <= i; j++)
            if (ids[i] >= experts || (j < i && ids[i] == ids[j]))
                check_fail(t, "pick %u is expert %u", i, ids[i]);
    if (probs && (!isnan(probs[0]) || isnan(probs[2 * experts])))
        check_fail(t, "NaN lost or in the wrong token");
    routing_free(&r);
}

// ---- the reference of the gradient, by central differences of the scalar objective in double

static double token_objective(const struct routing *r, const double *logits, uint32_t t,
                              double aux_scale)
{
    const struct push_router *push = &r->push;
    const uint32_t *ids = r->ids + (size_t)t * push->top_k, experts = push->experts;
    const float *dgates = r->dgates + (size_t)t * push->top_k;
    const double temper = (double)push->inv_temperature;
    double sum = 0, picked = 0, gates = 0, balance = 0;
    for (uint32_t e = 0; e < experts; e++) sum += exp(logits[e] * temper);
    for (uint32_t k = 0; k < push->top_k; k++) picked += exp(logits[ids[k]] * temper);
    for (uint32_t k = 0; k < push->top_k; k++)
        gates +=
            (double)dgates[k] * exp(logits[ids[k]] * temper) / (push->renormalise ? picked : sum);
    for (uint32_t e = 0; e < experts; e++)
        balance += (r->offsets[e + 1] - r->offsets[e]) * exp(logits[e] * temper) / sum;
    balance *= experts / ((double)push->tokens * push->top_k);
    const double z = log(sum) * log(sum);
    return gates + aux_scale * ((double)push->balance_coef * balance + (double)push->z_coef * z) /
                       push->tokens;
}

static void finite_differences(struct check *t, struct push_router push)
{
    struct routing r = routing_create(t, push, LOGITS_NORMAL);
    const size_t cells = (size_t)push.tokens * push.experts;
    float *dlogits = malloc(cells * sizeof *dlogits);
    struct step_words step = {.aux_scale = 0.7f};
    const struct gpu_ref_call call = {.buffer = {r.probs, r.ids, r.gates, r.dgates, r.lse,
                                                 r.offsets, &step, dlogits},
                                      .push = &push,
                                      .tag = DTYPE_F32};
    kernel_info(KERNEL_ROUTER_BACK)->ref(&call);
    check_begin(t, KERNEL_ROUTER_BACK, 0, "differences E %u K %u renormalise %u", push.experts,
                push.top_k, push.renormalise);
    double *logits = malloc(push.experts * sizeof *logits);
    for (size_t i = 0; i < cells; i++) {
        const uint32_t token = (uint32_t)(i / push.experts), e = (uint32_t)(i % push.experts);
        for (uint32_t j = 0; j < push.experts; j++) logits[j] = (double)r.logits[i - e + j];
        const double h = 1e-4, middle = logits[e];
        logits[e] = middle + h;
        const double above = token_objective(&r, logits, token, (double)step.aux_scale);
        logits[e] = middle - h;
        const double slope =
            (above - token_objective(&r, logits, token, (double)step.aux_scale)) / (2 * h);
        if (fabs(slope - (double)dlogits[i]) > 1e-6 + 1e-5 * fabs(slope))
            check_fail(t, "reference at %zu: %.9g, by differences %.9g", i, (double)dlogits[i],
                       slope);
    }
    free(logits), free(dlogits);
    routing_free(&r);
}

void check_router(struct check *t)
{
    static const struct { uint32_t tokens, experts, top_k; } sizes[] = {
        {1, 2, 1},  {3, 2, 2},   {5, 3, 2},  {17, 8, 2},  {4, 13, 13},   {7, 31, 2},
        {4, 32, 1}, {9, 33, 16}, {6, 64, 8}, {3, 257, 6}, {2, 2048, 16}, {1, 20480, 4},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (uint32_t mode = 0; mode < 4; mode++) {
            const float temper = mode & 2 ? 0.5f : 1, balance = mode & 2 ? 0.01f : 0;
            const struct push_router push = {sizes[i].tokens, sizes[i].experts, sizes[i].top_k,
                                             mode & 1, temper, balance, balance / 10};
            const enum logit_kind kind = (enum logit_kind)((mode + i) % LOGITS_KINDS);
            struct routing r = routing_create(t, push, kind);
            forward(t, &r, kind);
            stats(t, &r);
            routing_free(&r);
            r = routing_create(t, push, LOGITS_NORMAL);
            backward(t, &r, 3, "");
            r.push.total = 2 * push.tokens;
            backward(t, &r, 3, "a part");
            r.push.total = 0;
            if (push.top_k > 1) r.ids[push.top_k - 1] = KERNEL_NONE_ID;
            backward(t, &r, 3, "dropped");
            routing_free(&r);
        }
    not_a_number(t, 5, 3);
    not_a_number(t, 70, 70);
    for (uint32_t mode = 0; mode < 4; mode++)
        finite_differences(t, (struct push_router){6, 9, 3, mode & 1, 0.6f, mode & 2 ? 0.3f : 0,
                                                   mode & 2 ? 0.2f : 0});
}
