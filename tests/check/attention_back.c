// SPDX-License-Identifier: MIT
// attention_delta, attention_back_q and attention_back_kv, from the o and lse of the reference.
#include "attention.h"

#include <stdlib.h>

#include "src/ref/ref.h"

static void check_delta(struct check *t, uint32_t rows, uint32_t cols)
{
    check_begin(t, KERNEL_ATTENTION_DELTA, 0, "delta, rows %u cols %u", rows, cols);
    check_normal(t, 0, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_normal(t, 1, CHECK_STORE, (uint64_t)rows * cols, 1);
    check_output(t, 2, DTYPE_F32, rows);
    check_run(t, &(struct push_norm){.rows = rows, .cols = cols}, 1e-11);
}

// q, k, v and do in bindings 0..3; lse and delta, computed from them, in 4 and 5.
static void fill(struct check *t, const struct attention_case *c, const struct push_attention *push)
{
    const uint64_t rows = (uint64_t)c->batch * c->seq * c->heads, q = rows * c->head_dim;
    const uint64_t k = (uint64_t)c->batch * c->seq * c->kv_heads * c->head_dim;
    check_normal(t, 0, CHECK_STORE, q, c->scale);
    check_normal(t, 1, CHECK_STORE, k, c->tied ? 0 : c->scale);
    check_normal(t, 2, CHECK_STORE, k, 1);
    check_normal(t, 3, CHECK_STORE, q, 1);
    check_output(t, 4, DTYPE_F32, rows);
    check_output(t, 5, DTYPE_F32, rows);
    struct step_words step = {.length = c->seq};
    const bool within = c->documents != DOCUMENTS_NONE;
    const int begins = t->op == KERNEL_ATTENTION_BACK_Q_WITHIN ? 7 : 8;
    if (within) check_begins(t, c, begins);
    struct push_attention whole = *push;
    whole.first = whole.count = 0;
    uint8_t *o = malloc(q * dtype_bytes(t->store));
    const struct check_binding *in = t->binding;
    kernel_info(within ? KERNEL_ATTENTION_WITHIN : KERNEL_ATTENTION)->ref(&(struct gpu_ref_call){
        .buffer = {&step, in[0].initial, in[1].initial, in[2].initial, o, in[4].initial,
                   within ? in[begins].initial : NULL},
        .push = &whole, .tag = (int)t->store});
    ref_attention_delta(&(struct gpu_ref_call){
        .buffer = {o, in[3].initial, in[5].initial},
        .push = &(struct push_norm){.rows = (uint32_t)rows, .cols = c->head_dim},
        .tag = (int)t->store});
    free(o);
    // Where one key has all the probability, dp - delta is nothing but rounding: take any delta.
    const bool alone = c->seq == 1 || c->window == 1 || (within && attention_alone(t, begins));
    if (alone || c->scale > 2) check_normal(t, 5, DTYPE_F32, rows, 1);
}

static void check_one(struct check *t, bool kv, const struct attention_case *c)
{
    const enum kernel_op plain = kv ? KERNEL_ATTENTION_BACK_KV : KERNEL_ATTENTION_BACK_Q,
                         within = kv ? KERNEL_ATTENTION_BACK_KV_WITHIN
                                     : KERNEL_ATTENTION_BACK_Q_WITHIN,
                         op = c->documents == DOCUMENTS_NONE ? plain : within;
    const uint64_t q = (uint64_t)c->batch * c->seq * c->heads * c->head_dim;
    const uint64_t k = (uint64_t)c->batch * c->seq * c->kv_heads * c->head_dim;
    const struct push_attention push = attention_push(*c);
    check_begin(t, op, c->head_dim, ATTENTION_FORMAT, ATTENTION_VALUES(*c));
    if (!check_some_variant(t, &push)) return;
    fill(t, c, &push);
    check_output(t, 6, CHECK_STORE, kv ? k : q);
    if (kv) check_output(t, 7, CHECK_STORE, k);
    check_passes_before(t, &push);
    check_run(t, &push, c->scale > 2 ? 1e-6 : 1e-10);
}

static void check_shape(struct check *t, struct attention_case c)
{
    c.stride = c.seq;
    if (c.scale == 0) c.scale = 1;
    check_one(t, false, &c);
    check_one(t, true, &c);
}

static void check_all(struct check *t)
{
    static const uint32_t dims[] = {16, 33, 64, 1, 3, 128, 256};
    for (size_t i = 0; i < (t->store == DTYPE_F32 ? COUNT_OF(dims) : 3); i++)
        check_shape(t, (struct attention_case){2, 13, 13, 4, 2, dims[i]});
    static const uint32_t lengths[] = {1, 2, 3, 31, 32, 33, 97};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        check_shape(t, (struct attention_case){2, lengths[i], 0, 3, 3, 32});
        check_shape(t, (struct attention_case){1, lengths[i], 0, 6, 1, 32});
    }
    static const uint32_t windows[] = {1, 2, 7, 32, 100};
    for (size_t i = 0; i < COUNT_OF(windows); i++)
        check_shape(t, (struct attention_case){2, 50, 0, 4, 2, 32, .window = windows[i]});
    for (size_t i = 0; i < COUNT_OF(attention_passes); i++)
        for (uint32_t w = 0; w <= 21; w += 7)
            check_shape(t, (struct attention_case){1, 50, 0, 6, 2, 20, .window = w,
                                                   .first = attention_passes[i].first,
                                                   .count = attention_passes[i].count});
    for (size_t i = 0; i < COUNT_OF(attention_passes); i++)
        check_shape(t, (struct attention_case){2, 50, 0, 4, 2, i % 2 ? 64 : 20,
                                               .first = attention_passes[i].first,
                                               .count = attention_passes[i].count,
                                               .bidirectional = true});
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        check_shape(t, (struct attention_case){2, lengths[i], 0, 4, 2, 64,
                                               .bidirectional = true});
    check_shape(t, (struct attention_case){1, 40, 0, 4, 2, 64, .scale = 30});
    check_shape(t, (struct attention_case){1, 40, 0, 4, 2, 32, .tied = true});
    check_shape(t, (struct attention_case){1, 131, 0, 2, 1, 64});
}

static void check_documents(struct check *t) { attention_documents_each(t, check_shape); }

void check_attention_back(struct check *t)
{
    static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 64, 128, 256};
    for (size_t i = 0; i < COUNT_OF(cols); i++) check_delta(t, 37, cols[i]);
    check_delta(t, 1, 64);
    check_delta(t, 4096, 64);
    check_both_shapes(t, check_all);
    check_both_shapes(t, check_documents);
}
