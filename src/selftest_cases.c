// SPDX-License-Identifier: MIT
// A small case for every operation: ragged edges, every branch that a real call takes, inputs from
// the counter-based generator. Shapes of matmuls follow the kernel's tile: one whole and a rest.
#include <math.h>
#include <string.h>

#include "src/base.h"
#include "src/kernel_shape.h"
#include "src/ref/ref.h"
#include "src/selftest.h"

// ---- bindings

static void *bind(struct selftest_case *c, uint32_t b, int type, uint64_t count)
{
    struct selftest_binding *binding = &c->binding[b];
    binding->type = type == SELFTEST_STORE ? (int)c->kernel->store : type;
    binding->count = count;
    binding->bytes = count * dtype_bytes((enum dtype)binding->type);
    binding->data = arena_alloc(c->arena, align_up(binding->bytes, 4));
    return binding->data;
}

// Uniform in `middle` +- `width`.
static void fill(struct selftest_case *c, uint32_t b, int type, uint64_t count, double middle,
                 double width)
{
    void *data = bind(c, b, type, count);
    for (uint64_t i = 0; i < count; i++)
        dtype_store(data, i, (enum dtype)c->binding[b].type,
                    middle + width * (2 * rng_uniform(7, b, i) - 1));
}

static void numbers(struct selftest_case *c, uint32_t b, int type, uint64_t count)
{
    fill(c, b, type, count, 0, 1);
}

static void positive(struct selftest_case *c, uint32_t b, int type, uint64_t count)
{
    fill(c, b, type, count, 0.6, 0.4);
}

// Poison: NaN in every type.
static void output(struct selftest_case *c, uint32_t b, int type, uint64_t count)
{
    void *data = bind(c, b, type, count);
    memset(data, 0xff, c->binding[b].bytes);
}

static uint32_t *words(struct selftest_case *c, uint32_t b, uint64_t count)
{
    return bind(c, b, DTYPE_U32, count);
}

static void words_below(struct selftest_case *c, uint32_t b, uint64_t count, uint32_t bound)
{
    uint32_t *w = words(c, b, count);
    for (uint64_t i = 0; i < count; i++) w[i] = (uint32_t)rng_below(7, b, i, bound);
}

static void step(struct selftest_case *c, uint32_t b, const struct step_words *values)
{
    memcpy(bind(c, b, DTYPE_U32, sizeof *values / 4), values, sizeof *values);
}

#define PUSH(c, type, ...) memcpy((c)->push, &(const struct type){__VA_ARGS__}, sizeof(struct type))

// ---- embedding, norms, elements

static void embed(struct selftest_case *c)
{
    PUSH(c, push_embed, .rows = 5, .cols = 37, .vocab = 7);
    words_below(c, 0, 5, 7);
    numbers(c, 1, SELFTEST_STORE, 7 * 37);
    output(c, 2, SELFTEST_STORE, 5 * 37);
}

static void embed_back(struct selftest_case *c)
{
    static const uint32_t order[] = {4, 1, 0, 3, 2}, begin[] = {0, 2, 5, 0, 0, 0}, id[] = {3, 6};
    PUSH(c, push_embed, .rows = 5, .cols = 37, .vocab = 7);
    step(c, 0, &(struct step_words){.segments = 2});
    memcpy(words(c, 1, 5), order, sizeof order);
    memcpy(words(c, 2, 6), begin, sizeof begin);
    memcpy(words(c, 3, 5), id, sizeof id);
    numbers(c, 4, SELFTEST_STORE, 5 * 37);
    numbers(c, 5, DTYPE_F32, 7 * 37);
}

static void select_row(struct selftest_case *c)
{
    PUSH(c, push_embed, .rows = 5, .cols = 37);
    step(c, 0, &(struct step_words){.length = 4});
    numbers(c, 1, SELFTEST_STORE, 5 * 37);
    output(c, 2, SELFTEST_STORE, 37);
}

static void norm(struct selftest_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75, .eps = 1e-5f);
    numbers(c, 0, SELFTEST_STORE, 3 * 75);
    numbers(c, 1, SELFTEST_STORE, 75);
    output(c, 2, SELFTEST_STORE, 3 * 75);
    output(c, 3, DTYPE_F32, 3);
}

static void norm_back(struct selftest_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75, .accumulate = 1, .eps = 1e-5f);
    numbers(c, 0, SELFTEST_STORE, 3 * 75);
    numbers(c, 1, SELFTEST_STORE, 75);
    positive(c, 2, DTYPE_F32, 3);
    numbers(c, 3, SELFTEST_STORE, 3 * 75);
    numbers(c, 4, SELFTEST_STORE, 3 * 75);
}

static void norm_back_weight(struct selftest_case *c)
{
    PUSH(c, push_norm, .rows = 11, .cols = 75);
    numbers(c, 0, SELFTEST_STORE, 11 * 75);
    positive(c, 1, DTYPE_F32, 11);
    numbers(c, 2, SELFTEST_STORE, 11 * 75);
    numbers(c, 3, DTYPE_F32, 75);
}

static void swiglu(struct selftest_case *c)
{
    PUSH(c, push_count, .count = 309);
    numbers(c, 0, SELFTEST_STORE, 309);
    numbers(c, 1, SELFTEST_STORE, 309);
    output(c, 2, SELFTEST_STORE, 309);
}

static void swiglu_back(struct selftest_case *c)
{
    PUSH(c, push_count, .count = 309);
    for (uint32_t b = 0; b < 3; b++) numbers(c, b, SELFTEST_STORE, 309);
    for (uint32_t b = 3; b < 6; b++) output(c, b, SELFTEST_STORE, 309);
}

static void cast(struct selftest_case *c)
{
    PUSH(c, push_count, .count = 309);
    numbers(c, 0, DTYPE_F32, 309);
    output(c, 1, SELFTEST_STORE, 309);
}

// ---- dense matmuls

static bool wide_output(enum kernel_op op)
{
    return op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_NNF || op == KERNEL_MATMUL_TN ||
           op == KERNEL_MATMUL_SUMF || op == KERNEL_MATVECF;
}

// r, c and bias of the epilogue, from binding b on
static void matmul_end(struct selftest_case *c, uint32_t b, uint32_t m, uint32_t n)
{
    const int out = wide_output(c->kernel->op) ? (int)DTYPE_F32 : SELFTEST_STORE;
    numbers(c, b, out, (uint64_t)m * n);
    output(c, b + 1, out, (uint64_t)m * n);
    numbers(c, b + 2, SELFTEST_STORE, n);
}

static void matmul(struct selftest_case *c)
{
    const struct kernel *k = c->kernel;
    const uint32_t m = k->shape.rows + 1, n = kernel_group_columns(k->op, &k->shape) + 3;
    const uint32_t inner = 39;
    PUSH(c, push_matmul, .m = m, .n = n, .k = inner, .add = 1, .bias = 1, .scale = 0.5f,
         .activation = ACTIVATION_GELU_TANH);
    numbers(c, 0, SELFTEST_STORE, (uint64_t)m * inner);
    numbers(c, 1, SELFTEST_STORE, (uint64_t)n * inner);
    matmul_end(c, 2, m, n);
}

static void matmul_sum(struct selftest_case *c)
{
    PUSH(c, push_matmul, .m = 5, .n = 37, .parts = 3, .add = 1, .bias = 1, .scale = 0.5f,
         .activation = ACTIVATION_RELU2);
    numbers(c, 0, DTYPE_F32, 3 * 5 * 37);
    matmul_end(c, 1, 5, 37);
}

// ---- attention

static const struct push_attention attend = {.batch = 1, .seq = 5, .stride = 5, .heads = 4,
                                             .kv_heads = 2, .window = 3};

static uint32_t attention_push(struct selftest_case *c)
{
    struct push_attention push = attend;
    push.head_dim = c->kernel->shape.depth;
    push.scale = (float)(1 / sqrt(push.head_dim));
    memcpy(c->push, &push, sizeof push);
    return push.head_dim;
}

static void attention(struct selftest_case *c)
{
    const uint32_t d = attention_push(c), q = 5 * 4 * d, kv = 5 * 2 * d;
    step(c, 0, &(struct step_words){0});
    numbers(c, 1, SELFTEST_STORE, q);
    numbers(c, 2, SELFTEST_STORE, kv);
    numbers(c, 3, SELFTEST_STORE, kv);
    output(c, 4, SELFTEST_STORE, q);
    output(c, 5, DTYPE_F32, 5 * 4);
}

static void attention_delta(struct selftest_case *c)
{
    PUSH(c, push_norm, .rows = 21, .cols = 37);
    numbers(c, 0, SELFTEST_STORE, 21 * 37);
    numbers(c, 1, SELFTEST_STORE, 21 * 37);
    output(c, 2, DTYPE_F32, 21);
}

// The log-sum-exp must be that of the scores, so it comes from the reference of the forward.
static void attention_back(struct selftest_case *c)
{
    const uint32_t d = attention_push(c), q = 5 * 4 * d, kv = 5 * 2 * d;
    static const struct step_words start;
    numbers(c, 0, SELFTEST_STORE, q);
    numbers(c, 1, SELFTEST_STORE, kv);
    numbers(c, 2, SELFTEST_STORE, kv);
    numbers(c, 3, SELFTEST_STORE, q);
    output(c, 4, DTYPE_F32, 5 * 4);
    numbers(c, 5, DTYPE_F32, 5 * 4);
    struct gpu_ref_call forward = {.push = c->push, .tag = (int)c->kernel->store};
    void *o = arena_alloc(c->arena, (size_t)q * 4);
    void *const buffers[] = {(void *)(uintptr_t)&start, c->binding[0].data, c->binding[1].data,
                             c->binding[2].data, o, c->binding[4].data};
    memcpy(forward.buffer, buffers, sizeof buffers);
    ref_attention(&forward);
    if (c->kernel->op == KERNEL_ATTENTION_BACK_Q) {
        output(c, 6, SELFTEST_STORE, q);
        return;
    }
    output(c, 6, SELFTEST_STORE, kv);
    output(c, 7, SELFTEST_STORE, kv);
}

static void attention_decode(struct selftest_case *c)
{
    const uint32_t d = attention_push(c);
    ((struct push_attention *)c->push)->seq = 1;
    step(c, 0, &(struct step_words){.base = 3});
    numbers(c, 1, SELFTEST_STORE, 4 * d);
    numbers(c, 2, SELFTEST_STORE, 5 * 2 * d);
    numbers(c, 3, SELFTEST_STORE, 5 * 2 * d);
    output(c, 4, SELFTEST_STORE, 4 * d);
}

static void rope(struct selftest_case *c)
{
    PUSH(c, push_rope, .tokens = 6, .heads = 3, .head_dim = 10, .seq = 3);
    step(c, 0, &(struct step_words){.base = 2});
    numbers(c, 1, DTYPE_F32, 8 * 5 * 2);
    numbers(c, 2, SELFTEST_STORE, 6 * 3 * 10);
    output(c, 3, SELFTEST_STORE, 6 * 3 * 10);
}

static void cache_write(struct selftest_case *c)
{
    PUSH(c, push_cache_write, .rows = 4, .cols = 37, .capacity = 6);
    step(c, 0, &(struct step_words){.base = 2, .length = 3});
    numbers(c, 1, SELFTEST_STORE, 4 * 37);
    numbers(c, 2, SELFTEST_STORE, 6 * 37);
}

// ---- router and sort

enum { TOKENS = 9, EXPERTS = 5, PICKS = 2, PAIRS = TOKENS * PICKS };

static void router_push(struct selftest_case *c)
{
    PUSH(c, push_router, .tokens = TOKENS, .experts = EXPERTS, .top_k = PICKS, .renormalise = 1,
         .inv_temperature = 0.5f, .balance_coef = 0.1f, .z_coef = 0.01f);
}

// Experts of the pairs: 0 to 3, so that one has no token. Picks of a token differ.
static void picks(uint32_t *ids)
{
    for (uint32_t p = 0; p < PAIRS; p++) ids[p] = p % PICKS == 0 ? p % 3 : 3;
}

static void offsets(uint32_t *at)
{
    uint32_t ids[PAIRS];
    picks(ids);
    for (uint32_t e = 0; e <= EXPERTS; e++) {
        at[e] = 0;
        for (uint32_t p = 0; p < PAIRS; p++) at[e] += ids[p] < e;
    }
}

static void router(struct selftest_case *c)
{
    router_push(c);
    numbers(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 1, DTYPE_F32, TOKENS * EXPERTS);
    output(c, 2, DTYPE_U32, PAIRS);
    output(c, 3, DTYPE_F32, PAIRS);
    output(c, 4, DTYPE_F32, TOKENS);
}

static void router_back(struct selftest_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    picks(words(c, 1, PAIRS));
    positive(c, 2, DTYPE_F32, PAIRS);
    numbers(c, 3, DTYPE_F32, PAIRS);
    numbers(c, 4, DTYPE_F32, TOKENS);
    offsets(words(c, 5, EXPERTS + 1));
    step(c, 6, &(struct step_words){.aux_scale = 0.5f});
    output(c, 7, SELFTEST_STORE, TOKENS * EXPERTS);
}

static void router_stats(struct selftest_case *c)
{
    router_push(c);
    positive(c, 0, DTYPE_F32, TOKENS * EXPERTS);
    numbers(c, 1, DTYPE_F32, TOKENS);
    offsets(words(c, 2, EXPERTS + 1));
    output(c, 3, DTYPE_F32, 4 + 2 * EXPERTS);
}

static const struct push_moe_sort sort = {.pairs = PAIRS, .experts = EXPERTS, .block = 7,
                                          .blocks = 3, .tile_rows = 4, .max_tiles = 9,
                                          .columns = {1, 2, 3, 4}};

static void moe_count(struct selftest_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    picks(words(c, 0, PAIRS));
    output(c, 1, DTYPE_U32, 3 * EXPERTS);
}

// counts of the sort, or where each block's pairs go
static void block_counts(uint32_t *counts, bool scanned)
{
    uint32_t ids[PAIRS], at[EXPERTS + 1], tiles[9][4], grid[4][4];
    picks(ids);
    const struct gpu_ref_call count = {.push = &sort, .buffer = {ids, counts}};
    ref_moe_count(&count);
    const struct gpu_ref_call scan = {.push = &sort, .buffer = {counts, at, tiles, grid}};
    if (scanned) ref_moe_scan(&scan);
}

static void moe_scan(struct selftest_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    block_counts(words(c, 0, 3 * EXPERTS), false);
    output(c, 1, DTYPE_U32, EXPERTS + 1);
    output(c, 2, DTYPE_U32, 9 * 4);
    output(c, 3, DTYPE_U32, 16);
}

static void moe_scatter(struct selftest_case *c)
{
    memcpy(c->push, &sort, sizeof sort);
    picks(words(c, 0, PAIRS));
    block_counts(words(c, 1, 3 * EXPERTS), true);
    output(c, 2, DTYPE_U32, PAIRS);
    output(c, 3, DTYPE_U32, PAIRS);
}

// ---- grouped matmuls: three experts with a tile and a row, none, and two rows

struct grouped { uint32_t rows[3], pairs, tokens, n, k, tile_count; };

static struct grouped grouped_push(struct selftest_case *c, struct push_moe_matmul push)
{
    const struct kernel *k = c->kernel;
    struct grouped g = {.rows = {k->shape.rows + 1, 0, 2}, .pairs = k->shape.rows + 3};
    g.tokens = ceil_div(g.pairs, 2);
    push.pairs = g.pairs = g.tokens * 2;
    g.rows[2] = g.pairs - g.rows[0];
    push.experts = 3;
    push.top_k = 2;
    g.n = push.n = kernel_group_columns(k->op, &k->shape) + 3;
    g.k = push.k = 39;
    memcpy(c->push, &push, sizeof push);
    return g;
}

static void grouped_order(struct selftest_case *c, uint32_t b, const struct grouped *g)
{
    uint32_t *order = words(c, b, g->pairs);
    for (uint32_t i = 0; i < g->pairs; i++) order[i] = g->pairs - 1 - i;
}

static void grouped_tiles(struct selftest_case *c, uint32_t b, struct grouped *g)
{
    const struct kernel *k = c->kernel;
    uint32_t (*tile)[4] = (uint32_t (*)[4])words(c, b, 4ull * (g->pairs + 1)), first = 0;
    for (uint32_t e = 0; e < 3; e++)
        for (uint32_t row = 0, left = g->rows[e]; left; row++) {
            const uint32_t take = min_u32(left, k->shape.rows);
            uint32_t *t = tile[g->tile_count++];
            t[0] = e, t[1] = first, t[2] = take;
            first += take, left -= take;
        }
    c->groups[0] = kernel_moe_columns(k->op, &k->shape, g->n);
    c->groups[1] = g->tile_count;
    c->groups[2] = 1;
}

static void moe_matmul_up(struct selftest_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.save = 1});
    numbers(c, 0, SELFTEST_STORE, (uint64_t)g.tokens * g.k);
    grouped_order(c, 1, &g);
    grouped_tiles(c, 2, &g);
    for (uint32_t b = 3; b < 5; b++) numbers(c, b, SELFTEST_STORE, 3ull * g.n * g.k);
    for (uint32_t b = 5; b < 8; b++) output(c, b, SELFTEST_STORE, (uint64_t)g.pairs * g.n);
}

static void moe_matmul(struct selftest_case *c)
{
    struct grouped g =
        grouped_push(c, (struct push_moe_matmul){.add = c->kernel->op == KERNEL_MOE_MATMUL_NN});
    numbers(c, 0, SELFTEST_STORE, (uint64_t)g.pairs * g.k);
    grouped_tiles(c, 1, &g);
    numbers(c, 2, SELFTEST_STORE, 3ull * g.n * g.k);
    if (c->kernel->op == KERNEL_MOE_MATMUL_NN)
        numbers(c, 3, SELFTEST_STORE, (uint64_t)g.pairs * g.n);
    else output(c, 3, SELFTEST_STORE, (uint64_t)g.pairs * g.n);
}

static void moe_matmul_tn(struct selftest_case *c)
{
    const struct kernel *k = c->kernel;
    const struct grouped g = grouped_push(c, (struct push_moe_matmul){.m = k->shape.rows + 1,
                                                                     .gather = 1});
    const uint32_t m = k->shape.rows + 1, at[] = {0, g.rows[0], g.rows[0], g.pairs};
    numbers(c, 0, SELFTEST_STORE, (uint64_t)g.pairs * m);
    numbers(c, 1, SELFTEST_STORE, (uint64_t)g.tokens * g.n);
    grouped_order(c, 2, &g);
    memcpy(words(c, 3, 4), at, sizeof at);
    numbers(c, 4, DTYPE_F32, 3ull * m * g.n);
}

static void moe_combine(struct selftest_case *c)
{
    PUSH(c, push_moe_combine, .tokens = 5, .cols = 37, .top_k = 2, .weighted = 1, .add = 1);
    numbers(c, 0, SELFTEST_STORE, 10 * 37);
    uint32_t *inverse = words(c, 1, 10);
    for (uint32_t p = 0; p < 10; p++) inverse[p] = p == 3 ? KERNEL_NONE_ID : 9 - p;
    positive(c, 2, DTYPE_F32, 10);
    numbers(c, 3, SELFTEST_STORE, 5 * 37);
    output(c, 4, SELFTEST_STORE, 5 * 37);
}

static void moe_combine_back(struct selftest_case *c)
{
    PUSH(c, push_moe_combine, .tokens = 5, .cols = 37, .top_k = 2, .weighted = 1);
    numbers(c, 0, SELFTEST_STORE, 5 * 37);
    numbers(c, 1, SELFTEST_STORE, 10 * 37);
    uint32_t *inverse = words(c, 2, 10);
    for (uint32_t p = 0; p < 10; p++) inverse[p] = p == 3 ? KERNEL_NONE_ID : 9 - p;
    positive(c, 3, DTYPE_F32, 10);
    output(c, 4, SELFTEST_STORE, 10 * 37);
    output(c, 5, DTYPE_F32, 10);
}

// ---- loss, optimizer, sampling

static void loss(struct selftest_case *c)
{
    PUSH(c, push_loss, .rows = 3, .vocab = 77, .backward = 1);
    step(c, 0, &(struct step_words){.loss_scale = 0.25f});
    numbers(c, 1, SELFTEST_STORE, 3 * 77);
    const uint32_t targets[] = {76, KERNEL_NONE_ID, 4};
    memcpy(words(c, 2, 3), targets, sizeof targets);
    output(c, 3, DTYPE_F32, 3);
}

static void sum(struct selftest_case *c)
{
    PUSH(c, push_sum, .count = 309, .index = 2, .accumulate = 1);
    positive(c, 0, DTYPE_F32, 309);
    numbers(c, 1, DTYPE_F32, 4);
}

static void grad_norm(struct selftest_case *c)
{
    PUSH(c, push_sum, .count = 309, .index = 1, .block = 128);
    numbers(c, 0, DTYPE_F32, 309);
    numbers(c, 1, DTYPE_F32, 4);
}

static void grad_clip(struct selftest_case *c)
{
    PUSH(c, push_sum, .count = 37);
    step(c, 0, &(struct step_words){.unscale = 0.5f, .max_grad_norm = 1});
    positive(c, 1, DTYPE_F32, 37);
    output(c, 2, DTYPE_F32, 4);
}

static void adamw(struct selftest_case *c)
{
    PUSH(c, push_adamw, .count = 309, .copy = 1, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-6f,
         .weight_decay = 0.1f);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f, .correction1 = 0.271f,
                                    .correction2 = 0.0297f});
    positive(c, 1, DTYPE_F32, 4); // norm: a factor, and finite
    for (uint32_t b = 2; b < 5; b++) numbers(c, b, DTYPE_F32, 309);
    positive(c, 5, DTYPE_F32, 309);
    output(c, 6, SELFTEST_STORE, 309);
}

static void sample(struct selftest_case *c)
{
    PUSH(c, push_loss, .rows = 1, .vocab = 309);
    step(c, 0, &(struct step_words){.top_p = 1, .repetition_penalty = 1.5f});
    numbers(c, 1, DTYPE_F32, 309);
    words_below(c, 2, 309, 2);
    output(c, 3, DTYPE_U32, 2);
}

// ---- all

static void (*const fills[KERNEL_COUNT])(struct selftest_case *c) = {
    [KERNEL_EMBED] = embed,
    [KERNEL_EMBED_BACK] = embed_back,
    [KERNEL_NORM] = norm,
    [KERNEL_NORM_BACK] = norm_back,
    [KERNEL_NORM_BACK_WEIGHT] = norm_back_weight,
    [KERNEL_MATMUL_NT] = matmul,
    [KERNEL_MATMUL_NTF] = matmul,
    [KERNEL_MATMUL_NN] = matmul,
    [KERNEL_MATMUL_NNF] = matmul,
    [KERNEL_MATMUL_TN] = matmul,
    [KERNEL_MATMUL_SUM] = matmul_sum,
    [KERNEL_MATMUL_SUMF] = matmul_sum,
    [KERNEL_MATVEC] = matmul,
    [KERNEL_MATVECF] = matmul,
    [KERNEL_ROPE] = rope,
    [KERNEL_CACHE_WRITE] = cache_write,
    [KERNEL_SELECT_ROW] = select_row,
    [KERNEL_ATTENTION] = attention,
    [KERNEL_ATTENTION_DELTA] = attention_delta,
    [KERNEL_ATTENTION_BACK_Q] = attention_back,
    [KERNEL_ATTENTION_BACK_KV] = attention_back,
    [KERNEL_ATTENTION_DECODE] = attention_decode,
    [KERNEL_SWIGLU] = swiglu,
    [KERNEL_SWIGLU_BACK] = swiglu_back,
    [KERNEL_ROUTER] = router,
    [KERNEL_ROUTER_BACK] = router_back,
    [KERNEL_ROUTER_STATS] = router_stats,
    [KERNEL_MOE_COUNT] = moe_count,
    [KERNEL_MOE_SCAN] = moe_scan,
    [KERNEL_MOE_SCATTER] = moe_scatter,
    [KERNEL_MOE_MATMUL_UP] = moe_matmul_up,
    [KERNEL_MOE_MATMUL_NT] = moe_matmul,
    [KERNEL_MOE_MATMUL_NN] = moe_matmul,
    [KERNEL_MOE_MATMUL_TN] = moe_matmul_tn,
    [KERNEL_MOE_COMBINE] = moe_combine,
    [KERNEL_MOE_COMBINE_BACK] = moe_combine_back,
    [KERNEL_LOSS] = loss,
    [KERNEL_SUM] = sum,
    [KERNEL_GRAD_NORM] = grad_norm,
    [KERNEL_GRAD_CLIP] = grad_clip,
    [KERNEL_ADAMW] = adamw,
    [KERNEL_CAST] = cast,
    [KERNEL_SAMPLE] = sample,
};

bool selftest_covers(enum kernel_op op) { return fills[op] != NULL; }

void selftest_fill(struct selftest_case *c) { fills[c->kernel->op](c); }
