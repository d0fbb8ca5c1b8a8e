// SPDX-License-Identifier: MIT
// A pattern (fct_read.h) -> four sequences of token ids, one for each thing that is to be learnt
// from it. What stands in a tag is the text of a field, encoded by itself; tags are special tokens.
//
//   UPDATE   [OBSERVE]trigger[/OBSERVE] [PRIOR]prior_belief[/PRIOR] [UPDATE]update[/UPDATE]
//   RIPPLE   [OBSERVE]trigger[/OBSERVE] [UPDATE]update[/UPDATE] [RIPPLE]ripple[/RIPPLE]
//   ANALOGY  [PATTERN]pattern[/PATTERN] [DOMAIN]domain[/DOMAIN] [OBSERVE]trigger[/OBSERVE]
//            [ANALOGY]analogy[/ANALOGY]
//   ACT      [OBSERVE]trigger[/OBSERVE] [UPDATE]update[/UPDATE] [ACT]action_delta[/ACT]
//
// without the spaces and line breaks between tags. This is OBSERVE -> PRIOR -> UPDATE -> RIPPLE ->
// ANALOGY -> ACT taken apart, each link with what it follows from (the prompts of ARCHE3's tests).
// Scored is the payload, the text in the last tag; all tags, its closing one too, and all inputs
// are masked. The rendering depends on nothing but the pattern and the tokenizer.
#pragma once

#include "fct_read.h"
#include "tokenizer.h"

enum fct_task { FCT_TASK_UPDATE, FCT_TASK_RIPPLE, FCT_TASK_ANALOGY, FCT_TASK_ACT, FCT_TASKS };

enum { FCT_TAG_TOKENS = 16 }; // opening and closing ones
extern const char *const fct_tags[FCT_TAG_TOKENS];

const char *fct_task_name(enum fct_task task);   // "UPDATE"
enum fct_field fct_task_payload(enum fct_task task);
// The first tag that is no special token of the tokenizer, NULL: it has them all.
const char *fct_tag_missing(const struct tokenizer *tokenizer);

struct fct_sequence {
    struct encoding encoding; // ids
    uint8_t        *scored;   // [encoding.count] 0 or 1
    size_t          room;     // of scored
};
// Replaces what is in `out` (zeroed at first). The payload is of another pattern where the relation
// between the two is to be destroyed; else both are the same. False after one line.
bool fct_render(const struct tokenizer *tokenizer, const struct fct_pattern *input,
                const struct fct_pattern *payload, enum fct_task task, struct fct_sequence *out);
void fct_sequence_free(struct fct_sequence *sequence);
