// SPDX-License-Identifier: MIT
// attention_decode and attention_merge: one query over a cache that is filled to its position, in
// any number of parts. attention_merge runs on what the reference of attention_decode wrote.
#include "attention.h"

#include <stdlib.h>

#include "src/kernel_attention.h"
#include "src/ref/ref.h"

static double tolerance(const struct attention_case *c) { return c->scale > 2 ? 1e-7 : 1e-10; }

static void fill(struct check *t, const struct attention_case *c)
{
    const uint64_t q = (uint64_t)c->heads * c->head_dim, row = (uint64_t)c->kv_heads * c->head_dim;
    const uint64_t k = c->stride * row;
    check_step(t, 0, &(struct step_words){.base = c->base, .length = 1});
    check_normal(t, 1, CHECK_STORE, q, c->scale);
    check_normal(t, 2, CHECK_STORE, k, c->tied ? 0 : c->scale);
    check_normal(t, 3, CHECK_STORE, k, 1);
    for (uint64_t i = (c->base + 1) * row; i < k; i++) { // never written
        dtype_store(t->binding[2].initial, i, t->store, (double)NAN);
        dtype_store(t->binding[3].initial, i, t->store, (double)NAN);
    }
    check_output(t, 4, CHECK_STORE, q);
    check_output(t, 5, DTYPE_F32, q * c->parts);
    check_output(t, 6, DTYPE_F32, (uint64_t)c->heads * c->parts * 2);
}

// The parts that the reference makes of the case that is filled in, merged on the device: the same
// as one part alone.
static void check_merge(struct check *t, const struct attention_case *c)
{
    struct push_attention push = attention_push(*c);
    const uint64_t q = (uint64_t)c->heads * c->head_dim;
    struct check_binding *in = t->binding;
    struct gpu_ref_call call = {.push = &push, .tag = (int)t->store};
    for (int b = 0; b < 7; b++) call.buffer[b] = in[b].initial;
    ref_attention_decode(&call);
    float *part = malloc(in[5].bytes), *sum = malloc(in[6].bytes);
    double *whole = malloc(q * sizeof *whole);
    memcpy(part, in[5].initial, in[5].bytes);
    memcpy(sum, in[6].initial, in[6].bytes);
    push.parts = 1;
    ref_attention_decode(&call);
    for (uint64_t i = 0; i < q; i++) whole[i] = dtype_load(in[4].initial, i, t->store);
    push.parts = c->parts;
    check_begin(t, KERNEL_ATTENTION_MERGE, c->head_dim, ATTENTION_FORMAT, ATTENTION_VALUES(*c));
    check_step(t, 0, &(struct step_words){.base = c->base, .length = 1});
    check_words(t, 1, (const uint32_t *)part, q * c->parts);
    check_words(t, 2, (const uint32_t *)sum, (uint64_t)c->heads * c->parts * 2);
    check_output(t, 3, CHECK_STORE, q);
    double error = 0, square = 0;
    if (check_run(t, &push, tolerance(c)))
        for (uint64_t i = 0; i < q; i++) {
            const double x = dtype_load(check_result(t, 3), i, t->store);
            error += (x - whole[i]) * (x - whole[i]);
            square += whole[i] * whole[i];
        }
    if (!(error <= 2e-5 * square)) check_fail(t, "%g off one part alone", error / square);
    free(part);
    free(sum);
    free(whole);
}

static void check_shape(struct check *t, struct attention_case c)
{
    if (c.scale == 0) c.scale = 1;
    if (c.parts == 0) c.parts = 1;
    const struct push_attention push = attention_push(c);
    check_begin(t, KERNEL_ATTENTION_DECODE, c.head_dim, ATTENTION_FORMAT,
                ATTENTION_VALUES(c));
    if (!check_some_variant(t, &push)) return;
    fill(t, &c);
    check_run(t, &push, tolerance(&c));
    if (c.parts > 1) check_merge(t, &c);
}

// Every length of a cache, with as many parts as the device wants, and with more.
static void check_lengths(struct check *t)
{
    enum { CAPACITY = 131 };
    struct attention_case c = {1, 1, CAPACITY, 6, 2, 20};
    const struct push_attention push = attention_push(c);
    for (c.base = 0; c.base < CAPACITY; c.base++) {
        c.parts = c.base % 2 ? kernel_decode_parts(&t->gpu->caps, &push) : 1 + c.base % 7;
        c.window = c.base % 3 ? 0 : 70;
        check_shape(t, c);
    }
}

static void check_all(struct check *t)
{
    static const uint32_t dims[] = {16, 33, 64, 1, 3, 128, 256};
    for (size_t i = 0; i < (t->store == DTYPE_F32 ? COUNT_OF(dims) : 3); i++) {
        check_shape(t, (struct attention_case){1, 1, 140, 8, 2, dims[i], .base = 129, .parts = 3});
        check_shape(t, (struct attention_case){1, 1, 40, 4, 2, dims[i], .base = 22});
    }
    static const uint32_t bases[] = {0, 1, 2, 31, 32, 63, 64, 96, 127};
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        const uint32_t base = bases[i];
        check_shape(t, (struct attention_case){1, 1, 128, 3, 3, 32, .base = base});
        check_shape(t, (struct attention_case){1, 1, 128, 8, 1, 64, .base = base, .parts = 2});
        check_shape(t, (struct attention_case){1, 1, 128, 20, 2, 32, .base = base, .parts = 9});
        check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 32, .base = base, .window = 1});
        check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 32, .base = base, .window = 33});
    }
    static const uint32_t groups[] = {1, 2, 3, 5, 8, 12, 16, 17};
    for (size_t i = 0; i < COUNT_OF(groups); i++)
        check_shape(t, (struct attention_case){1, 1, 96, 2 * groups[i], 2, 32, .base = 90,
                                               .parts = 2});
    check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 64, .base = 100, .scale = 30});
    check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 64, .base = 100, .scale = 30,
                                           .parts = 2});
    check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 64, .base = 100, .tied = true});
    check_shape(t, (struct attention_case){1, 1, 1024, 2, 1, 64, .base = 1023, .parts = 16});
    check_shape(t, (struct attention_case){1, 1, 8, 2, 1, 64, .base = 9}); // past the capacity
    check_lengths(t);
}

void check_attention_decode(struct check *t) { check_both_shapes(t, check_all); }
