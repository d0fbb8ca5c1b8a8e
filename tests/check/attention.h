// SPDX-License-Identifier: MIT
// What the attention checks share: a case, and running each in the shapes of CPU drivers and GPUs.
#pragma once

#include <math.h>

#include "check.h"

struct attention_case {
    uint32_t batch, seq, stride, heads, kv_heads, head_dim, window, base, length;
    double   scale; // of q and k; 0: 1
    bool     tied;  // all scores equal
};

#define ATTENTION_FORMAT                                                                           \
    "%s shape, B %u S %u stride %u heads %u/%u D %u window %u base %u length %u scale %g%s"
#define ATTENTION_VALUES(c)                                                                        \
    t->gpu->caps.type == GPU_TYPE_CPU ? "cpu" : "gpu", (c).batch, (c).seq, (c).stride, (c).heads,  \
        (c).kv_heads, (c).head_dim, (c).window, (c).base, (c).length, (c).scale,                   \
        (c).tied ? " tied" : ""

static inline struct push_attention attention_push(struct attention_case c)
{
    return (struct push_attention){
        .batch = c.batch, .seq = c.seq, .stride = c.stride, .heads = c.heads,
        .kv_heads = c.kv_heads, .head_dim = c.head_dim, .window = c.window,
        .scale = (float)(1 / sqrt(c.head_dim)),
    };
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
