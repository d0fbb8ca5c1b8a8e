// SPDX-License-Identifier: MIT
// One sequence with its KV cache: see session.h. The prompt goes through the prefill plan in
// chunks, what is left of it through a plan for short chunks, the last of which has padding behind
// it that the cache does not take; single tokens go through the decode plan.
#include "src/session.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/experts.h"
#include "src/ngram.h"
#include "src/plan_model.h"
#include "src/rope.h"

enum {
    SHORT_CHUNK = 64, // and of scoring
    LONG_CHUNK = 512,
    MEMORY_SHARE = 64, // of the device's memory, for what a chunk keeps at once
};

struct session {
    struct gpu          *gpu;
    struct params       *params;
    const struct config *config;
    uint32_t             capacity, position;
    uint32_t             chunk, short_chunk; // tokens; the same where a prompt is short
    bool                 scoring; // one plan for all: short_chunk tokens, the losses of all of them
    uint32_t             before[NGRAM_BEFORE + 1]; // the tokens fed last
    // ids: of a chunk and what stands before it, then the same rows of the hash tables
    struct gpu_buffer   *step, *ids, *rope, *cache, *logits, *seen, *token;
    struct gpu_buffer   *targets, *losses; // of scoring
    uint32_t            *marked;             // [vocab_size] what `seen` holds
    struct plan         *prefill_plan, *short_plan, *decode_plan, *sample_plan;
    struct run          *prefill, *short_prefill, *decode, *sample; // prefill: NULL where the same
};

// ---- creation

static uint64_t cache_layer_bytes(const struct session *s)
{
    const uint64_t row = (uint64_t)s->config->num_key_value_heads * s->config->head_dim *
                         dtype_bytes(s->params->store);
    // a padded chunk may look past the last position: keep its keys inside the buffer
    return align_up((s->capacity + s->short_chunk) * row, 256);
}

static struct gpu_buffer *make_buffer(struct gpu *gpu, const char *name, uint64_t bytes,
                                      enum gpu_memory memory)
{
    return gpu_buffer_create(gpu, &(struct gpu_buffer_params){.name = name,
                                                              .bytes = bytes,
                                                              .memory = memory});
}

static uint64_t ids_bytes(const struct session *s) { return align_up(4ull * (s->chunk + 1), 256); }

static bool make_buffers(struct session *s)
{
    const uint64_t vocab = 4ull * s->config->vocab_size, step = sizeof(struct step_words);
    const uint64_t rows = 4ull * s->short_chunk;
    const uint64_t cache = 2 * cache_layer_bytes(s) * s->config->num_hidden_layers;
    struct gpu *gpu = s->gpu;
    // the first that cannot be had is the one that is told
    return (s->step = make_buffer(gpu, "step words", step, GPU_MEMORY_UPLOAD)) &&
           (s->ids = make_buffer(gpu, "ids", 3 * ids_bytes(s), GPU_MEMORY_UPLOAD)) &&
           (s->rope = rope_table(gpu, s->config, s->capacity + s->short_chunk)) &&
           (s->cache = make_buffer(gpu, "KV cache", cache, GPU_MEMORY_DEVICE)) &&
           (!s->scoring ||
            ((s->targets = make_buffer(gpu, "targets", rows, GPU_MEMORY_UPLOAD)) &&
             (s->losses = make_buffer(gpu, "losses", rows, GPU_MEMORY_READBACK)))) &&
           (s->logits = make_buffer(gpu, "logits", vocab, GPU_MEMORY_DEVICE)) &&
           (s->seen = make_buffer(gpu, "seen tokens", vocab, GPU_MEMORY_DEVICE)) &&
           (s->token = make_buffer(gpu, "token", 8, GPU_MEMORY_READBACK));
}

static struct network_io make_io(struct session *s, struct plan *plan, uint32_t tokens)
{
    struct network_io io = {
        .step = plan_external(plan, "step", s->step, 0, sizeof(struct step_words)),
        .rope = plan_external(plan, "rope", s->rope, 0, s->rope->params.bytes),
        .logits = plan_external(plan, "logits", s->logits, 0, s->logits->params.bytes),
    };
    if (s->scoring) {
        io.targets = plan_external(plan, "targets", s->targets, 0, s->targets->params.bytes);
        io.losses = plan_external(plan, "losses", s->losses, 0, s->losses->params.bytes);
    }
    const uint64_t rows = 4ull * (tokens + network_lead(s->config, NETWORK_CACHED));
    io.ids = plan_external(plan, "ids", s->ids, 0, rows);
    for (uint32_t i = 0; i < 2; i++)
        if (ngram_size(s->config, i))
            io.hash[i].ids = plan_external(plan, "hash", s->ids, (i + 1) * ids_bytes(s), rows);
    const uint32_t layers = s->config->num_hidden_layers;
    const uint64_t bytes = cache_layer_bytes(s);
    io.cache_k = arena_array(plan->arena, layers, sizeof *io.cache_k);
    io.cache_v = arena_array(plan->arena, layers, sizeof *io.cache_v);
    for (uint32_t i = 0; i < layers; i++) {
        io.cache_k[i] = plan_external(plan, arena_printf(plan->arena, "cache_k.%u", i), s->cache,
                                      2 * i * bytes, bytes);
        io.cache_v[i] = plan_external(plan, arena_printf(plan->arena, "cache_v.%u", i), s->cache,
                                      (2 * i + 1) * bytes, bytes);
    }
    return io;
}

static bool make_network(struct session *s, struct kernels *kernels, const char *name,
                         uint32_t tokens, struct plan **plan, struct run **run)
{
    *plan = plan_create(s->gpu, kernels, name, s->params->store);
    const struct network_io io = make_io(s, *plan, tokens);
    struct network network =
        network_begin(*plan, s->params, NETWORK_CACHED, 1, tokens, s->capacity, &io);
    network_forward(&network);
    if (!plan_finish(*plan)) return false;
    *run = run_create(*plan);
    return *run != NULL;
}

static bool make_sample(struct session *s, struct kernels *kernels)
{
    struct plan *plan = s->sample_plan = plan_create(s->gpu, kernels, "sample", s->params->store);
    const struct push_loss push = {.rows = 1, .vocab = s->config->vocab_size};
    plan_section(plan, "sample");
    plan_add(plan, KERNEL_SAMPLE, 0, &push,
             PLAN_BIND(plan_external(plan, "step", s->step, 0, sizeof(struct step_words)),
                       plan_external(plan, "logits", s->logits, 0, s->logits->params.bytes),
                       plan_external(plan, "seen", s->seen, 0, s->seen->params.bytes),
                       plan_external(plan, "token", s->token, 0, 8)));
    if (!plan_finish(plan)) return false;
    s->sample = run_create(plan);
    return s->sample != NULL;
}

static bool clear_seen(struct session *s)
{
    memset(s->marked, 0, s->seen->params.bytes);
    return gpu_buffer_write(s->gpu, s->seen, 0, s->marked, s->seen->params.bytes);
}

// The cache begins as zeros: padded queries read positions that were never written.
static bool clear_cache(struct session *s)
{
    struct gpu_commands *commands =
        gpu_commands_create(s->gpu, &(struct gpu_commands_params){.name = "clear cache"});
    if (!commands) return false;
    gpu_commands_fill(commands, &(struct gpu_bind){s->cache, 0, s->cache->params.bytes}, 0);
    const uint64_t ticket = gpu_commands_end(commands) ? gpu_submit(s->gpu, &commands, 1) : 0;
    const bool ok = ticket && gpu_wait(s->gpu, ticket);
    gpu_commands_destroy(s->gpu, &commands);
    return ok;
}

// Experts want many rows each, so chunks are long where memory allows it; a shorter prompt would be
// mostly padding in them.
static uint32_t long_chunk(const struct session *s)
{
    const struct config *c = s->config;
    uint32_t picks = 0;
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        if (c->moe_layer[i]) picks = max_u32(picks, c->layer_router[i].top_k);
    const uint64_t heads = c->num_attention_heads + 2ull * c->num_key_value_heads,
                   dense = c->intermediate_size,
                   experts = (uint64_t)picks * (c->hidden_size + c->moe_intermediate_size);
    // of a token at the widest point, two layers' residuals among it
    const uint64_t row = dtype_bytes(s->params->store) *
                         (4ull * c->hidden_size + max_u64(heads * c->head_dim,
                                                          max_u64(3 * dense, experts)));
    uint32_t chunk = LONG_CHUNK;
    while (chunk > s->short_chunk &&
           (chunk > s->capacity || chunk * row > s->gpu->caps.heap_bytes / MEMORY_SHARE))
        chunk /= 2;
    return max_u32(chunk, s->short_chunk);
}

static void forget(struct session *s)
{
    s->position = 0;
    for (uint32_t i = 0; i < COUNT_OF(s->before); i++) s->before[i] = KERNEL_NONE_ID;
}

static bool make_plans(struct session *s, struct kernels *kernels)
{
    const bool longer = s->chunk > s->short_chunk;
    const char *name = s->scoring ? "score" : longer ? "short prefill" : "prefill";
    return (!longer ||
            make_network(s, kernels, "prefill", s->chunk, &s->prefill_plan, &s->prefill)) &&
           make_network(s, kernels, name, s->short_chunk, &s->short_plan, &s->short_prefill) &&
           (s->scoring || (make_network(s, kernels, "decode", 1, &s->decode_plan, &s->decode) &&
                           make_sample(s, kernels)));
}

static struct session *create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                              uint32_t capacity, bool scoring)
{
    const struct config *config = &params->model->config;
    struct session *s = calloc(1, sizeof *s);
    *s = (struct session){.gpu = gpu, .params = params, .config = config, .capacity = capacity,
                          .scoring = scoring};
    s->short_chunk = min_u32(SHORT_CHUNK, max_u32(capacity, 2));
    s->chunk = scoring ? s->short_chunk : long_chunk(s);
    s->marked = calloc(config->vocab_size, sizeof *s->marked);
    if (capacity == 0 || capacity > config->max_position_embeddings) {
        log_error("a session of %u tokens: the model has max_position_embeddings %u", capacity,
                  config->max_position_embeddings);
        session_destroy(&s);
        return NULL;
    }
    if (!config->causal) {
        log_error("this model sees all tokens at once (causal is false): it cannot generate; "
                  "vkmoe logits and eval take it");
        session_destroy(&s);
        return NULL;
    }
    if (config_leaks(config)) {
        log_error("router_type expert_choice picks tokens by those behind them: it cannot "
                  "generate; vkmoe logits and eval take this model");
        session_destroy(&s);
        return NULL;
    }
    forget(s);
    if (!make_buffers(s) || !clear_seen(s) || !clear_cache(s) || !make_plans(s, kernels))
        session_destroy(&s);
    return s;
}

static struct session *create_fitting(struct gpu *gpu, struct kernels *kernels,
                                      struct params *params, uint32_t capacity, bool scoring)
{
    struct session *s = create(gpu, kernels, params, capacity, scoring);
    uint32_t slots;
    // in training other plans bind the slots too: who made them all looks after the budget
    if (!s || params->training || experts_fit(params->experts, &slots)) return s;
    session_destroy(&s);
    if (!experts_resize(params->experts, slots)) return NULL;
    return create(gpu, kernels, params, capacity, scoring);
}

struct session *session_create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                               uint32_t capacity)
{
    return create_fitting(gpu, kernels, params, capacity, false);
}

struct session *session_create_scoring(struct gpu *gpu, struct kernels *kernels,
                                       struct params *params, uint32_t capacity)
{
    return create_fitting(gpu, kernels, params, capacity, true);
}

void session_destroy(struct session **session)
{
    struct session *s = *session;
    if (!s) return;
    run_destroy(&s->prefill);
    run_destroy(&s->short_prefill);
    run_destroy(&s->decode);
    run_destroy(&s->sample);
    plan_destroy(&s->prefill_plan);
    plan_destroy(&s->short_plan);
    plan_destroy(&s->decode_plan);
    plan_destroy(&s->sample_plan);
    struct gpu_buffer **buffers[] = {&s->step,   &s->ids,  &s->rope, &s->cache,
                                     &s->logits, &s->seen, &s->token,
                                     &s->targets, &s->losses};
    for (size_t i = 0; i < COUNT_OF(buffers); i++) gpu_buffer_destroy(s->gpu, buffers[i]);
    free(s->marked);
    free(s);
    *session = NULL;
}

// ---- use

uint32_t session_chunk(const struct session *s) { return s->chunk; }
uint32_t session_short_chunk(const struct session *s) { return s->short_chunk; }
uint32_t session_position(const struct session *s) { return s->position; }

void session_reset(struct session *s)
{
    forget(s);
    clear_seen(s);
}

struct plan *session_plan(struct session *s, const char *name)
{
    struct plan *plans[] = {s->prefill_plan, s->short_plan, s->decode_plan, s->sample_plan};
    for (size_t i = 0; i < COUNT_OF(plans); i++)
        if (plans[i] && strcmp(plans[i]->name, name) == 0) return plans[i];
    return NULL;
}

static bool finish(struct session *s, struct run *run)
{
    const uint64_t ticket = run_submit(run);
    return ticket && gpu_wait(s->gpu, ticket) && run_settle(run);
}

// The tokens that the next plan takes of `count`, and its run. Only a short chunk is ever padded.
static struct run *next_run(const struct session *s, uint32_t count, uint32_t *some)
{
    *some = count < s->chunk ? min_u32(count, s->short_chunk) : s->chunk;
    if (*some == 1 && !s->scoring) return s->decode;
    return *some > s->short_chunk ? s->prefill : s->short_prefill;
}

// `count` ids behind those fed before them, padded with 0, and their rows of the hash tables.
static void write_ids(struct session *s, const uint32_t *ids, uint32_t count)
{
    enum { BEFORE = NGRAM_BEFORE + 1, MOST = BEFORE + LONG_CHUNK };
    const uint32_t lead = network_lead(s->config, NETWORK_CACHED);
    uint32_t all[MOST] = {0};
    memcpy(all, s->before, sizeof s->before);
    memcpy(all + BEFORE, ids, 4ull * count);
    memcpy(s->ids->data, all + BEFORE - lead, 4ull * (s->chunk + lead));
    for (uint32_t which = 0; which < 2; which++) {
        uint32_t *rows =
            (uint32_t *)(void *)((uint8_t *)s->ids->data + (which + 1) * ids_bytes(s));
        if (!ngram_size(s->config, which)) continue;
        for (uint32_t i = 0; i < s->chunk + lead; i++)
            rows[i] = ngram_row(s->config, which, all + BEFORE - lead + i);
    }
    memcpy(s->before, all + count, sizeof s->before);
}

static bool feed_some(struct session *s, struct run *run, const uint32_t *ids, uint32_t count)
{
    const struct step_words step = {.base = s->position, .length = count};
    memcpy(s->step->data, &step, sizeof step);
    write_ids(s, ids, count);
    if (!finish(s, run)) return false;
    s->position += count;
    return true;
}

// Nothing to write for a token that was sampled: the device has marked it.
static bool mark_seen(struct session *s, const uint32_t *ids, uint32_t count)
{
    uint32_t first = UINT32_MAX, last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] >= s->config->vocab_size || s->marked[ids[i]]) continue;
        s->marked[ids[i]] = 1;
        first = min_u32(first, ids[i]);
        last = max_u32(last, ids[i]);
    }
    return first > last || gpu_buffer_write(s->gpu, s->seen, 4ull * first, s->marked + first,
                                            4ull * (last - first + 1));
}

bool session_feed(struct session *s, const uint32_t *ids, uint32_t count)
{
    if (count > s->capacity - s->position) {
        log_error("the session is full: %u tokens fed, %u more, capacity %u", s->position, count,
                  s->capacity);
        return false;
    }
    if (!mark_seen(s, ids, count)) return false;
    while (count > 0) {
        uint32_t some;
        struct run *run = next_run(s, count, &some);
        if (!feed_some(s, run, ids, some)) return false;
        ids += some;
        count -= some;
    }
    return true;
}

static bool score_some(struct session *s, const uint32_t *ids, const uint32_t *targets,
                       uint32_t count, float *losses)
{
    uint32_t *own = s->targets->data;
    for (uint32_t i = 0; i < s->short_chunk; i++)
        own[i] = i < count && targets ? targets[i] : KERNEL_NONE_ID;
    if (!feed_some(s, s->short_prefill, ids, count)) return false;
    if (losses) memcpy(losses, s->losses->data, count * sizeof *losses);
    return true;
}

bool session_score(struct session *s, const uint32_t *ids, const uint32_t *targets, uint32_t count,
                   float *losses)
{
    if (count > s->capacity - s->position) {
        log_error("the session is full: %u tokens fed, %u more, capacity %u", s->position, count,
                  s->capacity);
        return false;
    }
    for (uint32_t at = 0, some; at < count; at += some) {
        some = min_u32(count - at, s->short_chunk);
        if (!score_some(s, ids + at, targets ? targets + at : NULL, some,
                        losses ? losses + at : NULL))
            return false;
    }
    return true;
}

struct session_place session_here(const struct session *s)
{
    struct session_place place = {.position = s->position};
    memcpy(place.before, s->before, sizeof s->before);
    return place;
}

void session_back(struct session *s, const struct session_place *place)
{
    s->position = place->position;
    memcpy(s->before, place->before, sizeof s->before);
}

bool session_sample(struct session *s, const struct session_sampling *sampling, uint32_t *id)
{
    const struct step_words step = {
        .base = s->position,
        .length = 1,
        .seed_low = (uint32_t)sampling->seed,
        .seed_high = (uint32_t)(sampling->seed >> 32),
        .temperature = (float)sampling->temperature,
        .top_k = sampling->top_k,
        .top_p = (float)sampling->top_p,
        .repetition_penalty = (float)sampling->repetition_penalty,
    };
    memcpy(s->step->data, &step, sizeof step);
    if (!finish(s, s->sample)) return false;
    memcpy(id, s->token->data, sizeof *id);
    if (*id < s->config->vocab_size) s->marked[*id] = 1;
    return true;
}

bool session_read_logits(struct session *s, float *logits)
{
    return gpu_buffer_read(s->gpu, s->logits, 0, logits, s->logits->params.bytes);
}

// ---- all positions at once

static struct plan *logits_plan(struct gpu *gpu, struct kernels *kernels, struct params *params,
                                uint32_t count, struct gpu_buffer *const buffer[4])
{
    const struct config *config = &params->model->config;
    const uint64_t part = align_up(4ull * count, 256); // ids, then rows of the hash tables
    struct plan *plan = plan_create(gpu, kernels, "logits", params->store);
    struct network_io io = {
        .step = plan_external(plan, "step", buffer[0], 0, sizeof(struct step_words)),
        .ids = plan_external(plan, "ids", buffer[1], 0, 4ull * count),
        .rope = plan_external(plan, "rope", buffer[2], 0, buffer[2]->params.bytes),
        .logits = plan_external(plan, "logits", buffer[3], 0, buffer[3]->params.bytes),
    };
    for (uint32_t i = 0; i < 2; i++)
        if (ngram_size(config, i))
            io.hash[i].ids = plan_external(plan, "hash", buffer[1], (i + 1) * part, 4ull * count);
    struct network network = network_begin(plan, params, NETWORK_LOGITS, 1, count, 0, &io);
    network_forward(&network);
    if (!plan_finish(plan)) plan_destroy(&plan);
    return plan;
}

static void write_all_ids(const struct config *config, const uint32_t *ids, uint32_t count,
                          struct gpu_buffer *const buffer[4])
{
    const uint64_t part = align_up(4ull * count, 256);
    const struct step_words step = {.length = count};
    memcpy(buffer[0]->data, &step, sizeof step);
    memcpy(buffer[1]->data, ids, 4ull * count);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t *rows = (uint32_t *)(void *)((uint8_t *)buffer[1]->data + (i + 1) * part);
        if (ngram_size(config, i)) ngram_rows(config, i, ids, NULL, count, count, rows);
    }
}

static bool all_logits_with(struct gpu *gpu, struct kernels *kernels, struct params *params,
                            const uint32_t *ids, uint32_t count, float *logits,
                            struct gpu_buffer *buffer[4])
{
    uint32_t slots;
    write_all_ids(&params->model->config, ids, count, buffer);
    struct plan *plan = logits_plan(gpu, kernels, params, count, buffer);
    if (plan && !experts_fit(params->experts, &slots)) {
        plan_destroy(&plan);
        if (experts_resize(params->experts, slots))
            plan = logits_plan(gpu, kernels, params, count, buffer);
    }
    struct run *run = plan ? run_create(plan) : NULL;
    const uint64_t ticket = run ? run_submit(run) : 0;
    const bool ok = ticket && gpu_wait(gpu, ticket) &&
                    gpu_buffer_read(gpu, buffer[3], 0, logits, buffer[3]->params.bytes);
    run_destroy(&run);
    plan_destroy(&plan);
    return ok;
}

bool session_all_logits(struct gpu *gpu, struct kernels *kernels, struct params *params,
                        const uint32_t *ids, uint32_t count, float *logits)
{
    const struct config *config = &params->model->config;
    if (count == 0 || count > config->max_position_embeddings) {
        log_error("%u ids: the model takes 1 to %u (max_position_embeddings)", count,
                  config->max_position_embeddings);
        return false;
    }
    const uint64_t step = sizeof(struct step_words), all = 4ull * count * config->vocab_size,
                   some = 3 * align_up(4ull * count, 256);
    struct gpu_buffer *buffer[4] = {NULL};
    const bool ok = (buffer[0] = make_buffer(gpu, "step words", step, GPU_MEMORY_UPLOAD)) &&
                    (buffer[1] = make_buffer(gpu, "ids", some, GPU_MEMORY_UPLOAD)) &&
                    (buffer[2] = rope_table(gpu, config, count)) &&
                    (buffer[3] = make_buffer(gpu, "all logits", all, GPU_MEMORY_DEVICE)) &&
                    all_logits_with(gpu, kernels, params, ids, count, logits, buffer);
    for (size_t i = 0; i < COUNT_OF(buffer); i++) gpu_buffer_destroy(gpu, &buffer[i]);
    return ok;
}
