// SPDX-License-Identifier: MIT
// A batch as the device sees it: one block of inputs that a single copy brings (step words, ids,
// targets, segments for the embedding's gradient) and one block of results (loss, norm, router
// statistics).
#pragma once

#include "plan_model.h"

// u32[tokens] each; targets KERNEL_NONE_ID are not scored. begins: of each token, the place in its
// sequence where its document begins (data_window_begins); it never falls and is not past its
// token. NULL: a sequence is one document. Read only where the config has document_boundaries.
struct batch { const uint32_t *ids, *targets, *begins; };

// Byte offsets in the two blocks, each a multiple of 256.
struct batch_layout {
    const struct config *config;
    uint32_t tokens, seq, stats_stride, moe_layers;
    uint64_t step, ids, targets, begins, order, segment_begin, segment_id, input_bytes;
    struct { uint64_t ids, order, segment_begin, segment_id; } hash[2]; // as in network_io
    uint64_t loss, norm, stats, stats_bytes, result_bytes;
    // of batch_layout_picks, else 0: where picks begin, tokens whose picks come back
    uint64_t picks;
    uint32_t pick_tokens;
    bool     gates;
    uint64_t rows; // of batch_layout_rows, else 0: where the losses of the tokens are, f32[tokens]
};

// `tokens` in sequences of `seq`; keeps the pointer.
struct batch_layout batch_layout(const struct config *config, uint32_t tokens, uint32_t seq);
// Adds to the results what the routers picked for the first `tokens` tokens, with the gates if
// wanted. The config must outlive the layout.
void batch_layout_picks(struct batch_layout *layout, const struct config *config, uint32_t tokens,
                        bool gates);
// Adds to the results the loss of each token.
void batch_layout_rows(struct batch_layout *layout);
// Of how many tokens they come back in training: enough for statistics, or what is to be traced.
// Where every token takes all experts there is nothing to count.
uint32_t batch_pick_tokens(const struct config *config);
// Where the picks (gates) of a MoE layer, counted from 0, lie in a result block: [pick_tokens][K].
uint64_t batch_picks(const struct batch_layout *layout, uint32_t index, bool gates);
uint64_t batch_picks_bytes(const struct batch_layout *layout, uint32_t index);
// The plan's names for the parts; `rope` is the whole rope table.
struct network_io batch_io(const struct batch_layout *layout, struct plan *plan,
                           struct gpu_buffer *input, struct gpu_buffer *result,
                           struct gpu_buffer *rope);
uint64_t batch_scored(const struct batch_layout *layout,
                      const struct batch *batch); // targets that count
// Writes an input block; step.segments is filled in here.
void batch_fill(const struct batch_layout *layout, uint8_t *block, const struct batch *batch,
                struct step_words step);
