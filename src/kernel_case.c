// SPDX-License-Identifier: MIT
// A case for every operation: ragged edges, every branch that a real call takes, inputs from the
// counter-based generator. Here those that the files of a family (kernel_case_fill.h) have not, and
// what finds a case and lays it out on a device.
#include "src/kernel_case.h"

#include <math.h>

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

// Of two sequences of three rows, the second of which begins with a document of one.
static void smear_begins(struct kernel_case *c, uint32_t b)
{
    static const uint32_t begins[] = {0, 0, 0, 0, 1, 1};
    memcpy(words(c, b, COUNT_OF(begins)), begins, sizeof begins);
}

static void smear_back_gate(struct kernel_case *c)
{
    PUSH(c, push_smear, .rows = 6, .cols = 75, .seq = 3);
    numbers(c, 0, KERNEL_CASE_STORE, 6 * 75);
    numbers(c, 1, KERNEL_CASE_STORE, 75);
    numbers(c, 2, KERNEL_CASE_STORE, 6 * 75);
    numbers(c, 3, DTYPE_F32, 75);
}

static void smear_within(struct kernel_case *c)
{
    smear(c);
    smear_begins(c, 3);
}

static void smear_back_gate_within(struct kernel_case *c)
{
    smear_back_gate(c);
    smear_begins(c, 4);
}

static void cast(struct kernel_case *c)
{
    PUSH(c, push_count, .count = 309);
    numbers(c, 0, DTYPE_F32, 309);
    output(c, 1, KERNEL_CASE_STORE, 309);
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

// Documents of two, one and two tokens.
static const uint32_t *attention_begins(struct kernel_case *c, uint32_t b)
{
    static const uint32_t begins[] = {0, 0, 2, 3, 3};
    return memcpy(words(c, b, COUNT_OF(begins)), begins, sizeof begins);
}

static void attention_within(struct kernel_case *c)
{
    attention(c);
    attention_begins(c, 6);
}

static void attention_delta(struct kernel_case *c)
{
    PUSH(c, push_norm, .rows = 21, .cols = 37);
    numbers(c, 0, KERNEL_CASE_STORE, 21 * 37);
    numbers(c, 1, KERNEL_CASE_STORE, 21 * 37);
    output(c, 2, DTYPE_F32, 21);
}

// The log-sum-exp of the scores, from the reference of the forward.
static void reference_lse(struct kernel_case *c, uint64_t q, const uint32_t *begins)
{
    static const struct step_words start;
    struct gpu_ref_call forward = {.push = c->push, .tag = (int)c->kernel->store};
    void *o = arena_alloc(c->arena, (size_t)q * 4);
    void *const buffers[] = {(void *)(uintptr_t)&start, c->binding[0].data, c->binding[1].data,
                             c->binding[2].data, o, c->binding[4].data,
                             (void *)(uintptr_t)begins};
    memcpy(forward.buffer, buffers, sizeof buffers);
    if (begins) ref_attention_within(&forward);
    else ref_attention(&forward);
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
    const enum kernel_op op = kernel_plain_of(c->kernel->op);
    const bool to_q = op == KERNEL_ATTENTION_BACK_Q;
    output(c, 6, KERNEL_CASE_STORE, to_q ? q : kv);
    if (!to_q) output(c, 7, KERNEL_CASE_STORE, kv);
    const bool within = op != c->kernel->op;
    const uint32_t *const begins = within ? attention_begins(c, to_q ? 7 : 8) : NULL;
    if (!c->size.rows) reference_lse(c, q, begins);
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

// ---- rows of experts

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

// ---- loss, sampling

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
    [KERNEL_ROPE] = rope,
    [KERNEL_CACHE_WRITE] = cache_write,
    [KERNEL_SELECT_ROW] = select_row,
    [KERNEL_ATTENTION] = attention,
    [KERNEL_ATTENTION_DELTA] = attention_delta,
    [KERNEL_ATTENTION_BACK_Q] = attention_back,
    [KERNEL_ATTENTION_BACK_KV] = attention_back,
    [KERNEL_ATTENTION_WITHIN] = attention_within,
    [KERNEL_ATTENTION_BACK_Q_WITHIN] = attention_back,
    [KERNEL_ATTENTION_BACK_KV_WITHIN] = attention_back,
    [KERNEL_ATTENTION_DECODE] = attention_decode,
    [KERNEL_ATTENTION_MERGE] = attention_merge,
    [KERNEL_ACTIVATE] = activate,
    [KERNEL_ACTIVATE_BACK] = activate_back,
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
    [KERNEL_SMEAR_WITHIN] = smear_within,
    [KERNEL_SMEAR_BACK_GATE_WITHIN] = smear_back_gate_within,
    [KERNEL_SUM] = sum,
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
    kernel_case_fn *const others[] = {kernel_case_matmul(op), kernel_case_router(op),
                                      kernel_case_optimizer(op)};
    kernel_case_fn *found = fills[op];
    for (size_t i = 0; !found && i < COUNT_OF(others); i++) found = others[i];
    return found;
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
