// SPDX-License-Identifier: MIT
// What the attention checks share: a case, and running each in the shapes of CPU drivers and GPUs.
#pragma once

#include <math.h>

#include "check.h"

struct attention_case {
    uint32_t batch, seq, stride, heads, kv_heads, head_dim, window, base, length;
    double   scale; // of q and k; 0: 1
    bool     tied;  // all scores equal
    uint32_t first, count, parts;
    bool     bidirectional;
    enum attention_documents {
        DOCUMENTS_NONE,   // the operation that knows of none
        DOCUMENTS_RANDOM, // long and short ones
        DOCUMENTS_ONES,   // of one token each
        DOCUMENTS_WHOLE,  // one
        DOCUMENTS_TILES,  // that begin where tiles of rows do
        DOCUMENTS_BESIDE, // one token before and behind such a place
        DOCUMENTS_KINDS,
    } documents;
};

// passes over 50 keys: the first, one in the middle, one alone past all windows, the last
static const struct { uint32_t first, count; } attention_passes[] = {
    {0, 17}, {17, 16}, {20, 1}, {33, 16}, {33, 0}, {49, 1}, {50, 9}, {0, 50},
};

#define ATTENTION_FORMAT                                                                           \
    "%s shape, B %u S %u stride %u heads %u/%u D %u window %u base %u length %u scale %g%s "     \
    "pass %u+%u parts %u%s%s"
#define ATTENTION_VALUES(c)                                                                        \
    t->gpu->caps.type == GPU_TYPE_CPU ? "cpu" : "gpu", (c).batch, (c).seq, (c).stride, (c).heads,  \
        (c).kv_heads, (c).head_dim, (c).window, (c).base, (c).length, (c).scale,                   \
        (c).tied ? " tied" : "", (c).first, (c).count, (c).parts,                  \
        (c).bidirectional ? " bidirectional" : "", attention_documents_name((c).documents)

static inline const char *attention_documents_name(enum attention_documents documents)
{
    static const char *const names[DOCUMENTS_KINDS] = {
        "", " documents: random", " documents: of one", " documents: one", " documents: tiles",
        " documents: beside tiles"};
    return names[documents];
}

// Whether a document begins at place i > 0 of sequence b.
static inline bool attention_begins_at(const struct check *t, enum attention_documents documents,
                                       uint32_t b, uint32_t i)
{
    switch (documents) {
    case DOCUMENTS_RANDOM: return rng_below(t->seed, 100 + b, i, i % 16 < 8 ? 3 : 20) == 0;
    case DOCUMENTS_ONES:   return true;
    case DOCUMENTS_TILES:  return i % 16 == 0;
    case DOCUMENTS_BESIDE: return i % 16 == 15 || i % 16 == 1;
    case DOCUMENTS_NONE:
    case DOCUMENTS_WHOLE:
    case DOCUMENTS_KINDS:  break;
    }
    return false;
}

// begins of the case's documents into binding `at`.
static inline void check_begins(struct check *t, const struct attention_case *c, int at)
{
    enum { MOST = 4096 };
    static uint32_t begins[MOST];
    for (uint32_t b = 0; b < c->batch && c->batch * c->seq <= MOST; b++)
        for (uint32_t i = 0, begin = 0; i < c->seq; i++) {
            if (i && attention_begins_at(t, c->documents, b, i)) begin = i;
            begins[b * c->seq + i] = begin;
        }
    check_words(t, at, begins, c->batch * c->seq);
}

// Whether each token is a document.
static inline bool attention_alone(const struct check *t, int begins)
{
    const uint32_t *at = (const uint32_t *)(const void *)t->binding[begins].initial;
    uint32_t ones = 0;
    for (uint32_t i = 1; i < t->binding[begins].count; i++) ones += at[i] != at[i - 1];
    return ones + 1 >= t->binding[begins].count;
}

// Documents of all kinds in sequences of all lengths, in passes, behind windows; the number of keys
// is the sequence's.
static inline void attention_documents_each(struct check *t,
                                            void (*shape)(struct check *t,
                                                          struct attention_case c))
{
    static const uint32_t dims[] = {16, 33, 64, 1, 3, 128, 256};
    static const uint32_t lengths[] = {97, 33, 131, 1, 2, 3, 31, 32};
    for (size_t i = 0; i < (t->store == DTYPE_F32 ? COUNT_OF(dims) : 3); i++)
        shape(t, (struct attention_case){2, 13, 13, 4, 2, dims[i], .documents = DOCUMENTS_RANDOM});
    for (enum attention_documents d = DOCUMENTS_RANDOM; d < DOCUMENTS_KINDS; d++)
        for (size_t i = 0; i < (d == DOCUMENTS_RANDOM ? COUNT_OF(lengths) : 2); i++) {
            const uint32_t n = lengths[i];
            shape(t, (struct attention_case){2, n, n, 4, 2, 64, .documents = d});
            shape(t, (struct attention_case){1, n, n, 6, 1, 32, .window = 7, .documents = d});
        }
    for (size_t i = 0; i < COUNT_OF(attention_passes); i++)
        for (uint32_t w = 0; w <= 21; w += 21)
            shape(t, (struct attention_case){
                2, 50, 50, 6, 2, i % 2 ? 64 : 20, .window = w,
                .first = attention_passes[i].first, .count = attention_passes[i].count,
                .documents = w ? DOCUMENTS_BESIDE : DOCUMENTS_RANDOM});
    shape(t, (struct attention_case){1, 40, 40, 4, 2, 64, .scale = 30,
                                     .documents = DOCUMENTS_RANDOM});
    shape(t, (struct attention_case){1, 40, 40, 4, 2, 32, .tied = true,
                                     .documents = DOCUMENTS_RANDOM});
}

static inline struct push_attention attention_push(struct attention_case c)
{
    return (struct push_attention){
        .batch = c.batch, .seq = c.seq, .stride = c.stride, .heads = c.heads,
        .kv_heads = c.kv_heads, .head_dim = c.head_dim, .window = c.window,
        .scale = (float)(1 / sqrt(c.head_dim)), .first = c.first, .count = c.count,
        .parts = c.parts, .bidirectional = c.bidirectional,
    };
}

// What the passes before this one leave behind, by the reference, in the bindings of the case.
static inline void check_passes_before(struct check *t, const struct push_attention *push)
{
    if (push->first == 0) return;
    struct push_attention before = *push;
    before.first = 0;
    before.count = push->first;
    struct gpu_ref_call call = {.push = &before, .tag = (int)t->store};
    for (int b = 0; b < GPU_MAX_BINDINGS; b++) call.buffer[b] = t->binding[b].initial;
    kernel_info(t->op)->ref(&call);
}

// Runs the case in any of the variants that its shape has; false where a brief run leaves it out.
static inline bool check_some_variant(struct check *t, const struct push_attention *push)
{
    const struct kernel_size size = kernel_size_of(t->op, push->head_dim, push);
    struct kernel_shape shape[KERNEL_MAX_CANDIDATES];
    // long unrolled rows: a minute of compilation with four lanes
    if (t->brief && push->head_dim > 16 * t->gpu->caps.subgroup_size) return check_drop(t), false;
    const uint32_t count = kernel_candidates(&t->gpu->caps, t->op, t->store, &size, shape);
    const struct kernel_shape *some = &shape[check_random(t, count)];
    if (!check_chooses(t, t->op, some)) return check_drop(t), false;
    check_with(t, some);
    return true;
}

// The shape of an attention kernel follows the device type: both are checked on any device.
static inline void check_both_shapes(struct check *t, void (*run)(struct check *t))
{
    run(t);
    struct kernels *const kernels = t->kernels;
    const enum gpu_type type = t->gpu->caps.type;
    t->gpu->caps.type = type == GPU_TYPE_CPU ? GPU_TYPE_DISCRETE : GPU_TYPE_CPU;
    t->kernels = kernels_create(t->gpu);
    run(t);
    kernels_destroy(&t->kernels);
    t->kernels = kernels;
    t->gpu->caps.type = type;
}
