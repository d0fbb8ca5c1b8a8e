// SPDX-License-Identifier: MIT
// attention_decode: one query over a cache that is filled to its position.
#include "attention.h"

static void check_shape(struct check *t, struct attention_case c)
{
    if (c.scale == 0) c.scale = 1;
    const uint64_t q = (uint64_t)c.heads * c.head_dim, row = (uint64_t)c.kv_heads * c.head_dim;
    const uint64_t k = c.stride * row;
    check_begin(t, KERNEL_ATTENTION_DECODE, c.head_dim, ATTENTION_FORMAT, ATTENTION_VALUES(c));
    check_step(t, 0, &(struct step_words){.base = c.base, .length = 1});
    check_normal(t, 1, CHECK_STORE, q, c.scale);
    check_normal(t, 2, CHECK_STORE, k, c.tied ? 0 : c.scale);
    check_normal(t, 3, CHECK_STORE, k, 1);
    for (uint64_t i = (c.base + 1) * row; i < k; i++) { // never written
        dtype_store(t->binding[2].initial, i, t->store, (double)NAN);
        dtype_store(t->binding[3].initial, i, t->store, (double)NAN);
    }
    check_output(t, 4, CHECK_STORE, q);
    const struct push_attention push = attention_push(c);
    check_run(t, &push, c.scale > 2 ? 1e-7 : 1e-10);
}

static void check_all(struct check *t)
{
    static const uint32_t dims[] = {16, 33, 64, 1, 3, 128, 256};
    for (size_t i = 0; i < (t->store == DTYPE_F32 ? COUNT_OF(dims) : 3); i++)
        check_shape(t, (struct attention_case){1, 1, 40, 4, 2, dims[i], .base = 22});
    static const uint32_t bases[] = {0, 1, 2, 31, 32, 63, 96, 127};
    for (size_t i = 0; i < COUNT_OF(bases); i++) {
        const uint32_t base = bases[i];
        check_shape(t, (struct attention_case){1, 1, 128, 3, 3, 32, .base = base});
        check_shape(t, (struct attention_case){1, 1, 128, 8, 1, 64, .base = base});
        check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 32, .base = base, .window = 1});
        check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 32, .base = base, .window = 33});
    }
    check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 64, .base = 100, .scale = 30});
    check_shape(t, (struct attention_case){1, 1, 128, 4, 2, 64, .base = 100, .tied = true});
    check_shape(t, (struct attention_case){1, 1, 1024, 2, 1, 64, .base = 1023});
}

void check_attention_decode(struct check *t) { check_both_shapes(t, check_all); }
