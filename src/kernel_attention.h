// SPDX-License-Identifier: MIT
// How the attention family is cut up for a device: the shape of a workgroup, the passes over a long
// sequence, the parts of a cache that attention_decode takes at once. The plan, the checks and the
// benchmark ask here; kernel_table.c knows the grids.
#pragma once

#include "kernel_device.h"

enum { KERNEL_DECODE_LEAST = 64 }; // keys of a part of attention_decode are a multiple

// Keys of a part where `keys` are visible (shaders/lib/decode.glsl has the same).
static inline uint32_t kernel_decode_chunk(uint32_t keys, uint32_t parts)
{
    const uint32_t least = (keys + parts - 1) / parts, n = KERNEL_DECODE_LEAST;
    return (least + n - 1) / n * n;
}

// How many parts fill this device, for a cache of p->stride.
uint32_t kernel_decode_parts(const struct gpu_caps *caps, const struct push_attention *p);

// Keys (attention_back_kv: queries) that one pass may be for, 0: all. CPU drivers stop the loops of
// an invocation after 65,535 turns, desktops a dispatch after two seconds.
uint32_t kernel_attention_span(const struct gpu_caps *caps, enum kernel_op op,
                               const struct push_attention *p);

// The candidates of the family: HELD, SPLIT and HEAD_DIM of lib/attention.glsl.
uint32_t kernel_attention_candidates(const struct gpu_caps *caps, enum kernel_op op,
                                     enum dtype store, const struct kernel_size *size,
                                     struct kernel_shape shape[KERNEL_MAX_CANDIDATES]);
