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
};

// passes over 50 keys: the first, one in the middle, one alone past all windows, the last
static const struct { uint32_t first, count; } attention_passes[] = {
    {0, 17}, {17, 16}, {20, 1}, {33, 16}, {33, 0}, {49, 1}, {50, 9}, {0, 50},
};

#define ATTENTION_FORMAT                                                                           \
    "%s shape, B %u S %u stride %u heads %u/%u D %u window %u base %u length %u scale %g%s "     \
    "pass %u+%u parts %u%s"
#define ATTENTION_VALUES(c)                                                                        \
    t->gpu->caps.type == GPU_TYPE_CPU ? "cpu" : "gpu", (c).batch, (c).seq, (c).stride, (c).heads,  \
        (c).kv_heads, (c).head_dim, (c).window, (c).base, (c).length, (c).scale,                   \
        (c).tied ? " tied" : "", (c).first, (c).count, (c).parts,                  \
        (c).bidirectional ? " bidirectional" : ""

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
