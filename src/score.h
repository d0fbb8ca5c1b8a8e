// SPDX-License-Identifier: MIT
// A task's items under a model: log-probabilities of continuations, and generated answers.
//
// Where prompt and continuation meet: the prompt is encoded, and so is the prompt with each
// continuation. The items' continuations are scored from the same token on, the first one after
// which these encodings differ from the prompt's: a token that reaches over the border counts for
// the continuation, and where it does for one choice, the others are scored from there too. Where
// nothing stands in front, the end-of-text token does. What is longer than the model's context
// loses tokens at its front, as many for all choices of an item, never one that is scored.
//
// A continuation is a row of a batch whose length is the next power of two, so what it is worth
// does not depend on what else is in the batch. Where the choices of an item share so much that
// this saves half of the tokens, the shared part goes into a KV cache once (not with a sliding
// window, where that would move last digits).
#pragma once

#include "task.h"
#include "vkmoe_internal.h"

enum score_sharing { SCORE_SHARE_WHERE_IT_PAYS, SCORE_SHARE_NEVER, SCORE_SHARE_ALWAYS };

struct score_settings {
    uint32_t shots;
    uint64_t seed;               // of the shots
    uint32_t max_tokens;         // generated; 0: the item's own, else 256
    uint32_t stride;             // of a sliding window over a text; 0: the context
    uint32_t context;            // 0: the model's
    bool     template;           // what the tokenizer's file puts in front of a text ("<s>")
    enum score_sharing sharing;
};

struct score_answer {
    bool      done;
    double   *logp;   // [choice_count] nats; of text: all tokens
    uint32_t *tokens; // [choice_count] that were scored
    uint64_t  cut;    // tokens that the prompt lost at its front
    char     *text;   // generated, UTF-8 without zero bytes; free() it
};

// [count], with room for the items' choices; NULL texts.
struct score_answer *score_answers_create(const struct task *task);
void                 score_answers_destroy(struct score_answer **answers, const struct task *task);

// Called with an answer that has just been done. False ends the scoring.
typedef bool score_done_fn(void *user, uint64_t index);

// Fills all answers that are not done. False after one line, on an interrupt (without one), or
// where `done` says so.
bool score_task(struct vkmoe_model *model, const struct task *task,
                const struct score_settings *settings, struct score_answer *answers,
                score_done_fn *done, void *user);
