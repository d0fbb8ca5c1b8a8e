// SPDX-License-Identifier: MIT
// A batch as the device sees it: one block of inputs that a single copy brings (step words, ids,
// targets, segments for the embedding's gradient) and one block of results (loss, norm, router
// statistics).
#pragma once

#include "plan_model.h"

// u32[tokens] each; targets KERNEL_NONE_ID are not scored.
struct batch { const uint32_t *ids, *targets; };

// Byte offsets in the two blocks, each a multiple of 256.
struct batch_layout {
    uint32_t tokens, stats_stride, moe_layers;
    uint64_t step, ids, targets, order, segment_begin, segment_id, input_bytes;
    uint64_t loss, norm, stats, stats_bytes, result_bytes;
};

struct batch_layout batch_layout(const struct config *config, uint32_t tokens);
// The plan's names for the parts; `rope` is the whole rope table.
struct network_io batch_io(const struct batch_layout *layout, struct plan *plan,
                           struct gpu_buffer *input, struct gpu_buffer *result,
                           struct gpu_buffer *rope);
uint64_t batch_scored(const struct batch_layout *layout,
                      const struct batch *batch); // targets that count
// Writes an input block; step.segments is filled in here.
void batch_fill(const struct batch_layout *layout, uint8_t *block, const struct batch *batch,
                struct step_words step);
