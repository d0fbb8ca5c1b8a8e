// SPDX-License-Identifier: MIT
// Each differentiable operation's backward reference against finite differences of its forward
// reference.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "grad.h"
#include "src/base.h"

// what a case's forward needs: its arrays by role
static struct {
    int x, w, y, aux, r, v, k, q, o, lse, ids, gates, probs, logits, offsets, order, inverse, tiles,
        ranges, loss, step, counts, indirect;
    union {
        struct push_norm norm;
        struct push_matmul matmul;
        struct push_rope rope;
        struct push_attention attention;
        struct push_activate activate;
        struct push_router router;
        struct push_router_noise router_noise;
        struct push_moe_matmul moe;
        struct push_moe_combine combine;
        struct push_loss loss; struct push_embed embed;
        struct push_column_scale scale;
        struct push_router_join join;
        struct push_mix mix; struct push_smear smear;
    } push;
    struct push_moe_sort sort;
    int weight; // of the objective
    enum kernel_op op;
} s;

static int failures, passes;

static void tally(bool ok)
{
    if (ok) passes++;
    else failures++;
}

static double weighted(struct grad_case *c) { return grad_dot(c, s.y, s.weight); }

static int step_array(struct grad_case *c, const struct step_words *step)
{
    return grad_words(c, "step", (const uint32_t *)step, sizeof *step / 4);
}

// ---- norm

static void norm_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_NORM, &s.push, s.x, s.w, s.y, s.aux);
}

static void norm(uint32_t rows, uint32_t cols, uint32_t weights)
{
    struct grad_case c = grad_begin(weights ? "norm, other weights" : "norm", 1);
    s.push.norm =
        (struct push_norm){.rows = rows, .cols = cols, .eps = 1e-5f, .weights = weights};
    s.x = grad_normal(&c, "x", rows * cols, 1);
    s.w = grad_normal(&c, "weight", weights == KERNEL_NONE_ID ? 1 : weights ? weights : cols, 1);
    s.y = grad_zeros(&c, "y", rows * cols);
    s.aux = grad_zeros(&c, "rstd", rows);
    s.weight = grad_normal(&c, "dy", rows * cols, 1);
    const int dx = grad_zeros(&c, "dx", rows * cols), dw = grad_zeros(&c, "dweight", cols);
    c.forward = norm_forward;
    c.objective = weighted;
    c.forward(&c);
    GRAD_RUN(&c, KERNEL_NORM_BACK, &s.push, s.x, s.w, s.aux, s.weight, dx);
    tally(grad_compare(&c, s.x, dx));
    if (weights == 0) {
        GRAD_RUN(&c, KERNEL_NORM_BACK_WEIGHT, &s.push, s.x, s.aux, s.weight, dw);
        tally(grad_compare(&c, s.w, dw));
    } else if (weights != KERNEL_NONE_ID) { // gains: as src/plan_backward.c
        const int delta = grad_zeros(&c, "delta", rows), dgain = grad_zeros(&c, "dgain", weights);
        const struct push_column_sum sum = {rows / weights, weights, 1};
        GRAD_RUN(&c, KERNEL_ATTENTION_DELTA, &s.push, s.weight, s.x, delta);
        GRAD_RUN(&c, KERNEL_COLUMN_SUMF, &sum, delta, s.aux, dgain);
        tally(grad_compare(&c, s.w, dgain));
    }
    grad_end(&c);
}

// ---- mix: y = a x + b r

static void mix_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_MIX, &s.push, s.x, s.r, s.w, s.aux, s.y);
}

static void mix(void)
{
    enum { ROWS = 5, COLS = 7, COUNT = ROWS * COLS };
    struct grad_case c = grad_begin("mix", 10);
    s.push.mix = (struct push_mix){ROWS, COLS, FACTOR_COLUMN, FACTOR_NUMBER};
    s.x = grad_normal(&c, "x", COUNT, 1);
    s.r = grad_normal(&c, "r", COUNT, 1);
    s.w = grad_normal(&c, "a", COLS, 1);
    s.aux = grad_normal(&c, "b", 1, 1);
    s.y = grad_zeros(&c, "y", COUNT);
    s.weight = grad_normal(&c, "dy", COUNT, 1);
    const int dx = grad_zeros(&c, "dx", COUNT), dr = grad_zeros(&c, "dr", COUNT),
              da = grad_zeros(&c, "da", COLS), db = grad_zeros(&c, "db", 1),
              dot = grad_zeros(&c, "dot", ROWS);
    c.forward = mix_forward;
    c.objective = weighted;
    const struct push_mix by_a = {ROWS, COLS, FACTOR_COLUMN, FACTOR_ABSENT},
                          by_b = {ROWS, COLS, FACTOR_NUMBER, FACTOR_ABSENT};
    GRAD_RUN(&c, KERNEL_MIX, &by_a, s.weight, s.x, s.w, s.w, dx);
    GRAD_RUN(&c, KERNEL_MIX, &by_b, s.weight, s.x, s.aux, s.aux, dr);
    const struct push_column_sum columns = {ROWS, COLS, 1}, one = {ROWS, 1, 0};
    GRAD_RUN(&c, KERNEL_COLUMN_SUM, &columns, s.weight, s.x, da);
    const struct push_norm rows = {.rows = ROWS, .cols = COLS};
    GRAD_RUN(&c, KERNEL_ATTENTION_DELTA, &rows, s.weight, s.r, dot);
    GRAD_RUN(&c, KERNEL_COLUMN_SUMF, &one, dot, dot, db);
    tally(grad_compare(&c, s.x, dx));
    tally(grad_compare(&c, s.r, dr));
    tally(grad_compare(&c, s.w, da));
    tally(grad_compare(&c, s.aux, db));
    grad_end(&c);
}

// ---- smear

static void smear_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_SMEAR, &s.push, s.x, s.w, s.y);
}

static void smear(void)
{
    enum { ROWS = 6, COLS = 5, SEQ = 3, COUNT = ROWS * COLS };
    struct grad_case c = grad_begin("smear", 11);
    s.push.smear = (struct push_smear){.rows = ROWS, .cols = COLS, .seq = SEQ};
    s.x = grad_normal(&c, "x", COUNT, 1);
    s.w = grad_normal(&c, "gate", COLS, 1);
    s.y = grad_zeros(&c, "y", COUNT);
    s.weight = grad_normal(&c, "dy", COUNT, 1);
    const int dx = grad_zeros(&c, "dx", COUNT), dw = grad_zeros(&c, "dgate", COLS);
    struct push_smear back = s.push.smear;
    back.back = 1;
    c.forward = smear_forward;
    c.objective = weighted;
    GRAD_RUN(&c, KERNEL_SMEAR, &back, s.weight, s.w, dx);
    GRAD_RUN(&c, KERNEL_SMEAR_BACK_GATE, &s.push, s.x, s.w, s.weight, dw);
    tally(grad_compare(&c, s.x, dx));
    tally(grad_compare(&c, s.w, dw));
    grad_end(&c);
}

// ---- matmul: y = x w^T + r

static void matmul_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_MATMUL_NT, &s.push, s.x, s.w, s.r, s.y, s.x);
}

static void matmul(uint32_t m, uint32_t n, uint32_t k)
{
    struct grad_case c = grad_begin("matmul", 2);
    s.push.matmul = (struct push_matmul){.m = m, .n = n, .k = k, .add = 1};
    s.x = grad_normal(&c, "a", m * k, 1);
    s.w = grad_normal(&c, "b", n * k, 1);
    s.r = grad_normal(&c, "r", m * n, 1);
    s.y = grad_zeros(&c, "c", m * n);
    s.weight = grad_normal(&c, "dc", m * n, 1);
    const int dx = grad_zeros(&c, "da", m * k), dw = grad_zeros(&c, "db", n * k);
    c.forward = matmul_forward;
    c.objective = weighted;
    GRAD_RUN(&c, KERNEL_MATMUL_NN, (&(struct push_matmul){.m = m, .n = k, .k = n}), s.weight, s.w,
             dx, dx, s.w);
    GRAD_RUN(&c, KERNEL_MATMUL_TN, (&(struct push_matmul){.m = n, .n = k, .k = m}), s.weight, s.x,
             dw, dw, s.x);
    tally(grad_compare(&c, s.x, dx));
    tally(grad_compare(&c, s.w, dw));
    tally(grad_compare(&c, s.r, s.weight));
    grad_end(&c);
}

// ---- rope

static void rope_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_ROPE, &s.push, s.step, s.aux, s.x, s.y);
}

static void rope(void)
{
    enum { TOKENS = 6, HEADS = 3, DIM = 8, SEQ = 3 };
    struct grad_case c = grad_begin("rope", 3);
    s.push.rope = (struct push_rope){.tokens = TOKENS, .heads = HEADS, .head_dim = DIM, .seq = SEQ};
    s.step = step_array(&c, &(struct step_words){0});
    s.aux = grad_zeros(&c, "table", SEQ * DIM);
    for (int p = 0; p < SEQ; p++)
        for (int i = 0; i < DIM / 2; i++) {
            const double angle = p * pow(100, -2.0 * i / DIM);
            c.array[s.aux].data[(p * DIM / 2 + i) * 2] = (float)cos(angle);
            c.array[s.aux].data[(p * DIM / 2 + i) * 2 + 1] = (float)sin(angle);
        }
    s.x = grad_normal(&c, "x", TOKENS * HEADS * DIM, 1);
    s.y = grad_zeros(&c, "y", TOKENS * HEADS * DIM);
    s.weight = grad_normal(&c, "dy", TOKENS * HEADS * DIM, 1);
    const int dx = grad_zeros(&c, "dx", TOKENS * HEADS * DIM);
    struct push_rope inverse = s.push.rope;
    inverse.inverse = 1;
    c.forward = rope_forward;
    c.objective = weighted;
    GRAD_RUN(&c, KERNEL_ROPE, &inverse, s.step, s.aux, s.weight, dx);
    tally(grad_compare(&c, s.x, dx));
    grad_end(&c);
}

// ---- attention

static void attention_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_ATTENTION, &s.push, s.step, s.q, s.k, s.v, s.y, s.lse);
}

static void attention(bool bidirectional, uint32_t batch, uint32_t seq, uint32_t heads,
                      uint32_t kv_heads, uint32_t dim, uint32_t window)
{
    struct grad_case c = grad_begin(window ? "attention, window" : "attention", 4);
    const uint32_t tokens = batch * seq, q = tokens * heads * dim, kv = tokens * kv_heads * dim;
    s.push.attention = (struct push_attention){.batch = batch,
                                               .seq = seq,
                                               .stride = seq,
                                               .heads = heads,
                                               .kv_heads = kv_heads,
                                               .head_dim = dim,
                                               .window = window,
                                               .bidirectional = bidirectional,
                                               .scale = 1 / sqrtf((float)dim)};
    s.step = step_array(&c, &(struct step_words){0});
    s.q = grad_normal(&c, "q", q, 1);
    s.k = grad_normal(&c, "k", kv, 1);
    s.v = grad_normal(&c, "v", kv, 1);
    s.y = grad_zeros(&c, "o", q);
    s.lse = grad_zeros(&c, "lse", tokens * heads);
    s.weight = grad_normal(&c, "do", q, 1);
    const int delta = grad_zeros(&c, "delta", tokens * heads), dq = grad_zeros(&c, "dq", q),
              dk = grad_zeros(&c, "dk", kv), dv = grad_zeros(&c, "dv", kv);
    c.forward = attention_forward;
    c.objective = weighted;
    c.forward(&c);
    GRAD_RUN(&c, KERNEL_ATTENTION_DELTA, (&(struct push_norm){.rows = tokens * heads, .cols = dim}),
             s.y, s.weight, delta);
    GRAD_RUN(&c, KERNEL_ATTENTION_BACK_Q, &s.push, s.q, s.k, s.v, s.weight, s.lse, delta, dq);
    GRAD_RUN(&c, KERNEL_ATTENTION_BACK_KV, &s.push, s.q, s.k, s.v, s.weight, s.lse, delta, dk, dv);
    tally(grad_compare(&c, s.q, dq));
    tally(grad_compare(&c, s.k, dk));
    tally(grad_compare(&c, s.v, dv));
    grad_end(&c);
}

// ---- the middle of a feed-forward body

static void activate_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_ACTIVATE, &s.push, s.x, s.w, s.y);
}

static const char *const function_names[] = {
    [ACTIVATION_SILU] = "silu", [ACTIVATION_GELU_TANH] = "gelu_tanh", [ACTIVATION_GELU] = "gelu",
    [ACTIVATION_RELU2] = "relu2"};

static int copy_of(struct grad_case *c, const char *name, int array)
{
    return grad_words(c, name, (const uint32_t *)(void *)c->array[array].data,
                      c->array[array].count);
}

// The slope of relu2 has a corner at 0: differences are off by what the step crosses there.
static void corner(struct grad_case *c)
{
    c->step = 1e-3;
    c->tolerance = 2e-3;
}

static void activate(uint32_t count, uint32_t function, bool gated)
{
    struct grad_case c = grad_begin(function_names[function], 5);
    if (function == ACTIVATION_RELU2) corner(&c);
    s.push.activate = (struct push_activate){count, function, gated};
    s.x = grad_normal(&c, "gate", count, 1);
    s.w = grad_normal(&c, "up", count, 1);
    s.y = grad_zeros(&c, "h", count);
    s.weight = grad_normal(&c, "dh", count, 1);
    const int dgate = copy_of(&c, "dgate", s.x), dup = copy_of(&c, "dup", s.w),
              h = copy_of(&c, "h again", s.weight);
    c.forward = activate_forward;
    c.objective = weighted;
    GRAD_RUN(&c, KERNEL_ACTIVATE_BACK, &s.push, dgate, dup, h);
    tally(grad_compare(&c, s.x, dgate));
    if (gated) tally(grad_compare(&c, s.w, dup));
    grad_end(&c);
}

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

static void router_by(const char *name, struct push_router push,
                      void (*forward)(struct grad_case *c))
{
    struct grad_case c = grad_begin(name, 6);
    const uint32_t tokens = push.tokens, experts = push.experts, top_k = push.top_k;
    s.push.router = push;
    s.logits = grad_normal(&c, "logits", tokens * experts, 2);
    s.probs = grad_zeros(&c, "probs", tokens * experts);
    s.ids = grad_words(&c, "ids", NULL, tokens * top_k);
    s.gates = grad_zeros(&c, "gates", tokens * top_k);
    s.lse = grad_zeros(&c, "lse", tokens);
    s.weight = grad_normal(&c, "dgates", tokens * top_k, 1);
    s.offsets = grad_normal(&c, "slope", 2 * experts, 1);
    s.step = step_array(&c, &(struct step_words){.aux_scale = 0.5f});
    c.forward = forward;
    c.objective = router_objective;
    c.step = 1e-4; // picks must not change within the difference
    c.tolerance = 5e-3;
    c.forward(&c);
    const int d = grad_zeros(&c, "dlogits", tokens * experts);
    GRAD_RUN(&c, KERNEL_ROUTER_BACK, &s.push, s.probs, s.ids, s.weight, s.lse, s.offsets, s.step,
             s.logits, d);
    tally(grad_compare(&c, s.logits, d));
    grad_end(&c);
}

static void router(const char *name, struct push_router push)
{
    router_by(name, push, router_forward);
}

// ---- a shared expert's gate: down of gated rows, as src/plan_shared.c

static void gate_rows_forward(struct grad_case *c)
{
    memcpy(c->array[s.y].data, c->array[s.x].data, c->array[s.x].count * sizeof(float));
    GRAD_RUN(c, KERNEL_ACTIVATE, &s.push, s.x, s.v, s.y);
    const struct push_gate_rows rows = {5, 7};
    GRAD_RUN(c, KERNEL_GATE_ROWS, &rows, s.logits, s.y, s.gates, s.order);
}

static void gate_rows(void)
{
    enum { ROWS = 5, COLS = 7, COUNT = ROWS * COLS };
    struct grad_case c = grad_begin("gate_rows", 12);
    s.push.activate = (struct push_activate){COUNT, ACTIVATION_SILU, 1};
    s.x = grad_normal(&c, "gate", COUNT, 1);
    s.v = grad_normal(&c, "up", COUNT, 1);
    s.logits = grad_normal(&c, "logits", ROWS, 1);
    s.y = grad_zeros(&c, "h", COUNT);
    s.gates = grad_zeros(&c, "gates", ROWS);
    s.order = grad_words(&c, "rows", NULL, ROWS);
    s.weight = grad_normal(&c, "dh", COUNT, 1);
    c.forward = gate_rows_forward;
    c.objective = weighted;
    c.forward(&c);
    const int dgate = grad_zeros(&c, "dgate", COUNT), dup = grad_zeros(&c, "dup", COUNT),
              dh = grad_zeros(&c, "dh", COUNT), dgates = grad_zeros(&c, "dgates", ROWS),
              dlogits = grad_zeros(&c, "dlogits", ROWS);
    memcpy(c.array[dgate].data, c.array[s.x].data, COUNT * sizeof(float));
    memcpy(c.array[dup].data, c.array[s.v].data, COUNT * sizeof(float));
    memcpy(c.array[dh].data, c.array[s.weight].data, COUNT * sizeof(float));
    const struct push_moe_activate rows = {ROWS, COLS, ACTIVATION_SILU, 1};
    const struct push_count count = {ROWS};
    GRAD_RUN(&c, KERNEL_MOE_ACTIVATE_BACK, &rows, dgate, dup, dh, s.order, s.gates, dgates);
    GRAD_RUN(&c, KERNEL_GATE_ROWS_BACK, &count, dgates, s.gates, dlogits);
    tally(grad_compare(&c, s.x, dgate));
    tally(grad_compare(&c, s.v, dup));
    tally(grad_compare(&c, s.logits, dlogits));
    // dh has become what the gradient of the down matrix takes: the gated h
    for (uint32_t i = 0; i < COUNT; i++)
        tally(fabs((double)(c.array[dh].data[i] - c.array[s.y].data[i])) < 1e-6);
    grad_end(&c);
}

// ---- noise before a router: sum of weights times what it made

static void noise_forward(struct grad_case *c)
{
    memcpy(c->array[s.y].data, c->array[s.logits].data, c->array[s.y].count * 4);
    GRAD_RUN(c, KERNEL_ROUTER_NOISE, &s.push, s.step, s.probs, s.w, s.y);
}

static double noise_objective(struct grad_case *c) { return grad_dot(c, s.y, s.weight); }

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
    c.objective = noise_objective;
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
    s.push.router = (struct push_router){.tokens = ROWS, .experts = SIZE, .top_k = PICKS_OF_ROW,
                                         .renormalise = 1, .scale = 1, .inv_temperature = 0.7f,
                                         .z_coef = 0.5f, .entropy_coef = 0.4f};
    s.logits = grad_normal(&c, "logits", ROWS * SIZE, 2);
    s.probs = grad_zeros(&c, "probs", ROWS * SIZE);
    s.ids = grad_words(&c, "ids", NULL, ROWS * PICKS_OF_ROW);
    s.gates = grad_zeros(&c, "gates", ROWS * PICKS_OF_ROW);
    s.lse = grad_zeros(&c, "lse", ROWS);
    s.weight = grad_normal(&c, "dgates", ROWS * PICKS_OF_ROW, 1);
    s.offsets = grad_normal(&c, "slope", 3 * SIZE, 1);
    s.aux = grad_words(&c, "base", base, ROWS);
    s.step = step_array(&c, &(struct step_words){.aux_scale = 0.5f});
    c.forward = router_forward;
    c.objective = within_objective;
    c.step = 1e-4; // picks must not change within the difference
    c.tolerance = 5e-3;
    c.forward(&c);
    const int d = grad_zeros(&c, "dlogits", ROWS * SIZE);
    GRAD_RUN(&c, KERNEL_ROUTER_BACK_WITHIN, &s.push, s.probs, s.ids, s.weight, s.lse, s.offsets,
             s.step, s.aux, d);
    tally(grad_compare(&c, s.logits, d));
    grad_end(&c);
}

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

// ---- experts: gather, body, down, weighted combine, and back as src/plan_moe.c does it: one case
// for the whole chain

enum { TOKENS = 7, EXPERTS = 4, PICKS = 2, HIDDEN = 6, INNER = 5, PAIRS = TOKENS * PICKS };

static struct {
    int x, wgate, wup, wdown, bup, bdown, h, gate, up, pairs, residual;
    struct push_moe_matmul up_push, down_push;
    bool gated;
} m;

static void experts_forward(struct grad_case *c)
{
    if (m.gated)
        GRAD_RUN(c, KERNEL_MOE_MATMUL_UP, &m.up_push, m.x, s.order, s.tiles, m.wgate, m.wup, m.h,
                 m.gate, m.up);
    else
        GRAD_RUN(c, KERNEL_MOE_MATMUL_ACT, &m.up_push, m.x, s.order, s.tiles, m.wup, m.h, m.gate,
                 m.bup);
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NT, &m.down_push, m.h, s.tiles, m.wdown, m.pairs, m.bdown);
    GRAD_RUN(c, KERNEL_MOE_COMBINE, &s.push, m.pairs, s.inverse, s.gates, m.residual, s.y);
}

static void sort_pairs(struct grad_case *c)
{
    s.sort = (struct push_moe_sort){.pairs = PAIRS,
                                    .experts = EXPERTS,
                                    .block = 4,
                                    .blocks = 4,
                                    .slices = 1,
                                    .tile_rows = 4,
                                    .max_tiles = PAIRS / 4 + EXPERTS};
    // expert 2 gets nothing, expert 3 is one token's first pick
    const uint32_t ids[PAIRS] = {0, 1, 1, 0, 0, 1, 3, 0, 1, 0, 0, 1, 1, 0};
    s.ids = grad_words(c, "ids", ids, PAIRS);
    s.counts = grad_words(c, "counts", NULL, 4 * EXPERTS);
    s.offsets = grad_words(c, "offsets", NULL, EXPERTS + 1);
    s.tiles = grad_words(c, "tiles", NULL, 4 * (PAIRS / 4 + EXPERTS + 1));
    s.ranges = grad_words(c, "ranges", NULL, 4 * (EXPERTS + 1));
    s.indirect = grad_words(c, "indirect", NULL, 4 * MOE_GRIDS);
    s.order = grad_words(c, "order", NULL, PAIRS);
    s.inverse = grad_words(c, "inverse", NULL, PAIRS);
    GRAD_RUN(c, KERNEL_MOE_COUNT, &s.sort, s.ids, s.counts, s.counts);
    GRAD_RUN(c, KERNEL_MOE_SCAN, &s.sort, s.counts, s.counts, s.offsets, s.tiles, s.ranges,
             s.indirect);
    GRAD_RUN(c, KERNEL_MOE_SCATTER, &s.sort, s.ids, s.counts, s.order, s.inverse);
}

static void expert_arrays(struct grad_case *c)
{
    sort_pairs(c);
    m.x = grad_normal(c, "x", TOKENS * HIDDEN, 1);
    m.wgate = grad_normal(c, "wgate", EXPERTS * INNER * HIDDEN, 0.5);
    m.wup = grad_normal(c, "wup", EXPERTS * INNER * HIDDEN, 0.5);
    m.wdown = grad_normal(c, "wdown", EXPERTS * HIDDEN * INNER, 0.5);
    m.bup = grad_normal(c, "bup", EXPERTS * INNER, 1);
    m.bdown = grad_normal(c, "bdown", EXPERTS * HIDDEN, 1);
    m.h = grad_zeros(c, "h", PAIRS * INNER);
    m.gate = grad_zeros(c, "gate", PAIRS * INNER);
    m.up = grad_zeros(c, "up", PAIRS * INNER);
    m.pairs = grad_zeros(c, "y pairs", PAIRS * HIDDEN);
    s.gates = grad_normal(c, "gates", PAIRS, 1);
    m.residual = grad_normal(c, "residual", TOKENS * HIDDEN, 1);
    s.y = grad_zeros(c, "y", TOKENS * HIDDEN);
    s.weight = grad_normal(c, "dy", TOKENS * HIDDEN, 1);
}

static int expert_weight_grad(struct grad_case *c, const char *name, int a, int b, bool down)
{
    const struct push_moe_matmul push = {.pairs = PAIRS,
                                         .experts = EXPERTS,
                                         .m = down ? HIDDEN : INNER,
                                         .n = down ? INNER : HIDDEN,
                                         .top_k = PICKS,
                                         .gather = down ? 2 : 1};
    const int grad = grad_zeros(c, name, EXPERTS * HIDDEN * INNER);
    GRAD_RUN(c, KERNEL_MOE_MATMUL_TN, &push, a, b, s.order, s.ranges, grad);
    return grad;
}

static void compare_biases(struct grad_case *c, int dup)
{
    const int dbup = grad_zeros(c, "dbup", EXPERTS * INNER),
              dbdown = grad_zeros(c, "dbdown", EXPERTS * HIDDEN);
    const struct push_moe_column_sum up = {EXPERTS, INNER, PICKS, 0},
                                     down = {EXPERTS, HIDDEN, PICKS, 1};
    GRAD_RUN(c, KERNEL_MOE_COLUMN_SUM, &up, dup, s.order, s.offsets, s.gates, dbup);
    GRAD_RUN(c, KERNEL_MOE_COLUMN_SUM, &down, s.weight, s.order, s.offsets, s.gates, dbdown);
    tally(grad_compare(c, m.bup, dbup));
    tally(grad_compare(c, m.bdown, dbdown));
}

static void compare_experts(struct grad_case *c)
{
    const int dgates = grad_zeros(c, "dgates", PAIRS), dh = grad_zeros(c, "dh", PAIRS * INNER),
              dgate = copy_of(c, "dgate", m.gate), dup = m.gated ? copy_of(c, "dup", m.up) : dgate,
              dx_pairs = grad_zeros(c, "dx pairs", PAIRS * HIDDEN),
              dx = grad_zeros(c, "dx", TOKENS * HIDDEN);
    struct push_moe_matmul push = m.up_push;
    push.gather = 1;
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NN, &push, s.weight, s.order, s.tiles, m.wdown, dh, s.weight,
             m.wdown);
    const struct push_moe_activate activate = {PAIRS, INNER, m.up_push.activation, m.gated};
    GRAD_RUN(c, KERNEL_MOE_ACTIVATE_BACK, &activate, dgate, dup, dh, s.inverse, s.gates, dgates);
    if (m.down_push.bias) {
        const struct push_moe_bias_back gates = {PAIRS, EXPERTS, HIDDEN, PICKS};
        GRAD_RUN(c, KERNEL_MOE_BIAS_BACK, &gates, s.weight, s.ids, m.bdown, dgates);
        compare_biases(c, dup);
    }
    const int dwdown = expert_weight_grad(c, "dwdown", s.weight, dh, true),
              dwup = expert_weight_grad(c, "dwup", dup, m.x, false),
              dwgate = m.gated ? expert_weight_grad(c, "dwgate", dgate, m.x, false) : -1;
    push = m.down_push;
    push.second = m.gated;
    GRAD_RUN(c, KERNEL_MOE_MATMUL_NN, &push, dgate, s.order, s.tiles, m.gated ? m.wgate : m.wup,
             dx_pairs, dup, m.wup);
    const struct push_moe_combine plain = {.tokens = TOKENS, .cols = HIDDEN, .top_k = PICKS};
    GRAD_RUN(c, KERNEL_MOE_COMBINE, &plain, dx_pairs, s.inverse, s.gates, dx, dx);
    tally(grad_compare(c, m.x, dx));
    if (m.gated) tally(grad_compare(c, m.wgate, dwgate));
    tally(grad_compare(c, m.wup, dwup));
    tally(grad_compare(c, m.wdown, dwdown));
    tally(grad_compare(c, s.gates, dgates));
    tally(grad_compare(c, m.residual, s.weight));
}

static void experts(const char *name, uint32_t function, bool gated)
{
    struct grad_case c = grad_begin(name, 7);
    if (function == ACTIVATION_RELU2) corner(&c);
    expert_arrays(&c);
    m.gated = gated;
    s.push.combine = (struct push_moe_combine){
        .tokens = TOKENS, .cols = HIDDEN, .top_k = PICKS, .weighted = 1, .add = 1};
    m.up_push = (struct push_moe_matmul){.pairs = PAIRS,
                                         .experts = EXPERTS,
                                         .n = INNER,
                                         .k = HIDDEN,
                                         .top_k = PICKS,
                                         .save = 1,
                                         .activation = function,
                                         .bias = !gated};
    m.down_push = (struct push_moe_matmul){
        .pairs = PAIRS, .experts = EXPERTS, .n = HIDDEN, .k = INNER, .top_k = PICKS,
        .bias = !gated};
    c.forward = experts_forward;
    c.objective = weighted;
    c.forward(&c);
    compare_experts(&c);
    grad_end(&c);
}

// ---- loss

static void loss_forward(struct grad_case *c)
{
    memcpy(c->array[s.y].data, c->array[s.logits].data, c->array[s.logits].count * 4);
    GRAD_RUN(c, KERNEL_LOSS, &s.push, s.step, s.y, s.ids, s.loss);
}

static double loss_sum(struct grad_case *c)
{
    double sum = 0;
    for (uint64_t i = 0; i < c->array[s.loss].count; i++) sum += 0.25 * c->array[s.loss].data[i];
    return sum;
}

static void loss(float softcap)
{
    enum { ROWS = 4, VOCAB = 9 };
    struct grad_case c = grad_begin(softcap != 0 ? "loss, capped" : "loss", 8);
    const uint32_t targets[ROWS] = {3, KERNEL_NONE_ID, 0, 8};
    s.push.loss = (struct push_loss){.rows = ROWS, .vocab = VOCAB, .softcap = softcap};
    s.step = step_array(&c, &(struct step_words){.loss_scale = 0.25f});
    s.logits = grad_normal(&c, "logits", ROWS * VOCAB, 1);
    s.y = grad_zeros(&c, "scratch", ROWS * VOCAB);
    s.ids = grad_words(&c, "targets", targets, ROWS);
    s.loss = grad_zeros(&c, "loss", ROWS);
    c.forward = loss_forward;
    c.objective = loss_sum;
    const int d = grad_normal(&c, "dlogits", ROWS * VOCAB, 0),
              unused = grad_zeros(&c, "unused", ROWS);
    memcpy(c.array[d].data, c.array[s.logits].data, ROWS * VOCAB * 4);
    struct push_loss backward = s.push.loss;
    backward.backward = 1;
    GRAD_RUN(&c, KERNEL_LOSS, &backward, s.step, d, s.ids, unused);
    tally(grad_compare(&c, s.logits, d));
    grad_end(&c);
}

// ---- embedding

static void embed_forward(struct grad_case *c)
{
    GRAD_RUN(c, KERNEL_EMBED, &s.push, s.ids, s.w, s.y);
}

static void embed(void)
{
    enum { ROWS = 5, COLS = 3, VOCAB = 4 };
    struct grad_case c = grad_begin("embed", 9);
    const uint32_t ids[ROWS] = {2, 0, 2, 3, 0}, order[ROWS] = {1, 4, 0, 2, 3},
                   begin[ROWS + 1] = {0, 2, 4, 5}, id[ROWS] = {0, 2, 3};
    s.push.embed = (struct push_embed){.rows = ROWS, .cols = COLS, .vocab = VOCAB};
    s.ids = grad_words(&c, "ids", ids, ROWS);
    s.w = grad_normal(&c, "table", VOCAB * COLS, 1);
    s.y = grad_zeros(&c, "x", ROWS * COLS);
    s.weight = grad_normal(&c, "dx", ROWS * COLS, 1);
    s.step = step_array(&c, &(struct step_words){.segments = 3});
    const int o = grad_words(&c, "order", order, ROWS),
              b = grad_words(&c, "begin", begin, ROWS + 1), i = grad_words(&c, "id", id, ROWS),
              d = grad_zeros(&c, "dtable", VOCAB * COLS);
    c.forward = embed_forward;
    c.objective = weighted;
    GRAD_RUN(&c, KERNEL_EMBED_BACK, &s.push, s.step, o, b, i, s.weight, d);
    tally(grad_compare(&c, s.w, d));
    grad_end(&c);
}

int main(void)
{
    norm(3, 7, 0);
    norm(5, 2, 0);
    norm(6, 5, 3);
    norm(4, 5, KERNEL_NONE_ID);
    mix();
    smear();
    matmul(3, 5, 4);
    matmul(1, 1, 1);
    rope();
    attention(false, 2, 5, 4, 2, 6, 0);
    attention(false, 1, 7, 2, 1, 3, 3);
    attention(true, 2, 5, 4, 2, 6, 0);
    for (uint32_t f = ACTIVATION_SILU; f < ACTIVATION_COUNT; f++) {
        activate(33, f, true);
        activate(33, f, false);
    }
    routers();
    router_noise();
    cosine();
    gate_rows();
    join();
    within();
    experts("experts, silu, gated", ACTIVATION_SILU, true);
    experts("experts, gelu, gated", ACTIVATION_GELU, true);
    experts("experts, gelu_tanh", ACTIVATION_GELU_TANH, false);
    experts("experts, relu2", ACTIVATION_RELU2, false);
    loss(0);
    loss(2);
    embed();
    printf("%d passed, %d failed\n", passes, failures);
    return failures || !passes;
}
