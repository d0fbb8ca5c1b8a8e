// SPDX-License-Identifier: MIT
// What the parts of src/score share.
#pragma once

#include "evaluator.h"
#include "score.h"

// ids [count], of which the last `scored` are.
struct score_request {
    uint32_t *ids;
    uint32_t  count, scored;
    double    logp;
};

// Of an item: one request for each choice, or one for each window of a text. All begin with the
// same `shared` ids.
struct score_requests {
    struct score_request *request;
    uint32_t              count, shared;
    uint64_t              cut;
    struct arena         *arena;
};

// score_encode.c
bool score_encode(const struct vkmoe_model *model, const struct task *task, uint64_t index,
                  const struct score_settings *settings, uint32_t context,
                  struct score_requests *out);
void score_requests_free(struct score_requests *requests);
// Ids of the item's prompt, at most `most` of them, those at its end. Appends to `out`.
bool score_encode_prompt(const struct vkmoe_model *model, const struct task *task, uint64_t index,
                         const struct score_settings *settings, uint32_t most,
                         struct encoding *out, uint64_t *cut);

// score_batch.c: rows of batches.
struct score_batches;
struct score_batches *score_batches_create(struct vkmoe_model *model, uint32_t context);
void                  score_batches_destroy(struct score_batches **batches);
void                  score_batches_drop(struct score_batches *batches); // plans leave the device
uint32_t score_bucket(uint32_t tokens, uint32_t context); // tokens of the row that they take
bool score_batches_run(struct score_batches *batches, struct score_request *const *request,
                       uint64_t count);

// score_prefix.c: the shared part of an item's requests once.
struct score_prefix;
struct score_prefix *score_prefix_create(struct vkmoe_model *model, uint32_t context);
void                 score_prefix_destroy(struct score_prefix **prefix);
void                 score_prefix_drop(struct score_prefix *prefix);
uint64_t score_prefix_tokens(const struct score_requests *requests); // that the device works on
bool score_prefix_run(struct score_prefix *prefix, struct score_requests *requests);

// score_generate.c
bool score_generate(struct vkmoe_model *model, const struct task *task,
                    const struct score_settings *settings, uint32_t context,
                    struct score_answer *answers, score_done_fn *done, void *user);
