// SPDX-License-Identifier: MIT
// Input and result blocks: see batch.h.
#include "src/batch.h"

#include <string.h>

#include "src/data.h"

enum { BLOCK_ALIGN = 256 };

static uint64_t put(uint64_t *at, uint64_t bytes)
{
    const uint64_t offset = *at;
    *at = align_up(offset + bytes, BLOCK_ALIGN);
    return offset;
}

struct batch_layout batch_layout(const struct config *config, uint32_t tokens)
{
    struct batch_layout l = {.tokens = tokens, .stats_stride = network_stats_stride(config),
                             .moe_layers = config_moe_layers(config)};
    const uint64_t words = 4ull * tokens;
    l.stats_bytes = max_u64(4ull * l.moe_layers * l.stats_stride, 4);
    l.step = put(&l.input_bytes, sizeof(struct step_words));
    l.ids = put(&l.input_bytes, words);
    l.targets = put(&l.input_bytes, words);
    l.order = put(&l.input_bytes, words);
    l.segment_begin = put(&l.input_bytes, words + 4);
    l.segment_id = put(&l.input_bytes, words);
    l.loss = put(&l.result_bytes, 4);
    l.norm = put(&l.result_bytes, 16);
    l.stats = put(&l.result_bytes, l.stats_bytes);
    return l;
}

struct network_io batch_io(const struct batch_layout *l, struct plan *plan,
                           struct gpu_buffer *input, struct gpu_buffer *result,
                           struct gpu_buffer *rope)
{
    const uint64_t words = 4ull * l->tokens;
    return (struct network_io){
        .step = plan_external(plan, "step", input, l->step, sizeof(struct step_words)),
        .ids = plan_external(plan, "ids", input, l->ids, words),
        .targets = plan_external(plan, "targets", input, l->targets, words),
        .order = plan_external(plan, "order", input, l->order, words),
        .segment_begin = plan_external(plan, "segment_begin", input, l->segment_begin, words + 4),
        .segment_id = plan_external(plan, "segment_id", input, l->segment_id, words),
        .loss = plan_external(plan, "loss", result, l->loss, 4),
        .norm = plan_external(plan, "norm", result, l->norm, 16),
        .stats = plan_external(plan, "stats", result, l->stats, l->stats_bytes),
        .rope = plan_external(plan, "rope", rope, 0, rope->params.bytes),
    };
}

uint64_t batch_scored(const struct batch_layout *l, const struct batch *batch)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < l->tokens; i++) total += batch->targets[i] != KERNEL_NONE_ID;
    return total;
}

void batch_fill(const struct batch_layout *l, uint8_t *block, const struct batch *batch,
                struct step_words step)
{
    memcpy(block + l->ids, batch->ids, 4ull * l->tokens);
    memcpy(block + l->targets, batch->targets, 4ull * l->tokens);
    step.segments = data_segments(batch->ids, l->tokens, (uint32_t *)(void *)(block + l->order),
                                  (uint32_t *)(void *)(block + l->segment_begin),
                                  (uint32_t *)(void *)(block + l->segment_id));
    memcpy(block + l->step, &step, sizeof step);
}
