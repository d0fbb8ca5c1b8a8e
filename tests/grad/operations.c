// SPDX-License-Identifier: MIT
// Each differentiable operation's backward reference against finite differences of its forward
// reference. Routers and experts have files of their own.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "operations.h"
#include "src/base.h"

struct operation s;
static int failures, passes;

void tally(bool ok)
{
    if (ok) passes++;
    else failures++;
}

double weighted(struct grad_case *c) { return grad_dot(c, s.y, s.weight); }

int step_array(struct grad_case *c, const struct step_words *step)
{
    return grad_words(c, "step", (const uint32_t *)step, sizeof *step / 4);
}

int copy_of(struct grad_case *c, const char *name, int array)
{
    return grad_words(c, name, (const uint32_t *)(void *)c->array[array].data,
                      c->array[array].count);
}

void corner(struct grad_case *c)
{
    c->step = 1e-3;
    c->tolerance = 2e-3;
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
    if (s.begins < 0) GRAD_RUN(c, KERNEL_SMEAR, &s.push, s.x, s.w, s.y);
    else GRAD_RUN(c, KERNEL_SMEAR_WITHIN, &s.push, s.x, s.w, s.y, s.begins);
}

static void smear(bool within)
{
    enum { ROWS = 6, COLS = 5, SEQ = 3, COUNT = ROWS * COLS };
    static const uint32_t begins[ROWS] = {0, 1, 1, 0, 0, 2};
    struct grad_case c = grad_begin(within ? "smear, documents" : "smear", 11);
    s.begins = within ? grad_words(&c, "begins", begins, ROWS) : -1;
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
    if (within) {
        GRAD_RUN(&c, KERNEL_SMEAR_WITHIN, &back, s.weight, s.w, dx, s.begins);
        GRAD_RUN(&c, KERNEL_SMEAR_BACK_GATE_WITHIN, &s.push, s.x, s.w, s.weight, dw, s.begins);
    } else {
        GRAD_RUN(&c, KERNEL_SMEAR, &back, s.weight, s.w, dx);
        GRAD_RUN(&c, KERNEL_SMEAR_BACK_GATE, &s.push, s.x, s.w, s.weight, dw);
    }
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
    if (s.begins < 0)
        GRAD_RUN(c, KERNEL_ATTENTION, &s.push, s.step, s.q, s.k, s.v, s.y, s.lse);
    else
        GRAD_RUN(c, KERNEL_ATTENTION_WITHIN, &s.push, s.step, s.q, s.k, s.v, s.y, s.lse, s.begins);
}

// begins: u32[batch * seq] or NULL
static void attention(bool bidirectional, uint32_t batch, uint32_t seq, uint32_t heads,
                      uint32_t kv_heads, uint32_t dim, uint32_t window, const uint32_t *begins)
{
    struct grad_case c = grad_begin(begins   ? "attention, documents"
                                    : window ? "attention, window"
                                             : "attention", 4);
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
    s.begins = begins ? grad_words(&c, "begins", begins, tokens) : -1;
    const int delta = grad_zeros(&c, "delta", tokens * heads), dq = grad_zeros(&c, "dq", q),
              dk = grad_zeros(&c, "dk", kv), dv = grad_zeros(&c, "dv", kv);
    c.forward = attention_forward;
    c.objective = weighted;
    c.forward(&c);
    GRAD_RUN(&c, KERNEL_ATTENTION_DELTA, (&(struct push_norm){.rows = tokens * heads, .cols = dim}),
             s.y, s.weight, delta);
    if (begins) {
        GRAD_RUN(&c, KERNEL_ATTENTION_BACK_Q_WITHIN, &s.push, s.q, s.k, s.v, s.weight, s.lse, delta,
                 dq, s.begins);
        GRAD_RUN(&c, KERNEL_ATTENTION_BACK_KV_WITHIN, &s.push, s.q, s.k, s.v, s.weight, s.lse,
                 delta, dk, dv, s.begins);
    } else {
        GRAD_RUN(&c, KERNEL_ATTENTION_BACK_Q, &s.push, s.q, s.k, s.v, s.weight, s.lse, delta, dq);
        GRAD_RUN(&c, KERNEL_ATTENTION_BACK_KV, &s.push, s.q, s.k, s.v, s.weight, s.lse, delta, dk,
                 dv);
    }
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
    smear(false);
    smear(true);
    matmul(3, 5, 4);
    matmul(1, 1, 1);
    rope();
    static const uint32_t begins[] = {0, 0, 2, 3, 3, 0, 1, 1, 1, 4};
    attention(false, 2, 5, 4, 2, 6, 0, NULL);
    attention(false, 1, 7, 2, 1, 3, 3, NULL);
    attention(true, 2, 5, 4, 2, 6, 0, NULL);
    attention(false, 2, 5, 4, 2, 6, 0, begins);
    attention(false, 2, 5, 4, 2, 6, 2, begins);
    for (uint32_t f = ACTIVATION_SILU; f < ACTIVATION_COUNT; f++) {
        activate(33, f, true);
        activate(33, f, false);
    }
    router_cases();
    expert_cases();
    loss(0);
    loss(2);
    embed();
    printf("%d passed, %d failed\n", passes, failures);
    return failures || !passes;
}
