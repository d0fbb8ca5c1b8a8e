// SPDX-License-Identifier: MIT
// The kernels of the benchmark that are no matmul: every other row of the kernel table at the
// shapes of real models (bench_shapes.c); those of the update are in bench_update.c.
#include <math.h>
#include <stdlib.h>

#include "src/kernel_attention.h"
#include "tools/bench_kernels.h"

bool at_begin(struct bench_case *c, const struct at *at, const char *family, enum kernel_op op,
              uint32_t rows, const void *push, const char *shape, ...)
{
    char text[64];
    va_list args;
    va_start(args, shape);
    vsnprintf(text, sizeof text, shape, args);
    va_end(args);
    return bench_case_begin(c, at->bench,
                            &(struct bench_case_params){.level = at->level,
                                                        .family = family,
                                                        .model = at->shape->name,
                                                        .op = op,
                                                        .store = at->store,
                                                        .rows = rows,
                                                        .push = push},
                            "%s", text);
}

uint32_t at_words(struct bench_case *c, const struct step_words *words)
{
    return bench_case_words(c, words, sizeof *words / 4);
}

// ids[i] = first + i % modulus, for inputs that must be valid indices
static uint32_t counting_words(struct bench_case *c, uint32_t count, uint32_t modulus)
{
    uint32_t *words = arena_array(c->bench->arena, count, sizeof *words);
    for (uint32_t i = 0; i < count; i++) words[i] = i % modulus;
    return bench_case_words(c, words, count);
}

uint32_t at_constant(struct bench_case *c, uint64_t count, float value)
{
    float *values = arena_array(c->bench->arena, count, sizeof *values);
    for (uint64_t i = 0; i < count; i++) values[i] = value;
    return bench_case_words(c, values, count);
}

// ---- embedding

static bool embed(const struct at *at)
{
    const struct push_embed push = {at->tokens, at->shape->hidden, at->shape->vocab};
    struct bench_case c;
    if (!at_begin(&c, at, "embed", KERNEL_EMBED, 0, &push, "%ux%u", push.rows, push.cols))
        return true;
    const uint32_t ids = counting_words(&c, push.rows, push.vocab);
    const uint32_t table = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.vocab * push.cols, 1);
    const uint32_t x = bench_case_zero(&c, BENCH_STORE, (uint64_t)push.rows * push.cols);
    bench_case_step(&c, BENCH_BIND(ids, table, x), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool embed_back(const struct at *at)
{
    const struct push_embed push = {at->tokens, at->shape->hidden, at->shape->vocab};
    struct bench_case c;
    if (!at_begin(&c, at, "embed", KERNEL_EMBED_BACK, 0, &push, "%ux%u", push.rows, push.cols))
        return true;
    const uint32_t segments = min_u32(push.rows / 2, push.vocab - 4);
    uint32_t *first = arena_array(at->bench->arena, push.rows + 1, sizeof *first);
    for (uint32_t i = 0; i <= segments; i++)
        first[i] = (uint32_t)((uint64_t)i * push.rows / segments);
    const uint32_t step = at_words(&c, &(struct step_words){.segments = segments});
    const uint32_t order = counting_words(&c, push.rows, push.rows);
    const uint32_t segment_begin = bench_case_words(&c, first, push.rows + 1);
    const uint32_t segment_id = counting_words(&c, push.rows, push.vocab);
    const uint32_t dx = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.rows * push.cols, 1e-3);
    const uint32_t dtable = bench_case_zero(&c, DTYPE_F32, (uint64_t)push.vocab * push.cols);
    bench_case_step(&c, BENCH_BIND(step, order, segment_begin, segment_id, dx, dtable),
                    BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool select_row(const struct at *at)
{
    const struct push_embed push = {64, at->shape->hidden, 0};
    struct bench_case c;
    if (!at_begin(&c, at, "embed", KERNEL_SELECT_ROW, 0, &push, "%ux%u", push.rows, push.cols))
        return true;
    const uint32_t step = at_words(&c, &(struct step_words){.length = push.rows});
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.rows * push.cols, 1);
    const uint32_t y = bench_case_zero(&c, BENCH_STORE, push.cols);
    bench_case_step(&c, BENCH_BIND(step, x, y), BENCH_DIRECT);
    return bench_case_run(&c);
}

// ---- norm

static bool norm_case(const struct at *at, enum kernel_op op, uint32_t rows)
{
    const struct push_norm push = {rows, at->shape->hidden, op == KERNEL_NORM_BACK, 1e-5f};
    const uint64_t count = (uint64_t)rows * push.cols;
    struct bench_case c;
    if (!at_begin(&c, at, "norm", op, 0, &push, "%ux%u", rows, push.cols)) return true;
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, count, 1);
    const uint32_t rstd = at_constant(&c, rows, 1);
    const uint32_t weight = bench_case_normal(&c, BENCH_STORE, push.cols, 1);
    if (op == KERNEL_NORM) {
        const uint32_t y = bench_case_zero(&c, BENCH_STORE, count);
        bench_case_step(&c, BENCH_BIND(x, weight, y, rstd), BENCH_DIRECT);
        return bench_case_run(&c);
    }
    const uint32_t dy = bench_case_normal(&c, BENCH_STORE, count, 1e-4);
    const uint32_t dx = bench_case_zero(&c, BENCH_STORE, count),
                   dweight = bench_case_zero(&c, DTYPE_F32, push.cols);
    if (op == KERNEL_NORM_BACK)
        bench_case_step(&c, BENCH_BIND(x, weight, rstd, dy, dx), BENCH_DIRECT);
    else bench_case_step(&c, BENCH_BIND(x, rstd, dy, dweight), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool norm(const struct at *at) { return norm_case(at, KERNEL_NORM, at->tokens); }
static bool norm_one(const struct at *at) { return norm_case(at, KERNEL_NORM, 1); }
static bool norm_back(const struct at *at) { return norm_case(at, KERNEL_NORM_BACK, at->tokens); }
static bool norm_back_weight(const struct at *at)
{
    return norm_case(at, KERNEL_NORM_BACK_WEIGHT, at->tokens);
}

// ---- attention

static bool rope(const struct at *at)
{
    const struct bench_model *s = at->shape;
    const struct push_rope push = {.tokens = at->tokens,
                                   .heads = s->heads,
                                   .head_dim = s->head_dim,
                                   .seq = s->seq};
    struct bench_case c;
    if (!at_begin(&c, at, "rope", KERNEL_ROPE, 0, &push, "T%u h%u d%u", push.tokens, push.heads,
                  push.head_dim))
        return true;
    const uint32_t count = push.tokens * push.heads * push.head_dim;
    const uint32_t step = at_words(&c, &(struct step_words){0});
    const uint32_t table = at_constant(&c, (uint64_t)s->context * s->head_dim, 0.7071f);
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, count, 1);
    const uint32_t y = bench_case_zero(&c, BENCH_STORE, count);
    bench_case_step(&c, BENCH_BIND(step, table, x, y), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool cache_write(const struct at *at)
{
    const struct bench_model *s = at->shape;
    const struct push_cache_write push = {64, s->kv_heads * s->head_dim, s->context};
    struct bench_case c;
    if (!at_begin(&c, at, "rope", KERNEL_CACHE_WRITE, 0, &push, "%ux%u", push.rows, push.cols))
        return true;
    const uint32_t step = at_words(&c, &(struct step_words){.base = 64, .length = push.rows});
    const uint32_t x = bench_case_normal(&c, BENCH_STORE, push.rows * push.cols, 1);
    const uint32_t cache = bench_case_zero(&c, BENCH_STORE, push.capacity * push.cols);
    bench_case_step(&c, BENCH_BIND(step, x, cache), BENCH_DIRECT);
    return bench_case_run(&c);
}

static struct push_attention attention_push(const struct bench_model *s)
{
    return (struct push_attention){.batch = s->batch,
                                   .seq = s->seq,
                                   .stride = s->seq,
                                   .heads = s->heads,
                                   .kv_heads = s->kv_heads,
                                   .head_dim = s->head_dim,
                                   .scale = (float)(1 / sqrt((double)s->head_dim))};
}

static bool attention_begin(struct bench_case *c, const struct at *at, enum kernel_op op,
                            const struct push_attention *push)
{
    return at_begin(c, at, "attention", op, push->head_dim, push, "B%u S%u h%u kv%u d%u",
                    push->batch, push->seq, push->heads, push->kv_heads, push->head_dim);
}

static bool attention(const struct at *at)
{
    const struct push_attention push = attention_push(at->shape);
    const uint64_t q_count = (uint64_t)at->tokens * push.heads * push.head_dim;
    const uint64_t kv_count = (uint64_t)at->tokens * push.kv_heads * push.head_dim;
    struct bench_case c;
    if (!attention_begin(&c, at, KERNEL_ATTENTION, &push)) return true;
    const uint32_t step = at_words(&c, &(struct step_words){.length = at->tokens});
    const uint32_t q = bench_case_normal(&c, BENCH_STORE, q_count, 1);
    const uint32_t k = bench_case_normal(&c, BENCH_STORE, kv_count, 1),
                   v = bench_case_normal(&c, BENCH_STORE, kv_count, 1);
    const uint32_t o = bench_case_zero(&c, BENCH_STORE, q_count);
    const uint32_t lse = bench_case_zero(&c, DTYPE_F32, (uint64_t)at->tokens * push.heads);
    bench_case_step(&c, BENCH_BIND(step, q, k, v, o, lse), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool attention_back(const struct at *at, enum kernel_op op)
{
    const struct push_attention push = attention_push(at->shape);
    const uint64_t q_count = (uint64_t)at->tokens * push.heads * push.head_dim;
    const uint64_t kv_count = (uint64_t)at->tokens * push.kv_heads * push.head_dim;
    struct bench_case c;
    if (!attention_begin(&c, at, op, &push)) return true;
    const uint32_t q = bench_case_normal(&c, BENCH_STORE, q_count, 1);
    const uint32_t k = bench_case_normal(&c, BENCH_STORE, kv_count, 1),
                   v = bench_case_normal(&c, BENCH_STORE, kv_count, 1);
    const uint32_t d_o = bench_case_normal(&c, BENCH_STORE, q_count, 1e-3);
    const uint32_t lse = at_constant(&c, (uint64_t)at->tokens * push.heads, logf((float)push.seq));
    const uint32_t delta = at_constant(&c, (uint64_t)at->tokens * push.heads, 0);
    const uint32_t dq = bench_case_zero(&c, BENCH_STORE, q_count),
                   dk = bench_case_zero(&c, BENCH_STORE, kv_count);
    const uint32_t dv = bench_case_zero(&c, BENCH_STORE, kv_count);
    if (op == KERNEL_ATTENTION_BACK_Q)
        bench_case_step(&c, BENCH_BIND(q, k, v, d_o, lse, delta, dq), BENCH_DIRECT);
    else bench_case_step(&c, BENCH_BIND(q, k, v, d_o, lse, delta, dk, dv), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool attention_back_q(const struct at *at)
{
    return attention_back(at, KERNEL_ATTENTION_BACK_Q);
}
static bool attention_back_kv(const struct at *at)
{
    return attention_back(at, KERNEL_ATTENTION_BACK_KV);
}

static bool attention_delta(const struct at *at)
{
    const struct push_norm push = {.rows = at->tokens * at->shape->heads,
                                   .cols = at->shape->head_dim};
    const uint64_t count = (uint64_t)push.rows * push.cols;
    struct bench_case c;
    if (!at_begin(&c, at, "attention", KERNEL_ATTENTION_DELTA, 0, &push, "%ux%u", push.rows,
                  push.cols))
        return true;
    const uint32_t o = bench_case_normal(&c, BENCH_STORE, count, 1),
                   d_o = bench_case_normal(&c, BENCH_STORE, count, 1);
    const uint32_t delta = bench_case_zero(&c, DTYPE_F32, push.rows);
    bench_case_step(&c, BENCH_BIND(o, d_o, delta), BENCH_DIRECT);
    return bench_case_run(&c);
}

// a token over a full cache, with what merges its parts
static bool attention_decode_case(const struct at *at, uint32_t context)
{
    struct push_attention push = attention_push(at->shape);
    push.batch = push.seq = 1;
    push.stride = context;
    push.parts = kernel_decode_parts(&at->bench->gpu->caps, &push);
    const uint32_t q_count = push.heads * push.head_dim;
    const uint64_t kv_count = (uint64_t)push.stride * push.kv_heads * push.head_dim;
    struct bench_case c;
    if (!at_begin(&c, at, "attention", KERNEL_ATTENTION_DECODE, push.head_dim, &push,
                  "S%u h%u kv%u d%u", push.stride, push.heads, push.kv_heads, push.head_dim))
        return true;
    const uint32_t step =
        at_words(&c, &(struct step_words){.base = push.stride - 1, .length = 1});
    const uint32_t q = bench_case_normal(&c, BENCH_STORE, q_count, 1);
    const uint32_t k = bench_case_normal(&c, BENCH_STORE, kv_count, 1),
                   v = bench_case_normal(&c, BENCH_STORE, kv_count, 1);
    const uint32_t o = bench_case_zero(&c, BENCH_STORE, q_count),
                   part = bench_case_zero(&c, DTYPE_F32, (uint64_t)q_count * push.parts),
                   sum = bench_case_zero(&c, DTYPE_F32, 2ull * push.heads * push.parts);
    bench_case_step(&c, BENCH_BIND(step, q, k, v, o, part, sum), BENCH_DIRECT);
    if (push.parts > 1)
        bench_case_step_of(&c, KERNEL_ATTENTION_MERGE, &push, BENCH_BIND(step, part, sum, o));
    return bench_case_run(&c);
}

static bool attention_decode(const struct at *at)
{
    return attention_decode_case(at, at->shape->context);
}

static bool attention_decode_long(const struct at *at) { return attention_decode_case(at, 16384); }

// ---- feed-forward

static bool activate_case(const struct at *at, enum kernel_op op)
{
    const struct push_activate push = {at->tokens * at->shape->top_k * at->shape->inner,
                                       ACTIVATION_SILU, 1};
    struct bench_case c;
    if (!at_begin(&c, at, "activate", op, 0, &push, "%ux%u", at->tokens * at->shape->top_k,
                  at->shape->inner))
        return true;
    const uint32_t gate = bench_case_normal(&c, BENCH_STORE, push.count, 1);
    const uint32_t up = bench_case_normal(&c, BENCH_STORE, push.count, 1);
    const uint32_t h = bench_case_normal(&c, BENCH_STORE, push.count, 1e-3);
    bench_case_step(&c, BENCH_BIND(gate, up, h), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool activate(const struct at *at) { return activate_case(at, KERNEL_ACTIVATE); }
static bool activate_back(const struct at *at) { return activate_case(at, KERNEL_ACTIVATE_BACK); }

// ---- router: every expert gets the same number of tokens

static struct push_router router_push(const struct at *at)
{
    return (struct push_router){.tokens = at->tokens,
                                .experts = at->shape->experts,
                                .top_k = at->shape->top_k,
                                .renormalise = 1,
                                .inv_temperature = 1,
                                .scale = 1,
                                .z_coef = 0.001f};
}

static bool router_begin(struct bench_case *c, const struct at *at, enum kernel_op op,
                         const struct push_router *push)
{
    return at_begin(c, at, "router", op, 0, push, "E%u k%u T%u", push->experts, push->top_k,
                    push->tokens);
}

static bool router(const struct at *at)
{
    const struct push_router push = router_push(at);
    const uint64_t scores = (uint64_t)push.tokens * push.experts,
                   pairs = (uint64_t)push.tokens * push.top_k;
    struct bench_case c;
    if (!router_begin(&c, at, KERNEL_ROUTER, &push)) return true;
    const uint32_t logits = bench_case_normal(&c, DTYPE_F32, scores, 1),
                   probs = bench_case_zero(&c, DTYPE_F32, scores);
    const uint32_t ids = bench_case_zero(&c, DTYPE_U32, pairs),
                   gates = bench_case_zero(&c, DTYPE_F32, pairs);
    const uint32_t lse = bench_case_zero(&c, DTYPE_F32, push.tokens);
    bench_case_step(&c, BENCH_BIND(logits, probs, ids, gates, lse), BENCH_DIRECT);
    return bench_case_run(&c);
}

static uint32_t even_offsets(struct bench_case *c, const struct push_router *push)
{
    uint32_t *offsets = arena_array(c->bench->arena, push->experts + 1, sizeof *offsets);
    for (uint32_t e = 0; e <= push->experts; e++)
        offsets[e] = e * (push->tokens * push->top_k / push->experts);
    return bench_case_words(c, offsets, push->experts + 1);
}

static bool router_back(const struct at *at)
{
    const struct push_router push = router_push(at);
    const uint32_t scores = push.tokens * push.experts, pairs = push.tokens * push.top_k;
    struct bench_case c;
    if (!router_begin(&c, at, KERNEL_ROUTER_BACK, &push)) return true;
    const uint32_t probs = at_constant(&c, scores, 1.0f / (float)push.experts),
                   ids = counting_words(&c, pairs, push.experts);
    const uint32_t dgates = bench_case_normal(&c, DTYPE_F32, pairs, 1e-3),
                   lse = at_constant(&c, push.tokens, 1),
                   slope = at_constant(&c, 2 * push.experts, 0.01f);
    const uint32_t step = at_words(&c, &(struct step_words){.aux_scale = 1});
    const uint32_t dlogits = bench_case_zero(&c, BENCH_STORE, scores);
    bench_case_step(&c, BENCH_BIND(probs, ids, dgates, lse, slope, step, probs, dlogits),
                    BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool router_stats(const struct at *at)
{
    const struct push_router push = router_push(at);
    struct bench_case c;
    if (!router_begin(&c, at, KERNEL_ROUTER_STATS, &push)) return true;
    const uint32_t probs =
        at_constant(&c, (uint64_t)push.tokens * push.experts, 1.0f / (float)push.experts);
    const uint32_t offsets = even_offsets(&c, &push);
    const uint32_t lse = at_constant(&c, push.tokens, 1);
    const uint32_t stats = bench_case_zero(&c, DTYPE_F32,
                                           ROUTER_STATS_HEAD + 3 * (uint64_t)push.experts),
                   sums = bench_case_zero(&c, DTYPE_F32, push.experts);
    bench_case_step(&c, BENCH_BIND(probs, offsets, lse, probs, stats, sums), BENCH_DIRECT);
    return bench_case_run(&c);
}

// ---- loss, sampling

static bool loss(const struct at *at)
{
    const struct push_loss push = {at->shape->logit_rows, at->shape->vocab, 1};
    struct bench_case c;
    if (!at_begin(&c, at, "loss", KERNEL_LOSS, 0, &push, "%ux%u", push.rows, push.vocab))
        return true;
    const uint32_t step = at_words(&c, &(struct step_words){.loss_scale = 1 / (float)push.rows});
    const uint32_t logits = bench_case_normal(&c, BENCH_STORE, (uint64_t)push.rows * push.vocab, 1);
    const uint32_t targets = counting_words(&c, push.rows, push.vocab),
                   losses = bench_case_zero(&c, DTYPE_F32, push.rows);
    bench_case_step(&c, BENCH_BIND(step, logits, targets, losses), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool sum(const struct at *at)
{
    const struct push_sum push = {.count = at->tokens};
    struct bench_case c;
    if (!at_begin(&c, at, "loss", KERNEL_SUM, 0, &push, "%u", push.count)) return true;
    const uint32_t x = bench_case_normal(&c, DTYPE_F32, push.count, 1),
                   out = bench_case_zero(&c, DTYPE_F32, 1);
    bench_case_step(&c, BENCH_BIND(x, out), BENCH_DIRECT);
    return bench_case_run(&c);
}

static bool sample(const struct at *at)
{
    const struct push_loss push = {.rows = 1, .vocab = at->shape->vocab};
    struct bench_case c;
    if (!at_begin(&c, at, "sample", KERNEL_SAMPLE, 0, &push, "%u", push.vocab)) return true;
    const uint32_t step = at_words(&c, &(struct step_words){.length = 1,
                                                              .temperature = 0.8f,
                                                              .top_k = 40,
                                                              .top_p = 0.95f,
                                                              .repetition_penalty = 1.1f});
    const uint32_t logits = bench_case_normal(&c, DTYPE_F32, push.vocab, 2),
                   seen = bench_case_zero(&c, DTYPE_U32, push.vocab);
    const uint32_t token = bench_case_zero(&c, DTYPE_U32, 2);
    bench_case_step(&c, BENCH_BIND(step, logits, seen, token), BENCH_DIRECT);
    return bench_case_run(&c);
}

// ---- the list

static const struct { bench_kernel *run; bool f32_only; } kernels[] = {
    {embed},
    {embed_back},
    {select_row},
    {norm},
    {norm_one},
    {norm_back},
    {norm_back_weight},
    {rope},
    {cache_write},
    {attention},
    {attention_delta},
    {attention_back_q},
    {attention_back_kv},
    {attention_decode},
    {attention_decode_long},
    {activate},
    {activate_back},
    {router, true},
    {router_back},
    {router_stats, true},
    {loss},
    {sum, true},
    {bench_grad_norm, true},
    {bench_grad_clip, true},
    {bench_adamw},
    {bench_adamw_8bit},
    {bench_adamw_stochastic},
    {bench_adamw_8bit_stochastic},
    {bench_average, true},
    {bench_cast},
    {sample, true},
};

bool bench_kernels(struct bench *bench)
{
    for (size_t i = 0; i < COUNT_OF(kernels); i++)
        for (size_t m = 0; m < BENCH_MODELS; m++)
            for (enum dtype store = DTYPE_F32; store <= DTYPE_F16; store++) {
                const struct bench_model *model = &bench_models[m];
                const struct at at = {.bench = bench, .shape = model, .store = store,
                                      .level = bench_level_of(model->level, store),
                                      .tokens = model->batch * model->seq};
                if (store != DTYPE_F32 && kernels[i].f32_only) continue;
                if (!kernels[i].run(&at)) return false;
            }
    return true;
}
