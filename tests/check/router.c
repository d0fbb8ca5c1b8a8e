// SPDX-License-Identifier: MIT
// Checks of the routers: the plain one, and any other in its steps; sizes of experts and picks,
// ties, NaN, every rule of picking, groups and biases, the way back with all auxiliary losses,
// picks that were dropped, parts of a batch; the reference of the gradient itself against central
// finite differences.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

// what a router saw and made, on the host
struct routing {
    struct push_router push;
    float             *logits, *scores, *choice, *gates, *dgates, *lse, *slope;
    uint32_t          *ids;
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

// The picks of the reference: of the scores themselves, without bias and groups.
static void run_reference(struct routing *r)
{
    const struct gpu_ref_call score = {.buffer = {r->logits, r->scores, r->lse}, .push = &r->push};
    kernel_info(KERNEL_ROUTER_SCORE)->ref(&score);
    const struct gpu_ref_call pick = {.buffer = {r->scores, r->scores, r->ids, r->gates},
                                      .push = &r->push};
    kernel_info(KERNEL_ROUTER_PICK)->ref(&pick);
}

static struct routing routing_create(struct check *t, struct push_router push, enum logit_kind kind)
{
    const size_t cells = (size_t)push.tokens * push.experts,
                 pairs = (size_t)push.tokens * push.top_k;
    struct routing r = {.push = push};
    r.logits = malloc(cells * sizeof(float)), r.scores = malloc(cells * sizeof(float));
    r.gates = malloc(pairs * sizeof(float)), r.dgates = malloc(pairs * sizeof(float));
    r.ids = malloc(pairs * sizeof(uint32_t)), r.lse = malloc(push.tokens * sizeof(float));
    r.slope = malloc(2 * push.experts * sizeof(float));
    const uint64_t stream = t->stream++;
    for (size_t i = 0; i < cells; i++) r.logits[i] = logit(t, kind, stream, i);
    for (size_t i = 0; i < pairs; i++) r.dgates[i] = (float)rng_normal(t->seed, stream + 7777, i);
    for (size_t i = 0; i < 2 * push.experts; i++)
        r.slope[i] = (float)(0.3 * rng_normal(t->seed, stream + 8888, i));
    run_reference(&r);
    return r;
}

static void routing_free(struct routing *r)
{
    free(r->logits), free(r->scores), free(r->gates), free(r->dgates), free(r->lse), free(r->ids),
        free(r->slope);
}

static void floats(struct check *t, int b, const float *values, uint64_t count)
{
    check_words(t, b, (const uint32_t *)values, count);
}

// ---- forward

static void plain(struct check *t, const struct routing *r, enum logit_kind kind)
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

static void score(struct check *t, const struct routing *r, enum logit_kind kind)
{
    const struct push_router *push = &r->push;
    const uint64_t cells = (uint64_t)push->tokens * push->experts;
    check_begin(t, KERNEL_ROUTER_SCORE, 0, "T %u E %u sigmoid %u kind %d", push->tokens,
                push->experts, push->sigmoid, (int)kind);
    floats(t, 0, r->logits, cells);
    check_output(t, 1, DTYPE_F32, cells);
    check_output(t, 2, DTYPE_F32, push->tokens);
    check_run(t, push, 1e-9); // a single logarithm near 0 has few digits
}

static void choice(struct check *t, uint32_t tokens, uint32_t experts, uint32_t groups,
                   uint32_t group_picks, bool biased, enum logit_kind kind)
{
    const struct push_router push = {.tokens = tokens, .experts = experts, .top_k = 1,
                                     .inv_temperature = 1, .sigmoid = 1, .scale = 1,
                                     .biased = biased, .groups = groups,
                                     .group_picks = group_picks};
    struct routing r = routing_create(t, push, kind);
    check_begin(t, KERNEL_ROUTER_CHOICE, 0, "T %u E %u groups %u of %u biased %d kind %d", tokens,
                experts, group_picks, groups, (int)biased, (int)kind);
    floats(t, 0, r.scores, (uint64_t)tokens * experts);
    check_normal(t, 1, CHECK_STORE, experts, 0.3);
    check_output(t, 2, DTYPE_F32, (uint64_t)tokens * experts);
    check_run_only(t, &push);
    // infinities: the harness compares numbers, so each is compared here
    float *want = malloc((size_t)tokens * experts * sizeof *want);
    const struct gpu_ref_call call = {.buffer = {r.scores, t->binding[1].initial, want},
                                      .push = &push, .tag = (int)t->store};
    kernel_info(KERNEL_ROUTER_CHOICE)->ref(&call);
    const float *got = check_result(t, 2);
    for (uint32_t i = 0; got && i < tokens * experts; i++)
        if (!(got[i] == want[i])) {
            check_fail(t, "cell %u is %g, the reference has %g", i, (double)got[i],
                       (double)want[i]);
            break;
        }
    free(want);
    routing_free(&r);
}

static void pick(struct check *t, const struct routing *r, enum logit_kind kind)
{
    const struct push_router *push = &r->push;
    const uint64_t cells = (uint64_t)push->tokens * push->experts,
                   pairs = (uint64_t)push->tokens * push->top_k;
    check_begin(t, KERNEL_ROUTER_PICK, 0,
                "T %u E %u K %u rule %u limit %g least %u renormalise %u straight %u kind %d",
                push->tokens, push->experts, push->top_k, push->pick, (double)push->limit,
                push->least, push->renormalise, push->straight, (int)kind);
    floats(t, 0, r->scores, cells);
    floats(t, 1, r->scores, cells);
    check_output(t, 2, DTYPE_U32, pairs);
    check_output(t, 3, DTYPE_F32, pairs);
    check_run(t, push, 1e-10);
}

// Every rule, on scores of every kind; what a rule did is looked at.
static void picks(struct check *t, uint32_t tokens, uint32_t experts, uint32_t top_k)
{
    for (uint32_t i = 0; i < 12; i++) {
        struct push_router push = {.tokens = tokens, .experts = experts, .top_k = top_k,
                                   .renormalise = i & 1, .inv_temperature = 1.5f,
                                   .scale = i & 2 ? 2.5f : 1, .pick = i / 3, .least = i % 3};
        push.limit = push.pick == PICK_THRESHOLD ? 0.07f : 0.71f;
        if (push.pick == PICK_ALL) push.top_k = experts;
        push.least = min_u32(push.least, push.top_k);
        push.straight = push.pick == PICK_TOP && push.top_k == 1;
        const enum logit_kind kind = (enum logit_kind)(i % LOGITS_KINDS);
        struct routing r = routing_create(t, push, kind);
        pick(t, &r, kind);
        routing_free(&r);
    }
}

// A row with NaN, and one of nothing else: ids must stay in range and distinct.
static void not_a_number(struct check *t, uint32_t experts, uint32_t top_k)
{
    const struct push_router push = {.tokens = 3, .experts = experts, .top_k = top_k,
                                     .renormalise = 1, .inv_temperature = 1, .scale = 1};
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

// ---- backward

static void backward(struct check *t, const struct routing *r, float aux_scale, const char *what)
{
    const struct push_router *push = &r->push;
    const uint64_t cells = (uint64_t)push->tokens * push->experts,
                   pairs = (uint64_t)push->tokens * push->top_k;
    check_begin(t, KERNEL_ROUTER_BACK, 0, "T %u E %u K %u renormalise %u sigmoid %u straight %u %s",
                push->tokens, push->experts, push->top_k, push->renormalise, push->sigmoid,
                push->straight, what);
    floats(t, 0, r->scores, cells);
    check_words(t, 1, r->ids, pairs);
    floats(t, 2, r->dgates, pairs);
    floats(t, 3, r->lse, push->tokens);
    floats(t, 4, r->slope, 2 * push->experts);
    check_step(t, 5, &(struct step_words){.aux_scale = aux_scale});
    floats(t, 6, r->logits, cells);
    check_output(t, 7, CHECK_STORE, cells);
    // a single pick that is renormalised has a gradient of rounding errors alone
    check_run(t, push, 1e-9);
}

// the scalar objective of one token in double
static double token_objective(const struct routing *r, const double *logits, uint32_t t,
                              double aux_scale)
{
    const struct push_router *push = &r->push;
    const uint32_t *ids = r->ids + (size_t)t * push->top_k, experts = push->experts;
    const float *dgates = r->dgates + (size_t)t * push->top_k;
    double score[64], sum = 0, picked = 0, gates = 0, aux = 0;
    for (uint32_t e = 0; e < experts; e++) {
        const double z = logits[e] * (double)push->inv_temperature;
        sum += score[e] = push->sigmoid ? 1 / (1 + exp(-z)) : exp(z);
        aux += (double)push->z_square_coef * z * z / experts;
    }
    if (!push->sigmoid) aux += (double)push->z_coef * log(sum) * log(sum);
    for (uint32_t e = 0; e < experts; e++) {
        const double q = score[e] / sum;
        aux += (double)r->slope[e] * q + (double)push->entropy_coef * q * log(q);
        if (!push->sigmoid) score[e] = q;
    }
    for (uint32_t k = 0; k < push->top_k; k++)
        if (ids[k] < experts) picked += score[ids[k]];
    for (uint32_t k = 0; k < push->top_k; k++) {
        if (ids[k] >= experts) continue;
        const double gate = push->straight ? score[ids[k]]
                                           : (double)push->scale * score[ids[k]] /
                                                 (push->renormalise ? picked : 1);
        gates += ((double)dgates[k] + aux_scale * (double)r->slope[experts + ids[k]]) * gate;
    }
    return gates + aux_scale * aux / push->tokens;
}

static void finite_differences(struct check *t, struct push_router push)
{
    struct routing r = routing_create(t, push, LOGITS_NORMAL);
    const size_t cells = (size_t)push.tokens * push.experts;
    float *dlogits = malloc(cells * sizeof *dlogits);
    struct step_words step = {.aux_scale = 0.7f};
    const struct gpu_ref_call call = {.buffer = {r.scores, r.ids, r.dgates, r.lse, r.slope, &step,
                                                 r.logits, dlogits},
                                      .push = &push,
                                      .tag = DTYPE_F32};
    kernel_info(KERNEL_ROUTER_BACK)->ref(&call);
    check_begin(t, KERNEL_ROUTER_BACK, 0, "differences E %u rule %u renormalise %u sigmoid %u",
                push.experts, push.pick, push.renormalise, push.sigmoid);
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
        if (fabs(slope - (double)dlogits[i]) > 2e-6 + 1e-5 * fabs(slope))
            check_fail(t, "reference at %zu: %.9g, by differences %.9g", i, (double)dlogits[i],
                       slope);
    }
    free(logits), free(dlogits);
    routing_free(&r);
}

// ----

static void one_size(struct check *t, uint32_t tokens, uint32_t experts, uint32_t top_k,
                     uint32_t index)
{
    for (uint32_t mode = 0; mode < 8; mode++) {
        const bool losses = mode & 2, sigmoid = mode & 4;
        const struct push_router push = {
            .tokens = tokens, .experts = experts, .top_k = top_k, .renormalise = mode & 1,
            .inv_temperature = losses ? 0.5f : 1, .sigmoid = sigmoid, .scale = losses ? 1.25f : 1,
            .z_coef = losses && !sigmoid ? 0.001f : 0, .entropy_coef = losses ? 0.1f : 0,
            .z_square_coef = losses ? 0.01f : 0, .straight = top_k == 1 && mode == 2};
        const enum logit_kind kind = (enum logit_kind)((mode + index) % LOGITS_KINDS);
        struct routing r = routing_create(t, push, kind);
        if (!sigmoid) plain(t, &r, kind);
        score(t, &r, kind);
        routing_free(&r);
        r = routing_create(t, push, LOGITS_NORMAL);
        backward(t, &r, 3, "");
        r.push.total = 2 * push.tokens;
        backward(t, &r, 3, "a part");
        r.push.total = 0;
        if (push.top_k > 1) r.ids[push.top_k - 1] = KERNEL_NONE_ID;
        backward(t, &r, 3, "fewer");
        routing_free(&r);
    }
}

void check_router(struct check *t)
{
    static const struct { uint32_t tokens, experts, top_k; } sizes[] = {
        {1, 2, 1},  {3, 2, 2},   {5, 3, 2},  {17, 8, 2},  {4, 13, 13},   {7, 31, 2},
        {4, 32, 1}, {9, 33, 16}, {6, 64, 8}, {3, 257, 6}, {2, 2048, 16}, {1, 20480, 4},
    };
    for (uint32_t i = 0; i < COUNT_OF(sizes); i++) {
        one_size(t, sizes[i].tokens, sizes[i].experts, sizes[i].top_k, i);
        if (sizes[i].experts < 1000) picks(t, sizes[i].tokens, sizes[i].experts, sizes[i].top_k);
    }
    for (uint32_t biased = 0; biased < 2; biased++) {
        choice(t, 5, 7, 1, 1, biased, LOGITS_NORMAL);
        choice(t, 3, 12, 4, 2, biased, LOGITS_FEW);
        choice(t, 2, 6, 6, 1, biased, LOGITS_NORMAL); // groups of one
        choice(t, 9, 256, 8, 4, biased, LOGITS_NORMAL);
        choice(t, 3, 66, 33, 32, biased, LOGITS_EQUAL);
    }
    not_a_number(t, 5, 3);
    not_a_number(t, 70, 70);
    for (uint32_t mode = 0; mode < 16; mode++) {
        const bool losses = mode & 2, sigmoid = mode & 4;
        finite_differences(t, (struct push_router){
            .tokens = 6, .experts = 9, .top_k = mode & 8 ? 1 : 4, .renormalise = mode & 1,
            .inv_temperature = 0.6f, .sigmoid = sigmoid, .scale = 1.5f, .straight = mode == 8,
            .pick = mode & 8 ? PICK_TOP : PICK_MASS, .limit = sigmoid ? 2 : 0.7f,
            .z_coef = losses && !sigmoid ? 0.2f : 0, .entropy_coef = losses ? -0.3f : 0,
            .z_square_coef = losses ? 0.4f : 0});
    }
}
