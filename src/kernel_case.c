// SPDX-License-Identifier: MIT
// A case for every operation: ragged edges, every branch that a real call takes, inputs from the
// counter-based generator. Shapes of small matmuls follow the kernel's tile: one whole and a rest.
#include "src/kernel_case.h"

#include <math.h>

#include "src/codes.h"
#include "src/kernel_case_fill.h"
#include "src/kernel_shape.h"
#include "src/ref/ref.h"

// ---- embedding, norms, elements

static void embed(struct kernel_case *c)
{
    PUSH(c, push_embed, .rows = 5, .cols = 37, .vocab = 7);
    words_below(c, 0, 5, 7);
    numbers(c, 1, KERNEL_CASE_STORE, 7 * 37);
    output(c, 2, KERNEL_CASE_STORE, 5 * 37);
}

static void embed_back(struct kernel_case *c)
{
    static const uint32_t order[] = {4, 1, 0, 3, 2}, begin[] = {0, 2, 5, 0, 0, 0}, id[] = {3, 6};
    PUSH(c, push_embed, .rows = 5, .cols = 37, .vocab = 7);
    step(c, 0, &(struct step_words){.segments = 2});
    memcpy(words(c, 1, 5), order, sizeof order);
    memcpy(words(c, 2, 6), begin, sizeof begin);
    memcpy(words(c, 3, 5), id, sizeof id);
    numbers(c, 4, KERNEL_CASE_STORE, 5 * 37);
    numbers(c, 5, DTYPE_F32, 7 * 37);
}

static void select_row(struct kernel_case *c)
{
    PUSH(c, push_embed, .rows = 5, .cols = 37);
    step(c, 0, &(struct step_words){.length = 4});
    numbers(c, 1, KERNEL_CASE_STORE, 5 * 37);
    output(c, 2, KERNEL_CASE_STORE, 37);
}

static void norm(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75, .eps = 1e-5f);
    numbers(c, 0, KERNEL_CASE_STORE, 3 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 75);
    output(c, 2, KERNEL_CASE_STORE, 3 * 75);
    output(c, 3, DTYPE_F32, 3);
}

static void norm_back(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 3, .cols = 75, .accumulate = 1, .eps = 1e-5f);
    numbers(c, 0, KERNEL_CASE_STORE, 3 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 75);
    positive(c, 2, DTYPE_F32, 3);
    numbers(c, 3, KERNEL_CASE_STORE, 3 * 75);
    numbers(c, 4, KERNEL_CASE_STORE, 3 * 75);
}

static void norm_back_weight(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 11, .cols = 75);
    numbers(c, 0, KERNEL_CASE_STORE, 11 * 75);
    positive(c, 1, DTYPE_F32, 11);
    numbers(c, 2, KERNEL_CASE_STORE, 11 * 75);
    numbers(c, 3, DTYPE_F32, 75);
}

static void activate(struct kernel_case *c)
{
    PUSH(c, push_activate, .count = 309, .activation = ACTIVATION_GELU, .gated = 1);
    numbers(c, 0, KERNEL_CASE_STORE, 309);
    numbers(c, 1, KERNEL_CASE_STORE, 309);
    output(c, 2, KERNEL_CASE_STORE, 309);
}

static void activate_back(struct kernel_case *c)
{
    PUSH(c, push_activate, .count = 309, .activation = ACTIVATION_SILU, .gated = 1);
    for (uint32_t b = 0; b < 3; b++) numbers(c, b, KERNEL_CASE_STORE, 309);
}

static void mix(struct kernel_case *c)
{
    PUSH(c, push_mix, .rows = 3, .cols = 75, .a = FACTOR_COLUMN, .b = FACTOR_NUMBER);
    numbers(c, 0, KERNEL_CASE_STORE, 3 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 3 * 75);
    numbers(c, 2, KERNEL_CASE_STORE, 75);
    positive(c, 3, KERNEL_CASE_STORE, 1);
    output(c, 4, KERNEL_CASE_STORE, 3 * 75);
}

static void column_sum(struct kernel_case *c)
{
    PUSH(c, push_column_sum, .rows = 11, .cols = 75, .product = 1);
    numbers(c, 0, KERNEL_CASE_STORE, 11 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 11 * 75);
    numbers(c, 2, DTYPE_F32, 75);
}

static void smear(struct kernel_case *c)
{
    PUSH(c, push_smear, .rows = 6, .cols = 75, .seq = 3);
    numbers(c, 0, KERNEL_CASE_STORE, 6 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 75);
    output(c, 2, KERNEL_CASE_STORE, 6 * 75);
}

static void smear_back_gate(struct kernel_case *c)
{
    PUSH(c, push_smear, .rows = 6, .cols = 75, .seq = 3);
    numbers(c, 0, KERNEL_CASE_STORE, 6 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 75);
    numbers(c, 2, KERNEL_CASE_STORE, 6 * 75);
    numbers(c, 3, DTYPE_F32, 75);
}

static void cast(struct kernel_case *c)
{
    PUSH(c, push_count, .count = 309);
    numbers(c, 0, DTYPE_F32, 309);
    output(c, 1, KERNEL_CASE_STORE, 309);
}

// ---- dense matmuls

static bool wide_output(enum kernel_op op)
{
    return op == KERNEL_MATMUL_NTF || op == KERNEL_MATMUL_NNF || op == KERNEL_MATMUL_TN ||
           op == KERNEL_MATMUL_SUMF || op == KERNEL_MATVECF;
}

// r, c and bias of the epilogue, from binding b on
static void matmul_end(struct kernel_case *c, uint32_t b, uint32_t m, uint32_t n)
{
    const int out = wide_output(c->kernel->op) ? (int)DTYPE_F32 : KERNEL_CASE_STORE;
    numbers(c, b, out, (uint64_t)m * n);
    output(c, b + 1, out, (uint64_t)m * n);
    numbers(c, b + 2, KERNEL_CASE_STORE, n);
}

// What a size must be a multiple of: kernels that are not ragged take fours where rows of operands
// begin (struct kernel_shape), and eights of k where that is their depth: 39 becomes 40.
static uint32_t whole(const struct kernel_case *c, uint32_t size, bool begins)
{
    const struct kernel_shape *shape = &c->kernel->shape;
    return begins && kernel_is_flat(shape) && !shape->ragged ? (size + 3) / 4 * 4 : size;
}

static bool is_tn(enum kernel_op op) { return kernel_form_of(op) == FORM_TN; }
static bool is_nn(enum kernel_op op) { return kernel_form_of(op) == FORM_NN; }

static struct push_matmul matmul_push(const struct kernel_case *c)
{
    const struct kernel *k = c->kernel;
    if (c->size.rows)
        return (struct push_matmul){.m = c->size.rows, .n = c->size.columns, .k = c->size.inner,
                                    .parts = c->parts};
    const uint32_t columns = kernel_group_columns(k->op, &k->shape) + 3;
    return (struct push_matmul){.m = whole(c, k->shape.rows + 1, is_tn(k->op)),
                                .n = whole(c, columns, is_tn(k->op) || is_nn(k->op)),
                                .k = whole(c, 39, !is_tn(k->op)),
                                .add = 1,
                                .bias = 1,
                                .scale = 0.5f,
                                .activation = ACTIVATION_GELU_TANH};
}

static void matmul(struct kernel_case *c)
{
    const struct push_matmul push = matmul_push(c);
    memcpy(c->push, &push, sizeof push);
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)push.m * push.k);
    numbers(c, 1, KERNEL_CASE_STORE, (uint64_t)push.n * push.k);
    matmul_end(c, 2, max_u32(push.parts, 1) * push.m, push.n);
}

static void matmul_sum(struct kernel_case *c)
{
    if (c->size.rows) {
        const uint32_t m = c->size.rows, n = c->size.columns;
        PUSH(c, push_matmul, .m = m, .n = n, .parts = c->parts);
        numbers(c, 0, DTYPE_F32, (uint64_t)c->parts * m * n);
        matmul_end(c, 1, m, n);
        return;
    }
    PUSH(c, push_matmul, .m = 5, .n = 37, .parts = 3, .add = 1, .bias = 1, .scale = 0.5f,
         .activation = ACTIVATION_RELU2);
    numbers(c, 0, DTYPE_F32, 3 * 5 * 37);
    matmul_end(c, 1, 5, 37);
}

// ---- attention

static const struct push_attention attend = {.batch = 1, .seq = 5, .stride = 5, .heads = 4,
                                             .kv_heads = 2, .window = 3};

static struct push_attention attention_push(struct kernel_case *c)
{
    struct push_attention push = attend;
    push.head_dim = c->kernel->shape.depth;
    if (c->size.rows) { // as many heads as two groups have
        push.seq = push.stride = c->size.inner;
        push.heads = 2 * c->size.columns;
        push.window = 0;
    }
    push.scale = (float)(1 / sqrt(push.head_dim));
    memcpy(c->push, &push, sizeof push);
    return push;
}

static uint32_t queries(const struct push_attention *p) { return p->seq * p->heads; }
static uint32_t keys(const struct push_attention *p) { return p->stride * p->kv_heads; }

static void attention(struct kernel_case *c)
{
    const struct push_attention p = attention_push(c);
    const uint64_t q = (uint64_t)queries(&p) * p.head_dim, kv = (uint64_t)keys(&p) * p.head_dim;
    step(c, 0, &(struct step_words){0});
    numbers(c, 1, KERNEL_CASE_STORE, q);
    numbers(c, 2, KERNEL_CASE_STORE, kv);
    numbers(c, 3, KERNEL_CASE_STORE, kv);
    output(c, 4, KERNEL_CASE_STORE, q);
    output(c, 5, DTYPE_F32, queries(&p));
}

static void attention_delta(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 21, .cols = 37);
    numbers(c, 0, KERNEL_CASE_STORE, 21 * 37);
    numbers(c, 1, KERNEL_CASE_STORE, 21 * 37);
    output(c, 2, DTYPE_F32, 21);
}

// The log-sum-exp of the scores, from the reference of the forward.
static void reference_lse(struct kernel_case *c, uint64_t q)
{
    static const struct step_words start;
    struct gpu_ref_call forward = {.push = c->push, .tag = (int)c->kernel->store};
    void *o = arena_alloc(c->arena, (size_t)q * 4);
    void *const buffers[] = {(void *)(uintptr_t)&start, c->binding[0].data, c->binding[1].data,
                             c->binding[2].data, o, c->binding[4].data};
    memcpy(forward.buffer, buffers, sizeof buffers);
    ref_attention(&forward);
}

static void attention_back(struct kernel_case *c)
{
    const struct push_attention p = attention_push(c);
    const uint64_t q = (uint64_t)queries(&p) * p.head_dim, kv = (uint64_t)keys(&p) * p.head_dim;
    numbers(c, 0, KERNEL_CASE_STORE, q);
    numbers(c, 1, KERNEL_CASE_STORE, kv);
    numbers(c, 2, KERNEL_CASE_STORE, kv);
    numbers(c, 3, KERNEL_CASE_STORE, q);
    // of a given size the scores are small: what an even softmax has is near enough
    fill(c, 4, DTYPE_F32, queries(&p), log(p.seq) + 1, 0);
    numbers(c, 5, DTYPE_F32, queries(&p));
    if (!c->size.rows) reference_lse(c, q);
    if (c->kernel->op == KERNEL_ATTENTION_BACK_Q) {
        output(c, 6, KERNEL_CASE_STORE, q);
        return;
    }
    output(c, 6, KERNEL_CASE_STORE, kv);
    output(c, 7, KERNEL_CASE_STORE, kv);
}

// 67 keys in two parts
enum { DECODE_KEYS = 67, DECODE_PARTS = 2 };

static uint32_t decode_push(struct kernel_case *c)
{
    const uint32_t d = attention_push(c).head_dim;
    struct push_attention *push = (struct push_attention *)c->push;
    push->seq = 1;
    push->stride = DECODE_KEYS + 2;
    push->window = 0;
    push->parts = DECODE_PARTS;
    step(c, 0, &(struct step_words){.base = DECODE_KEYS - 1});
    return d;
}

static void attention_decode(struct kernel_case *c)
{
    const uint32_t d = decode_push(c), kv = (DECODE_KEYS + 2) * 2 * d;
    numbers(c, 1, KERNEL_CASE_STORE, 4 * d);
    numbers(c, 2, KERNEL_CASE_STORE, kv);
    numbers(c, 3, KERNEL_CASE_STORE, kv);
    output(c, 4, KERNEL_CASE_STORE, 4 * d);
    output(c, 5, DTYPE_F32, 4 * DECODE_PARTS * d);
    output(c, 6, DTYPE_F32, 4 * DECODE_PARTS * 2);
}

static void attention_merge(struct kernel_case *c)
{
    const uint32_t d = decode_push(c);
    numbers(c, 1, DTYPE_F32, 4 * DECODE_PARTS * d);
    positive(c, 2, DTYPE_F32, 4 * DECODE_PARTS * 2);
    output(c, 3, KERNEL_CASE_STORE, 4 * d);
}

static void rope(struct kernel_case *c)
{
    PUSH(c, push_rope, .tokens = 6, .heads = 3, .head_dim = 10, .seq = 3);
    step(c, 0, &(struct step_words){.base = 2});
    numbers(c, 1, DTYPE_F32, 8 * 5 * 2);
    numbers(c, 2, KERNEL_CASE_STORE, 6 * 3 * 10);
    output(c, 3, KERNEL_CASE_STORE, 6 * 3 * 10);
}

static void cache_write(struct kernel_case *c)
{
    PUSH(c, push_cache_write, .rows = 4, .cols = 37, .capacity = 6);
    step(c, 0, &(struct step_words){.base = 2, .length = 3});
    numbers(c, 1, KERNEL_CASE_STORE, 4 * 37);
    numbers(c, 2, KERNEL_CASE_STORE, 6 * 37);
}

// ---- grouped matmuls. Small: three experts with a tile and a row, none, and two rows. Sized: all
// experts have as many rows as kernel_size says, and there are as many as a small batch has.

enum { SMALL_EXPERTS = 3, MOST_EXPERTS = 32, SIZED_PAIRS = 256 };
struct grouped { uint32_t rows[MOST_EXPERTS], experts, pairs, tokens, m, n, k, tile_count; };

uint32_t kernel_case_experts(uint32_t rows)
{
    return min_u32(max_u32(SIZED_PAIRS / rows, SMALL_EXPERTS), MOST_EXPERTS);
}

static struct grouped grouped_push(struct kernel_case *c, struct push_moe_matmul push)
{
    const struct kernel *k = c->kernel;
    const bool tn = k->op == KERNEL_MOE_MATMUL_TN;
    const uint32_t tile = k->shape.rows, sized = tn ? c->size.inner : c->size.rows;
    struct grouped g = {.experts = sized ? kernel_case_experts(sized) : SMALL_EXPERTS,
                        .k = sized ? c->size.inner : whole(c, 39, true)};
    const uint32_t columns = kernel_group_columns(k->op, &k->shape) + 3;
    g.n = sized ? c->size.columns : whole(c, columns, tn || is_nn(k->op));
    g.m = sized ? c->size.rows : whole(c, tile + 1, true);
    g.tokens = sized ? ceil_div(g.experts * sized, 2) : ceil_div(tile + 3, 2);
    push.pairs = g.pairs = g.tokens * 2;
    const uint32_t last = g.experts - 1;
    g.rows[0] = tile + 1;
    for (uint32_t e = 0; sized && e < last; e++) g.rows[e] = sized;
    g.rows[last] = g.pairs;
    for (uint32_t e = 0; e < last; e++) g.rows[last] -= g.rows[e];
    push.experts = g.experts;
    push.top_k = 2;
    push.m = tn ? g.m : 0;
    push.n = g.n;
    push.k = g.k;
    memcpy(c->push, &push, sizeof push);
    return g;
}

static void grouped_order(struct kernel_case *c, uint32_t b, const struct grouped *g)
{
    uint32_t *order = words(c, b, g->pairs);
    for (uint32_t i = 0; i < g->pairs; i++) order[i] = g->pairs - 1 - i;
}

static void grouped_tiles(struct kernel_case *c, uint32_t b, struct grouped *g)
{
    const struct kernel *k = c->kernel;
    uint32_t (*tile)[4] = (uint32_t (*)[4])words(c, b, 4ull * (g->pairs + 1)), first = 0;
    for (uint32_t e = 0; e < g->experts; e++)
        for (uint32_t left = g->rows[e]; left;) {
            const uint32_t take = min_u32(left, k->shape.rows);
            uint32_t *t = tile[g->tile_count++];
            t[0] = e, t[1] = first, t[2] = take;
            first += take, left -= take;
        }
    c->groups[0] = kernel_moe_columns(k->op, &k->shape, g->n);
    c->groups[1] = g->tile_count;
    c->groups[2] = 1;
}

// moe_matmul_up and _act
static void moe_matmul_up(struct kernel_case *c)
{
    const uint32_t matrices = c->kernel->op == KERNEL_MOE_MATMUL_UP ? 2 : 1, h = 3 + matrices;
    struct grouped g =
        grouped_push(c, (struct push_moe_matmul){
                            .save = 1, .activation = ACTIVATION_SILU, .bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_order(c, 1, &g);
    grouped_tiles(c, 2, &g);
    for (uint32_t b = 3; b < h; b++)
        numbers(c, b, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    for (uint32_t b = h; b <= h + matrices; b++)
        output(c, b, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    if (matrices == 1) numbers(c, 6, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
}

static void moe_matmul_nt(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.k);
    grouped_tiles(c, 1, &g);
    numbers(c, 2, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 3, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    numbers(c, 4, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
}

static void moe_matmul_ntf(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.bias = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_tiles(c, 1, &g);
    numbers(c, 2, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 3, DTYPE_F32, (uint64_t)g.pairs * g.n);
    numbers(c, 4, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n);
    grouped_order(c, 5, &g);
}

static void moe_matmul_nn(struct kernel_case *c)
{
    struct grouped g = grouped_push(c, (struct push_moe_matmul){.gather = 1, .second = 1});
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.k);
    grouped_order(c, 1, &g);
    grouped_tiles(c, 2, &g);
    numbers(c, 3, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
    output(c, 4, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.n);
    numbers(c, 5, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.k);
    numbers(c, 6, KERNEL_CASE_STORE, (uint64_t)g.experts * g.n * g.k);
}

static void moe_matmul_tn(struct kernel_case *c)
{
    const struct kernel *k = c->kernel;
    const struct grouped g = grouped_push(c, (struct push_moe_matmul){.gather = 1});
    uint32_t (*range)[4] = (uint32_t (*)[4])words(c, 3, 4 * (g.experts + 1)), ranges = 0, first = 0;
    for (uint32_t e = 0; e < g.experts; first += g.rows[e++])
        if (g.rows[e])
            memcpy(range[ranges++], (uint32_t[4]){e, first, g.rows[e]}, sizeof *range);
    numbers(c, 0, KERNEL_CASE_STORE, (uint64_t)g.pairs * g.m);
    numbers(c, 1, KERNEL_CASE_STORE, (uint64_t)g.tokens * g.n);
    grouped_order(c, 2, &g);
    numbers(c, 4, DTYPE_F32, (uint64_t)g.experts * g.m * g.n);
    c->groups[0] = kernel_moe_columns(k->op, &k->shape, g.n);
    c->groups[1] = ceil_div(g.m, k->shape.rows);
    c->groups[2] = ranges;
}

static void moe_activate_back(struct kernel_case *c)
{
    PUSH(c, push_moe_activate, .pairs = 10, .cols = 37, .activation = ACTIVATION_SILU, .gated = 1);
    for (uint32_t b = 0; b < 3; b++) numbers(c, b, KERNEL_CASE_STORE, 10 * 37);
    uint32_t *inverse = words(c, 3, 10);
    for (uint32_t p = 0; p < 10; p++) inverse[p] = p == 3 ? KERNEL_NONE_ID : 9 - p;
    positive(c, 4, DTYPE_F32, 10);
    output(c, 5, DTYPE_F32, 10);
}

static void moe_combine(struct kernel_case *c)
{
    PUSH(c, push_moe_combine, .tokens = 5, .cols = 37, .top_k = 2, .weighted = 1, .add = 1);
    numbers(c, 0, KERNEL_CASE_STORE, 10 * 37);
    uint32_t *inverse = words(c, 1, 10);
    for (uint32_t p = 0; p < 10; p++) inverse[p] = p == 3 ? KERNEL_NONE_ID : 9 - p;
    positive(c, 2, DTYPE_F32, 10);
    numbers(c, 3, KERNEL_CASE_STORE, 5 * 37);
    output(c, 4, KERNEL_CASE_STORE, 5 * 37);
}

// ---- loss, optimizer, sampling

static void softcap(struct kernel_case *c)
{
    PUSH(c, push_softcap, .count = 309, .cap = 0.5f);
    numbers(c, 0, DTYPE_F32, 309);
}

// loss and loss_capped
static void loss(struct kernel_case *c)
{
    PUSH(c, push_loss, .rows = 3, .vocab = 77, .backward = 1,
         .softcap = c->kernel->op == KERNEL_LOSS_CAPPED ? 2 : 0);
    step(c, 0, &(struct step_words){.loss_scale = 0.25f});
    numbers(c, 1, KERNEL_CASE_STORE, 3 * 77);
    const uint32_t targets[] = {76, KERNEL_NONE_ID, 4};
    memcpy(words(c, 2, 3), targets, sizeof targets);
    output(c, 3, DTYPE_F32, 3);
}

static void sum(struct kernel_case *c)
{
    PUSH(c, push_sum, .count = 309, .index = 2, .accumulate = 1);
    positive(c, 0, DTYPE_F32, 309);
    numbers(c, 1, DTYPE_F32, 4);
}

static void grad_norm(struct kernel_case *c)
{
    PUSH(c, push_sum, .count = 309, .index = 1, .block = 128);
    numbers(c, 0, DTYPE_F32, 309);
    numbers(c, 1, DTYPE_F32, 4);
}

static void expert_norm(struct kernel_case *c)
{
    static const uint32_t places[] = {1, 3, KERNEL_NONE_ID, 7, 0};
    PUSH(c, push_expert_norm, .count = 308, .block = 128, .matrices = 4, .mapped = 1, .index = 1);
    numbers(c, 0, DTYPE_F32, 4 * 308);
    memcpy(words(c, 1, 5), places, sizeof places);
    numbers(c, 2, DTYPE_F32, 12);
}

static void expert_moves(struct kernel_case *c)
{
    static const uint32_t moves[] = {5, 0, 9, 7}, places[] = {3, KERNEL_NONE_ID, 0, 1, 2};
    PUSH(c, push_count, .count = 5);
    memcpy(words(c, 0, 4), moves, sizeof moves);
    memcpy(words(c, 1, 5), places, sizeof places);
    output(c, 2, DTYPE_U32, 5);
}

static void grad_clip(struct kernel_case *c)
{
    PUSH(c, push_sum, .count = 37);
    step(c, 0, &(struct step_words){.unscale = 0.5f, .max_grad_norm = 1});
    positive(c, 1, DTYPE_F32, 37);
    output(c, 2, DTYPE_F32, 4);
}

static void expert_touch(struct kernel_case *c)
{
    static const uint32_t offsets[] = {0, 0, 3, 3, 4, 9, 9}, touched[] = {0, 0, 0, 1, 0, 1};
    PUSH(c, push_count, .count = 6);
    memcpy(words(c, 0, 7), offsets, sizeof offsets);
    memcpy(words(c, 1, 6), touched, sizeof touched);
}

static void expert_steps(struct kernel_case *c)
{
    PUSH(c, push_expert_steps, .count = 37);
    step(c, 0, &(struct step_words){.step = 9});
    positive(c, 1, DTYPE_F32, 4);
    words_below(c, 2, 37, 9);
    words_below(c, 3, 37, 2);
}

// Two layers of two stacks of three matrices each; expert 1 of the second layer does not move.
static const uint32_t optimizer_moves[] = {3, 1, 7, 99, 5, 0, 2, 99};

static void optimizer(struct kernel_case *c, uint32_t moves_at)
{
    PUSH(c, push_optimizer, .count = 137, .matrices = 11, .first = 1, .experts = 3, .per_layer = 6,
         .stride = 4, .copy = 1, .nesterov = 1, .rate = 0.5f, .weight_decay = 0.1f, .beta1 = 0.9f,
         .beta2 = 0.99f, .eps = 1e-6f, .log_beta1 = kernel_log_beta(0.9),
         .log_beta2 = kernel_log_beta(0.99));
    memcpy(words(c, moves_at, 8), optimizer_moves, sizeof optimizer_moves);
}

static void adamw(struct kernel_case *c)
{
    enum { ALL = 11 * 137 };
    optimizer(c, 7);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4); // norm: a factor, and finite
    for (uint32_t b = 2; b < 5; b++) numbers(c, b, DTYPE_F32, ALL);
    positive(c, 5, DTYPE_F32, ALL);
    output(c, 6, KERNEL_CASE_STORE, ALL);
}

static void adamw_8bit(struct kernel_case *c)
{
    enum { COUNT = 301, PARTS = 7, BLOCKS = 2 * PARTS + 1 }; // a record in front
    PUSH(c, push_adamw_8bit, .record = 1,
         .each = {.count = COUNT, .matrices = PARTS, .first = 1, .experts = 3, .per_layer = 6,
                  .stride = 4, .copy = 1, .rate = 0.5f, .weight_decay = 0.1f, .beta1 = 0.9f,
                  .beta2 = 0.99f, .eps = 1e-6f, .log_beta1 = kernel_log_beta(0.9),
                  .log_beta2 = kernel_log_beta(0.99)});
    memcpy(words(c, 6, 8), optimizer_moves, sizeof optimizer_moves);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 4; b++) numbers(c, b, DTYPE_F32, COUNT * PARTS);
    uint32_t *record = words(c, 4, BLOCKS * RECORD_WORDS);
    c->binding[4].records = true;
    for (uint32_t i = 0; i < BLOCKS; i++, record += RECORD_WORDS) {
        const float factor[4] = {0.5f + 0.1f * (float)i, 0.1f, 0, 0};
        const uint32_t used = i & 1 ? RECORD_ELEMENTS : COUNT - RECORD_ELEMENTS; // 0 behind them
        for (uint32_t e = 0; e < 2 * RECORD_ELEMENTS; e++)
            if (e % RECORD_ELEMENTS < used)
                record[e / 4] |= (uint32_t)rng_below(7, 4, i * 512 + e, 256) << 8 * (e % 4);
        memcpy(record + RECORD_FACTOR, factor, sizeof factor);
    }
    output(c, 5, KERNEL_CASE_STORE, COUNT * PARTS);
}

static void average(struct kernel_case *c)
{
    PUSH(c, push_count, .count = 1003);
    step(c, 0, &(struct step_words){.average = 0.25f});
    numbers(c, 1, DTYPE_F32, 1003);
    numbers(c, 2, DTYPE_F32, 1003);
}

static void sgd(struct kernel_case *c)
{
    enum { ALL = 11 * 137 };
    optimizer(c, 6);
    step(c, 0, &(struct step_words){.step = 3, .learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 5; b++) numbers(c, b, DTYPE_F32, ALL);
    output(c, 5, KERNEL_CASE_STORE, ALL);
}

// Seven matrices of 13 x 13 of the same layers.
enum { MUON_ALL = 7 * 169 };

static void muon(struct kernel_case *c, uint32_t moves_at)
{
    PUSH(c, push_muon,
         .each = {.count = 169, .matrices = 7, .first = 2, .experts = 3, .per_layer = 6,
                  .stride = 4, .copy = 1, .nesterov = 1, .rate = 0.5f, .weight_decay = 0.1f,
                  .beta1 = 0.9f, .scale = 1.5f},
         .rows = 13, .tile_rows = 4, .columns = 5, .row_groups = 3);
    memcpy(words(c, moves_at, 8), optimizer_moves, sizeof optimizer_moves);
}

static void muon_momentum(struct kernel_case *c)
{
    muon(c, 3);
    positive(c, 0, DTYPE_F32, 4);
    for (uint32_t b = 1; b < 3; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
    output(c, 4, DTYPE_F32, MUON_ALL);
    output(c, 5, DTYPE_F32, 7);
}

static void muon_scale(struct kernel_case *c)
{
    muon(c, 1);
    positive(c, 0, DTYPE_F32, 7);
    numbers(c, 2, DTYPE_F32, MUON_ALL);
}

static void muon_tables(struct kernel_case *c)
{
    muon(c, 0);
    output(c, 1, DTYPE_U32, 29 * 4);
    output(c, 2, DTYPE_U32, 8 * 4);
    output(c, 3, DTYPE_U32, 8);
}

static void muon_mix(struct kernel_case *c)
{
    muon(c, 0);
    for (uint32_t b = 1; b < 3; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
}

static void muon_update(struct kernel_case *c)
{
    muon(c, 5);
    step(c, 0, &(struct step_words){.learning_rate = 0.01f});
    positive(c, 1, DTYPE_F32, 4);
    for (uint32_t b = 2; b < 4; b++) numbers(c, b, DTYPE_F32, MUON_ALL);
    output(c, 4, KERNEL_CASE_STORE, MUON_ALL);
}

static void sample(struct kernel_case *c)
{
    PUSH(c, push_loss, .rows = 1, .vocab = 309);
    step(c, 0, &(struct step_words){.top_p = 1, .repetition_penalty = 1.5f});
    numbers(c, 1, DTYPE_F32, 309);
    words_below(c, 2, 309, 2);
    output(c, 3, DTYPE_U32, 2);
}

// ---- decoding

static void token_linear(struct kernel_case *c)
{
    PUSH(c, push_token_linear, .k = 64, .n = 37, .eps = 1e-5f);
    numbers(c, 0, KERNEL_CASE_STORE, 64);
    positive(c, 1, KERNEL_CASE_STORE, 64);
    numbers(c, 2, KERNEL_CASE_STORE, 37 * 64);
    output(c, 3, c->kernel->op == KERNEL_TOKEN_LINEARF ? DTYPE_F32 : KERNEL_CASE_STORE, 37);
}

static void heads(struct kernel_case *c)
{
    PUSH(c, push_heads, .tokens = 3, .heads = 4, .kv_heads = 2, .head_dim = 16, .capacity = 5,
         .normalise = 1, .eps = 1e-5f);
    step(c, 0, &(struct step_words){.base = 2, .length = 2});
    numbers(c, 1, DTYPE_F32, 5 * 16);
    numbers(c, 2, KERNEL_CASE_STORE, 3 * 8 * 16);
    positive(c, 3, KERNEL_CASE_STORE, 16);
    positive(c, 4, KERNEL_CASE_STORE, 16);
    output(c, 5, KERNEL_CASE_STORE, 3 * 4 * 16);
    numbers(c, 6, KERNEL_CASE_STORE, 5 * 2 * 16);
    numbers(c, 7, KERNEL_CASE_STORE, 5 * 2 * 16);
}

static void token_router(struct kernel_case *c)
{
    PUSH(c, push_token_router, .k = 64, .experts = 13, .top_k = 3, .renormalise = 1,
         .inv_temperature = 0.5f, .eps = 1e-5f);
    numbers(c, 0, KERNEL_CASE_STORE, 64);
    positive(c, 1, KERNEL_CASE_STORE, 64);
    numbers(c, 2, KERNEL_CASE_STORE, 13 * 64);
    output(c, 3, DTYPE_F32, 13);
    output(c, 4, DTYPE_U32, 3);
    output(c, 5, DTYPE_F32, 3);
}

static void token_up(struct kernel_case *c)
{
    PUSH(c, push_token_moe, .experts = 5, .top_k = 2, .n = 11, .k = 64,
         .activation = ACTIVATION_SILU, .eps = 1e-5f);
    numbers(c, 0, KERNEL_CASE_STORE, 64);
    positive(c, 1, KERNEL_CASE_STORE, 64);
    words_below(c, 2, 2, 5);
    numbers(c, 3, KERNEL_CASE_STORE, 5 * 11 * 64);
    numbers(c, 4, KERNEL_CASE_STORE, 5 * 11 * 64);
    output(c, 5, KERNEL_CASE_STORE, 2 * 11);
}

static void token_down(struct kernel_case *c)
{
    PUSH(c, push_token_moe, .experts = 5, .top_k = 2, .n = 11, .k = 64);
    numbers(c, 0, KERNEL_CASE_STORE, 2 * 64);
    words_below(c, 1, 2, 5);
    positive(c, 2, DTYPE_F32, 2);
    numbers(c, 3, KERNEL_CASE_STORE, 5 * 11 * 64);
    numbers(c, 4, KERNEL_CASE_STORE, 11);
    output(c, 5, KERNEL_CASE_STORE, 11);
}

// ---- all

static kernel_case_fn *const fills[KERNEL_COUNT] = {
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
    [KERNEL_ATTENTION_MERGE] = attention_merge,
    [KERNEL_ACTIVATE] = activate,
    [KERNEL_ACTIVATE_BACK] = activate_back,
    [KERNEL_MOE_MATMUL_UP] = moe_matmul_up,
    [KERNEL_MOE_MATMUL_ACT] = moe_matmul_up,
    [KERNEL_MOE_MATMUL_NT] = moe_matmul_nt,
    [KERNEL_MOE_MATMUL_NTF] = moe_matmul_ntf,
    [KERNEL_MOE_MATMUL_NN] = moe_matmul_nn,
    [KERNEL_MOE_MATMUL_TN] = moe_matmul_tn,
    [KERNEL_MOE_COMBINE] = moe_combine,
    [KERNEL_MOE_ACTIVATE_BACK] = moe_activate_back,
    [KERNEL_LOSS] = loss,
    [KERNEL_LOSS_CAPPED] = loss,
    [KERNEL_SOFTCAP] = softcap,
    [KERNEL_MIX] = mix,
    [KERNEL_COLUMN_SUM] = column_sum,
    [KERNEL_COLUMN_SUMF] = column_sum,
    [KERNEL_SMEAR] = smear,
    [KERNEL_SMEAR_BACK_GATE] = smear_back_gate,
    [KERNEL_SUM] = sum,
    [KERNEL_GRAD_NORM] = grad_norm,
    [KERNEL_GRAD_CLIP] = grad_clip,
    [KERNEL_EXPERT_NORM] = expert_norm,
    [KERNEL_EXPERT_MOVES] = expert_moves,
    [KERNEL_EXPERT_TOUCH] = expert_touch,
    [KERNEL_EXPERT_STEPS] = expert_steps,
    [KERNEL_ADAMW] = adamw,
    [KERNEL_ADAMW_8BIT] = adamw_8bit,
    [KERNEL_AVERAGE] = average,
    [KERNEL_SGD] = sgd,
    [KERNEL_MUON_MOMENTUM] = muon_momentum,
    [KERNEL_MUON_SCALE] = muon_scale,
    [KERNEL_MUON_TABLES] = muon_tables,
    [KERNEL_MUON_MIX] = muon_mix,
    [KERNEL_MUON_UPDATE] = muon_update,
    [KERNEL_CAST] = cast,
    [KERNEL_SAMPLE] = sample,
    [KERNEL_TOKEN_LINEAR] = token_linear,
    [KERNEL_TOKEN_LINEARF] = token_linear,
    [KERNEL_HEADS] = heads,
    [KERNEL_TOKEN_ROUTER] = token_router,
    [KERNEL_TOKEN_UP] = token_up,
    [KERNEL_TOKEN_DOWN] = token_down,
};

static kernel_case_fn *fill_of(enum kernel_op op)
{
    return fills[op] ? fills[op] : kernel_case_router(op);
}

bool kernel_case_exists(enum kernel_op op) { return fill_of(op) != NULL; }

void kernel_case_fill(struct kernel_case *c) { fill_of(c->kernel->op)(c); }

// ---- on a device

static uint32_t bindings_of(const struct kernel_case *c)
{
    return (uint32_t)strlen(kernel_info(c->kernel->op)->access);
}

uint64_t kernel_case_layout(const struct kernel_case *c, uint32_t alignment,
                            uint64_t offset[GPU_MAX_BINDINGS])
{
    uint64_t end = 0;
    for (uint32_t b = 0; b < bindings_of(c); b++) {
        offset[b] = align_up(end, alignment);
        end = offset[b] + c->binding[b].bytes;
    }
    return end;
}

struct gpu_dispatch kernel_case_dispatch(const struct kernel_case *c, struct gpu_buffer *buffer,
                                         const uint64_t offset[GPU_MAX_BINDINGS])
{
    struct gpu_dispatch one = {.kernel = c->kernel->gpu, .push = c->push};
    memcpy(one.groups, c->groups, sizeof one.groups);
    if (!one.groups[0])
        kernel_info(c->kernel->op)->groups(c->push, &c->kernel->shape, one.groups);
    for (uint32_t b = 0; b < bindings_of(c); b++)
        one.bind[b] = (struct gpu_bind){buffer, offset[b], c->binding[b].bytes};
    return one;
}
