// SPDX-License-Identifier: MIT
// Backward references of the routers against finite differences: how experts are picked, the losses
// on it, noise, bodies, and two levels.
#include <math.h>
#include <string.h>

#include "operations.h"
#include "src/base.h"

// ---- router: gates of the picks, plus every auxiliary loss as router_back knows them

static void router_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_ROUTER_SCORE, &s.push, s.logits, s.probs, s.lse);
    GRAD_RUN(c, KERNEL_ROUTER_PICK, &s.push, s.probs, s.probs, s.ids, s.gates);
}

// expert choice: what a column takes
static void columns_forward(struct grad_case *c)
{
    const struct push_router *p = &s.push.router;
    const struct push_router_columns columns = {p->tokens, p->experts, 4, p->scale};
    GRAD_RUN(c, KERNEL_ROUTER_SCORE, &s.push, s.logits, s.probs, s.lse);
    GRAD_RUN(c, KERNEL_ROUTER_COLUMNS, &columns, s.probs, s.ids, s.gates);
}

static double router_objective(struct grad_case *c)
{
    const struct push_router *p = &s.push.router;
    const float *slope = c->array[s.offsets].data;
    const uint32_t *ids = (const uint32_t *)(void *)c->array[s.ids].data;
    double total = grad_dot(c, s.gates, s.weight), aux = 0;
    for (uint32_t i = 0; i < p->tokens * p->top_k; i++)
        if (ids[i] < p->experts)
            total += 0.5 * slope[p->experts + ids[i]] * c->array[s.gates].data[i];
    for (uint32_t i = 0; i < p->tokens * p->experts; i++) {
        const double score = c->array[s.probs].data[i],
                     lse = c->array[s.lse].data[i / p->experts],
                     z = c->array[s.logits].data[i] * (double)p->inv_temperature,
                     q = p->sigmoid ? score * exp(-lse) : score;
        aux += slope[i % p->experts] * q + p->entropy_coef * q * log(q) +
               p->z_square_coef * z * z / p->experts + p->z_coef * lse * lse / p->experts;
    }
    return total + 0.5 * aux / p->tokens;
}

// What a case of a router has, with so many slopes of its losses.
static void router_arrays(struct grad_case *c, struct push_router push, uint32_t slopes)
{
    const uint32_t tokens = push.tokens, experts = push.experts, top_k = push.top_k;
    s.push.router = push;
    s.logits = grad_normal(c, "logits", tokens * experts, 2);
    s.probs = grad_zeros(c, "probs", tokens * experts);
    s.ids = grad_words(c, "ids", NULL, tokens * top_k);
    s.gates = grad_zeros(c, "gates", tokens * top_k);
    s.lse = grad_zeros(c, "lse", tokens);
    s.weight = grad_normal(c, "dgates", tokens * top_k, 1);
    s.offsets = grad_normal(c, "slope", slopes, 1);
    s.step = step_array(c, &(struct step_words){.aux_scale = 0.5f});
    c->step = 1e-4; // picks must not change within the difference
    c->tolerance = 5e-3;
}

static void router_by(const char *name, struct push_router push,
                      void (*forward)(struct grad_case *c))
{
    struct grad_case c = grad_begin(name, 6);
    router_arrays(&c, push, 2 * push.experts);
    c.forward = forward;
    c.objective = router_objective;
    c.forward(&c);
    const int d = grad_zeros(&c, "dlogits", push.tokens * push.experts);
    GRAD_RUN(&c, KERNEL_ROUTER_BACK, &s.push, s.probs, s.ids, s.weight, s.lse, s.offsets, s.step,
             s.logits, d);
    tally(grad_compare(&c, s.logits, d));
    grad_end(&c);
}

static void router(const char *name, struct push_router push)
{
    router_by(name, push, router_forward);
}

// ---- noise before a router: sum of weights times what it made

static void noise_forward(struct grad_case *c)
{
    memcpy(c->array[s.y].data, c->array[s.logits].data, c->array[s.y].count * 4);
    GRAD_RUN(c, KERNEL_ROUTER_NOISE, &s.push, s.step, s.probs, s.w, s.y);
}

static void router_noise(void)
{
    enum { TOKENS = 5, EXPERTS = 4, CELLS = TOKENS * EXPERTS };
    struct grad_case c = grad_begin("router noise", 8);
    s.push.router_noise = (struct push_router_noise){.tokens = TOKENS, .experts = EXPERTS,
                                                     .total = TOKENS, .layer = 1, .noisy = 1,
                                                     .learned = 1, .jitter = 0.2f};
    s.logits = grad_normal(&c, "logits", CELLS, 1);
    s.probs = grad_normal(&c, "noise", CELLS, 1);
    s.w = grad_normal(&c, "temperature", 1, 1);
    s.y = grad_zeros(&c, "y", CELLS);
    s.weight = grad_normal(&c, "dy", CELLS, 1);
    s.step = step_array(&c, &(struct step_words){.step = 3, .seed_low = 4});
    c.forward = noise_forward;
    c.objective = weighted;
    c.forward(&c);
    const int d = grad_zeros(&c, "dlogits", CELLS), dnoise = grad_zeros(&c, "dnoise", CELLS),
              partial = grad_zeros(&c, "partial", TOKENS),
              theta = grad_zeros(&c, "dtemperature", 1);
    memcpy(c.array[d].data, c.array[s.weight].data, CELLS * 4);
    GRAD_RUN(&c, KERNEL_ROUTER_NOISE_BACK, &s.push, s.step, s.probs, s.w, s.y, d, dnoise, partial);
    const struct push_sum sum = {.count = TOKENS};
    GRAD_RUN(&c, KERNEL_SUM, &sum, partial, theta);
    tally(grad_compare(&c, s.logits, d));
    tally(grad_compare(&c, s.probs, dnoise));
    tally(grad_compare(&c, s.w, theta));
    grad_end(&c);
}

// ---- the cosine body: logits = cosines of x with each row of w, and back as
// src/plan_router_body.c

enum { COSINE_ROWS = 4, COSINE_COLS = 5, COSINE_DIM = 6 };
static const struct push_norm unit = {.rows = COSINE_ROWS, .cols = COSINE_DIM, .eps = 1e-12f,
                                      .weights = KERNEL_NONE_ID},
                              signature = {.rows = COSINE_COLS, .cols = COSINE_DIM};

static void cosine_forward(struct grad_case *c)
{
    const struct push_matmul product = {.m = COSINE_ROWS, .n = COSINE_COLS, .k = COSINE_DIM};
    GRAD_RUN(c, KERNEL_NORM, &unit, s.x, s.x, s.q, s.aux);
    GRAD_RUN(c, KERNEL_ROW_INVERSE, &signature, s.w, s.r);
    GRAD_RUN(c, KERNEL_MATMUL_NTF, &product, s.q, s.w, s.y, s.y, s.q);
    GRAD_RUN(c, KERNEL_COLUMN_SCALEF, &s.push, s.r, s.r, s.y);
}

static void cosine(void)
{
    enum { ROWS = COSINE_ROWS, COLS = COSINE_COLS, DIM = COSINE_DIM };
    struct grad_case c = grad_begin("cosine", 12);
    s.push.scale = (struct push_column_scale){ROWS, COLS, 0, 1 / sqrtf(DIM)};
    s.x = grad_normal(&c, "x", ROWS * DIM, 3);
    s.w = grad_normal(&c, "signatures", COLS * DIM, 2);
    s.q = grad_zeros(&c, "unit", ROWS * DIM);
    s.aux = grad_zeros(&c, "rstd", ROWS);
    s.r = grad_zeros(&c, "inverse", COLS);
    s.y = grad_zeros(&c, "cosines", ROWS * COLS);
    s.weight = grad_normal(&c, "dy", ROWS * COLS, 1);
    c.forward = cosine_forward;
    c.objective = weighted;
    c.forward(&c);
    for (int r = 0; r < ROWS * COLS; r++)
        tally(fabsf(c.array[s.y].data[r]) <= 1.000001f); // they are cosines
    const int d = copy_of(&c, "dcosines", s.weight), dq = grad_zeros(&c, "dunit", ROWS * DIM),
              dx = grad_zeros(&c, "dx", ROWS * DIM), dw = grad_zeros(&c, "dw", COLS * DIM);
    const struct push_matmul to_x = {.m = ROWS, .n = DIM, .k = COLS},
                             to_w = {.m = COLS, .n = DIM, .k = ROWS};
    GRAD_RUN(&c, KERNEL_COLUMN_SCALE, &s.push, s.r, s.r, d);
    GRAD_RUN(&c, KERNEL_MATMUL_NN, &to_x, d, s.w, dq, dq, d);
    GRAD_RUN(&c, KERNEL_NORM_BACK, &unit, s.x, s.x, s.aux, dq, dx);
    GRAD_RUN(&c, KERNEL_MATMUL_TN, &to_w, d, s.q, dw, dw, d);
    GRAD_RUN(&c, KERNEL_ROW_PROJECT, &signature, s.w, s.r, dw);
    tally(grad_compare(&c, s.x, dx));
    tally(grad_compare(&c, s.w, dw));
    grad_end(&c);
}

// ---- two levels: gates of tokens from gates of domains and of rows, and the rows' own router

enum { JOIN_PAIRS = 6, JOIN_PICKS = 2, JOIN_SIZE = 4 };

static void join_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_ROUTER_JOIN, &s.push, s.x, s.inverse, s.offsets, s.ids, s.w, s.counts, s.y);
}

static void join(void)
{
    struct grad_case c = grad_begin("two levels", 13);
    const uint32_t inverse[JOIN_PAIRS] = {3, 0, 5, 1, 2, 4}, base[JOIN_PAIRS] = {0, 0, 4, 4, 8, 8},
                   ids[JOIN_PAIRS * JOIN_PICKS] = {1, 2, 3, 0, 2, 1, 0, 3, 1, 2, 2, 3};
    s.push.join = (struct push_router_join){JOIN_PAIRS, JOIN_PICKS, JOIN_SIZE};
    s.x = grad_normal(&c, "domain gates", JOIN_PAIRS, 1);
    s.w = grad_normal(&c, "row gates", JOIN_PAIRS * JOIN_PICKS, 1);
    s.inverse = grad_words(&c, "inverse", inverse, JOIN_PAIRS);
    s.offsets = grad_words(&c, "base", base, JOIN_PAIRS);
    s.ids = grad_words(&c, "row ids", ids, JOIN_PAIRS * JOIN_PICKS);
    s.counts = grad_words(&c, "ids", NULL, JOIN_PAIRS * JOIN_PICKS);
    s.y = grad_zeros(&c, "gates", JOIN_PAIRS * JOIN_PICKS);
    s.weight = grad_normal(&c, "dgates", JOIN_PAIRS * JOIN_PICKS, 1);
    c.forward = join_forward;
    c.objective = weighted;
    const int dx = grad_zeros(&c, "ddomain", JOIN_PAIRS),
              dw = grad_zeros(&c, "drow", JOIN_PAIRS * JOIN_PICKS);
    GRAD_RUN(&c, KERNEL_ROUTER_JOIN_BACK, &s.push, s.x, s.inverse, s.w, s.weight, dx, dw);
    tally(grad_compare(&c, s.x, dx));
    tally(grad_compare(&c, s.w, dw));
    grad_end(&c);
}

// As router_objective, with slopes of each row's own experts and none of gates.
static double within_objective(struct grad_case *c)
{
    const struct push_router *p = &s.push.router;
    const uint32_t *base = (const uint32_t *)c->array[s.aux].data;
    double sum = grad_dot(c, s.gates, s.weight), aux = 0;
    for (uint32_t t = 0; t < p->tokens; t++) {
        const double lse = (double)c->array[s.lse].data[t];
        aux += (double)p->z_coef * lse * lse;
        for (uint32_t e = 0; e < p->experts; e++) {
            const double q = (double)c->array[s.probs].data[t * p->experts + e];
            aux += (double)c->array[s.offsets].data[base[t] + e] * q +
                   (double)p->entropy_coef * q * log(q);
        }
    }
    return sum + 0.5 * aux / p->tokens;
}

static void within(void)
{
    enum { ROWS = 5, SIZE = 4, PICKS_OF_ROW = 2 };
    struct grad_case c = grad_begin("router within a domain", 14);
    const uint32_t base[ROWS] = {0, 0, 4, 8, 8};
    const struct push_router push = {.tokens = ROWS, .experts = SIZE, .top_k = PICKS_OF_ROW,
                                     .renormalise = 1, .scale = 1, .inv_temperature = 0.7f,
                                     .z_coef = 0.5f, .entropy_coef = 0.4f};
    router_arrays(&c, push, 3 * SIZE);
    s.aux = grad_words(&c, "base", base, ROWS);
    c.forward = router_forward;
    c.objective = within_objective;
    c.forward(&c);
    const int d = grad_zeros(&c, "dlogits", ROWS * SIZE);
    GRAD_RUN(&c, KERNEL_ROUTER_BACK_WITHIN, &s.push, s.probs, s.ids, s.weight, s.lse, s.offsets,
             s.step, s.aux, d);
    tally(grad_compare(&c, s.logits, d));
    grad_end(&c);
}

// ---- all

static void routers(void)
{
    const struct push_router plain = {.tokens = 9, .experts = 5, .top_k = 2, .scale = 1,
                                      .inv_temperature = 0.7f, .z_coef = 0.5f,
                                      .entropy_coef = 0.4f, .z_square_coef = 0.3f};
    struct push_router push = plain;
    router("router", push);
    push.renormalise = 1;
    router("router, renormalised", push);
    push.top_k = 5, push.pick = PICK_ALL;
    router("router, dense", push);
    push.pick = PICK_MASS, push.limit = 0.8f, push.least = 1;
    router("router, top-p", push);
    push.pick = PICK_THRESHOLD, push.limit = 0.15f;
    router("router, threshold", push);
    push.sigmoid = 1, push.limit = 0.5f, push.z_coef = 0, push.scale = 2.5f;
    router("router, sigmoid", push);
    push = plain;
    push.top_k = 1, push.tokens = 6, push.experts = 8;
    router("router, switch", push);
    push = plain;
    push.top_k = push.experts, push.scale = 1.5f;
    router_by("router, expert choice", push, columns_forward);
    push.sigmoid = 1, push.z_coef = 0;
    router_by("router, expert choice, sigmoid", push, columns_forward);
}

void router_cases(void)
{
    routers();
    router_noise();
    cosine();
    join();
    within();
}
