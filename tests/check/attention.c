// SPDX-License-Identifier: MIT
// attention: odd head sizes, grouped heads, windows, cache prefill, large and tied scores, in the
// shape of CPU drivers and in that of GPUs; the same within documents.
#include "attention.h"

#include <math.h>

static void check_shape(struct check *t, struct attention_case c)
{
    if (c.scale == 0) c.scale = 1;
    const uint64_t q = (uint64_t)c.batch * c.seq * c.heads;
    const uint64_t k = (uint64_t)c.batch * c.stride * c.kv_heads;
    const bool within = c.documents != DOCUMENTS_NONE;
    check_begin(t, within ? KERNEL_ATTENTION_WITHIN : KERNEL_ATTENTION, c.head_dim,
                ATTENTION_FORMAT, ATTENTION_VALUES(c));
    const struct push_attention push = attention_push(c);
    if (!check_some_variant(t, &push)) return;
    check_step(t, 0, &(struct step_words){.base = c.base, .length = c.length});
    check_normal(t, 1, CHECK_STORE, q * c.head_dim, c.scale);
    check_normal(t, 2, CHECK_STORE, k * c.head_dim, c.tied ? 0 : c.scale);
    check_normal(t, 3, CHECK_STORE, k * c.head_dim, 1);
    check_output(t, 4, CHECK_STORE, q * c.head_dim);
    check_output(t, 5, DTYPE_F32, q);
    if (within) check_begins(t, &c, 6);
    check_passes_before(t, &push);
    // an exponent of n has lost log2(n) bits before exp sees it
    check_run(t, &push, c.scale > 2 ? 1e-7 : 1e-10);
}

static void check_all(struct check *t)
{
    static const uint32_t dims[] = {16, 33, 64, 1, 3, 20, 128, 256};
    for (size_t i = 0; i < (t->store == DTYPE_F32 ? COUNT_OF(dims) : 3); i++)
        check_shape(t, (struct attention_case){2, 13, 13, 4, 2, dims[i]});
    static const uint32_t lengths[] = {1, 2, 3, 31, 32, 33, 97};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        const uint32_t n = lengths[i];
        check_shape(t, (struct attention_case){2, n, n, 3, 3, 32});
        check_shape(t, (struct attention_case){1, n, n, 6, 1, 32});
        check_shape(t, (struct attention_case){1, n, 160, 4, 2, 32, .base = 61});
    }
    static const uint32_t windows[] = {1, 2, 7, 32, 100};
    for (size_t i = 0; i < COUNT_OF(windows); i++) {
        const uint32_t w = windows[i];
        check_shape(t, (struct attention_case){2, 50, 50, 4, 2, 32, .window = w});
        check_shape(t, (struct attention_case){1, 9, 80, 4, 2, 32, .window = w, .base = 40});
    }
    // the last tile of keys is of the second half of a tile of rows, which begin as far apart
    check_shape(t, (struct attention_case){2, 97, 97, 4, 2, 64, .window = 27});
    check_shape(t, (struct attention_case){2, 97, 97, 4, 2, 64, .window = 51});
    for (size_t i = 0; i < COUNT_OF(attention_passes); i++)
        for (uint32_t w = 0; w <= 21; w += 7) {
            const uint32_t first = attention_passes[i].first, count = attention_passes[i].count;
            check_shape(t, (struct attention_case){1, 50, 50, 6, 2, 20, .window = w,
                                                   .first = first, .count = count});
            check_shape(t, (struct attention_case){1, 9, 60, 2, 2, 33, .window = w, .base = 41,
                                                   .first = first, .count = count});
        }
    for (size_t i = 0; i < COUNT_OF(attention_passes); i++)
        check_shape(t, (struct attention_case){2, 50, 50, 4, 2, i % 2 ? 64 : 20,
                                               .first = attention_passes[i].first,
                                               .count = attention_passes[i].count,
                                               .bidirectional = true});
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        check_shape(t, (struct attention_case){2, lengths[i], lengths[i], 4, 2, 64,
                                               .bidirectional = true});
    check_shape(t, (struct attention_case){1, 16, 16, 2, 1, 64, .length = 5,
                                           .bidirectional = true});
    check_shape(t, (struct attention_case){1, 40, 40, 4, 2, 64, .scale = 30});
    check_shape(t, (struct attention_case){1, 40, 40, 4, 2, 32, .tied = true});
    check_shape(t, (struct attention_case){1, 257, 257, 2, 1, 64});
    check_shape(t, (struct attention_case){1, 8, 8, 4, 2, 32, .base = 4}); // past the capacity
    check_shape(t, (struct attention_case){1, 32, 64, 4, 2, 32, .base = 3, .length = 5}); // padded
}

static void check_documents(struct check *t)
{
    attention_documents_each(t, check_shape);
    // as the evaluator says it: of all tokens of the batch
    check_shape(t, (struct attention_case){3, 16, 16, 4, 2, 64, .length = 48,
                                           .documents = DOCUMENTS_RANDOM});
}

// Padding must not pull in keys that were never written: here they are NaN.
static void check_unwritten(struct check *t)
{
    enum { SEQ = 16, LENGTH = 5, BASE = 2, DIM = 32, CAPACITY = 32 };
    const struct attention_case c = {1, SEQ, CAPACITY, 2, 1, DIM, .base = BASE, .length = LENGTH};
    check_begin(t, KERNEL_ATTENTION, DIM, "unwritten keys");
    check_step(t, 0, &(struct step_words){.base = BASE, .length = LENGTH});
    check_normal(t, 1, CHECK_STORE, SEQ * 2 * DIM, 1);
    double cache[CAPACITY * DIM];
    for (uint32_t i = 0; i < COUNT_OF(cache); i++)
        cache[i] = i < (BASE + LENGTH) * DIM ? 0.01 * (i % 97) : (double)NAN;
    check_values(t, 2, CHECK_STORE, cache, COUNT_OF(cache));
    check_values(t, 3, CHECK_STORE, cache, COUNT_OF(cache));
    check_output(t, 4, CHECK_STORE, SEQ * 2 * DIM);
    check_output(t, 5, DTYPE_F32, SEQ * 2);
    const struct push_attention push = attention_push(c);
    if (!check_run(t, &push, 1e-10)) return;
    for (uint32_t i = 0; i < SEQ * 2 * DIM; i++)
        if (isnan(dtype_load(check_result(t, 4), i, t->store))) {
            check_fail(t, "element %u is NaN", i);
            return;
        }
}

void check_attention(struct check *t)
{
    check_both_shapes(t, check_all);
    check_both_shapes(t, check_documents);
    check_unwritten(t);
}
