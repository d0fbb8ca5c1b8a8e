// SPDX-License-Identifier: MIT
// Input and result blocks: see batch.h.
#include "src/batch.h"

#include <string.h>

#include "src/data.h"
#include "src/ngram.h"

enum {
    BLOCK_ALIGN = 256,
    PICK_TOKENS = 256, PICKS = 4096, // of a layer and step that the host sees in training
};

static uint64_t put(uint64_t *at, uint64_t bytes)
{
    const uint64_t offset = *at;
    *at = align_up(offset + bytes, BLOCK_ALIGN);
    return offset;
}

struct batch_layout batch_layout(const struct config *config, uint32_t tokens, uint32_t seq)
{
    struct batch_layout l = {.config = config, .tokens = tokens, .seq = seq,
                             .stats_stride = network_stats_stride(config),
                             .moe_layers = config_moe_layers(config)};
    const uint64_t words = 4ull * tokens;
    l.stats_bytes = max_u64(4ull * l.moe_layers * l.stats_stride, 4);
    l.step = put(&l.input_bytes, sizeof(struct step_words));
    l.ids = put(&l.input_bytes, words);
    l.targets = put(&l.input_bytes, words);
    if (config->document_boundaries) l.begins = put(&l.input_bytes, words);
    l.order = put(&l.input_bytes, words);
    l.segment_begin = put(&l.input_bytes, words + 4);
    l.segment_id = put(&l.input_bytes, words);
    for (uint32_t i = 0; i < 2; i++) {
        if (!ngram_size(config, i)) continue;
        l.hash[i].ids = put(&l.input_bytes, words);
        l.hash[i].order = put(&l.input_bytes, words);
        l.hash[i].segment_begin = put(&l.input_bytes, words + 4);
        l.hash[i].segment_id = put(&l.input_bytes, words);
    }
    l.loss = put(&l.result_bytes, 4);
    l.norm = put(&l.result_bytes, 16);
    l.stats = put(&l.result_bytes, l.stats_bytes);
    return l;
}

uint32_t batch_pick_tokens(const struct config *c)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i] && c->layer_router[i].type != CONFIG_ROUTER_DENSE)
            most = max_u32(most, c->layer_router[i].top_k);
    const uint32_t few = most ? PICKS / most : 0;
    return max_u32(min_u32(few, PICK_TOKENS), c->trace_tokens);
}

// The model's layer that is the MoE layer `index`.
static uint32_t moe_layer(const struct config *config, uint32_t index)
{
    uint32_t layer = 0;
    for (;; layer++)
        if (config->moe_layer[layer] && index-- == 0) return layer;
}

uint64_t batch_picks_bytes(const struct batch_layout *l, uint32_t index)
{
    return 4ull * l->pick_tokens * l->config->layer_router[moe_layer(l->config, index)].top_k;
}

void batch_layout_picks(struct batch_layout *l, const struct config *config, uint32_t tokens,
                        bool gates)
{
    l->config = config;
    l->pick_tokens = l->moe_layers ? min_u32(tokens, l->tokens) : 0;
    l->gates = gates;
    l->picks = l->result_bytes;
    for (uint32_t i = 0; l->pick_tokens && i < l->moe_layers; i++)
        for (int part = 0; part <= gates; part++) put(&l->result_bytes, batch_picks_bytes(l, i));
}

void batch_layout_rows(struct batch_layout *l)
{
    l->rows = put(&l->result_bytes, 4ull * l->tokens);
}

uint64_t batch_picks(const struct batch_layout *l, uint32_t index, bool gates)
{
    uint64_t at = l->picks;
    for (uint32_t i = 0; i < index; i++)
        for (int part = 0; part <= l->gates; part++) put(&at, batch_picks_bytes(l, i));
    if (gates) put(&at, batch_picks_bytes(l, index));
    return at;
}

static void name_picks(const struct batch_layout *l, struct plan *plan, struct gpu_buffer *result,
                       struct network_io *io)
{
    io->picks = arena_array(plan->arena, l->moe_layers, sizeof *io->picks);
    if (l->gates) io->gates = arena_array(plan->arena, l->moe_layers, sizeof *io->gates);
    for (uint32_t i = 0; i < l->moe_layers; i++) {
        const uint64_t bytes = batch_picks_bytes(l, i);
        io->picks[i] = plan_external(plan, "picks", result, batch_picks(l, i, false), bytes);
        if (l->gates)
            io->gates[i] = plan_external(plan, "gates", result, batch_picks(l, i, true), bytes);
    }
}

struct network_io batch_io(const struct batch_layout *l, struct plan *plan,
                           struct gpu_buffer *input, struct gpu_buffer *result,
                           struct gpu_buffer *rope)
{
    const uint64_t words = 4ull * l->tokens;
    struct network_io io = {
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
    if (l->begins) io.begins = plan_external(plan, "begins", input, l->begins, words);
    for (uint32_t i = 0; i < 2; i++) {
        if (!ngram_size(l->config, i)) continue;
        io.hash[i].ids = plan_external(plan, "hash", input, l->hash[i].ids, words);
        io.hash[i].order = plan_external(plan, "hash_order", input, l->hash[i].order, words);
        io.hash[i].segment_begin =
            plan_external(plan, "hash_begin", input, l->hash[i].segment_begin, words + 4);
        io.hash[i].segment_id =
            plan_external(plan, "hash_id", input, l->hash[i].segment_id, words);
    }
    if (l->rows) io.losses = plan_external(plan, "losses", result, l->rows, words);
    if (l->pick_tokens) name_picks(l, plan, result, &io);
    return io;
}

uint64_t batch_scored(const struct batch_layout *l, const struct batch *batch)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < l->tokens; i++) total += batch->targets[i] != KERNEL_NONE_ID;
    return total;
}

static uint32_t *words_at(uint8_t *block, uint64_t offset)
{
    return (uint32_t *)(void *)(block + offset);
}

// Segments past the last one are empty: a step has one number of segments for all its tables.
static uint32_t fill_segments(const uint32_t *ids, uint32_t count, uint32_t *order, uint32_t *begin,
                              uint32_t *id)
{
    const uint32_t segments = data_segments(ids, count, order, begin, id);
    for (uint32_t s = segments; s < count; s++) {
        begin[s + 1] = begin[segments];
        id[s] = 0;
    }
    return segments;
}

void batch_fill(const struct batch_layout *l, uint8_t *block, const struct batch *batch,
                struct step_words step)
{
    memcpy(block + l->ids, batch->ids, 4ull * l->tokens);
    memcpy(block + l->targets, batch->targets, 4ull * l->tokens);
    const uint32_t *const begins = l->begins ? batch->begins : NULL;
    if (begins) memcpy(block + l->begins, begins, 4ull * l->tokens);
    else if (l->begins) memset(block + l->begins, 0, 4ull * l->tokens);
    step.segments =
        fill_segments(batch->ids, l->tokens, words_at(block, l->order),
                      words_at(block, l->segment_begin), words_at(block, l->segment_id));
    for (uint32_t i = 0; i < 2; i++) {
        if (!ngram_size(l->config, i)) continue;
        uint32_t *rows = words_at(block, l->hash[i].ids);
        ngram_rows(l->config, i, batch->ids, begins, l->tokens, l->seq, rows);
        const uint32_t segments =
            fill_segments(rows, l->tokens, words_at(block, l->hash[i].order),
                          words_at(block, l->hash[i].segment_begin),
                          words_at(block, l->hash[i].segment_id));
        step.segments = max_u32(step.segments, segments);
    }
    memcpy(block + l->step, &step, sizeof step);
}
