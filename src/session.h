// SPDX-License-Identifier: MIT
// One sequence with its KV cache: prefill and decode plans over shared weights, and sampling on the
// device. The cache keeps the key/value heads only, in the storage type.
#pragma once

#include "ngram.h"
#include "params.h"
#include "run.h"

struct session;

struct session_sampling {
    double   temperature;        // 0: greedy
    uint32_t top_k;              // 0: off
    double   top_p;              // 1: off
    double   repetition_penalty; // 1: off (Keskar et al. 2019, section 4.1)
    uint64_t seed;
};

// capacity: most tokens of prompt and generation together, at most max_position_embeddings.
struct session *session_create(struct gpu *gpu, struct kernels *kernels, struct params *params,
                               uint32_t capacity);
// For session_score alone: no sampling, no logits.
struct session *session_create_scoring(struct gpu *gpu, struct kernels *kernels,
                                       struct params *params, uint32_t capacity);
void            session_destroy(struct session **session);
// Feeds tokens; afterwards the logits are those of the last one. False where the cache is full
// (logged) or the device failed.
bool     session_feed(struct session *session, const uint32_t *ids, uint32_t count);
// Feeds ids; losses[i] = -log p(targets[i]) after ids[i], in nats (0 for KERNEL_NONE_ID). NULL
// targets: none is wanted. Every token takes the same plan, so that what stands in the cache, and
// each loss, is the same however the tokens are cut into calls.
bool     session_score(struct session *session, const uint32_t *ids, const uint32_t *targets,
                       uint32_t count, float *losses);
// Back to an earlier place of the same sequence: other tokens follow it then.
struct session_place { uint32_t position, before[NGRAM_BEFORE + 1]; };
struct session_place session_here(const struct session *session);
void     session_back(struct session *session, const struct session_place *place);
// Picks the next token from the current logits, without feeding it.
bool session_sample(struct session *session, const struct session_sampling *sampling, uint32_t *id);
bool     session_read_logits(struct session *session, float *logits); // f32 [vocab_size]
uint32_t session_position(const struct session *session);             // tokens fed
// Tokens that a prefill pass takes; what is left of a prompt goes in passes of `short_chunk`.
uint32_t session_chunk(const struct session *session);
uint32_t session_short_chunk(const struct session *session);
void     session_reset(struct session *session);
struct plan *session_plan(struct session *session,
                          const char *name); // "prefill", "decode", "sample"; where the chunks
                                             // differ, "short prefill"

// f32 logits [count][vocab_size] of all positions of a sequence in one pass, without a cache.
bool session_all_logits(struct gpu *gpu, struct kernels *kernels, struct params *params,
                        const uint32_t *ids, uint32_t count, float *logits);
