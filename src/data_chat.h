// SPDX-License-Identifier: MIT
// Conversations -> ids: "messages": [{"role": "user", "content": "..."}, ...] becomes
//
//     <|user|>...<|end|><|assistant|>...<|end|>
//
// whose tags are special tokens (tokenizer_extend), each message encoded by itself without any, so
// that no content can speak in another's name. Scored is what the assistant says, and the tag that
// ends it. "weight": 0 in a message (OpenAI's fine-tuning files) leaves that out.
#pragma once

#include "data_source.h"

struct cJSON;

enum chat_tag { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL, CHAT_END, CHAT_TAGS };
extern const char *const chat_tags[CHAT_TAGS]; // "<|system|>" ... "<|end|>"

// The first tag that the tokenizer lacks as a special token; NULL: it has them all.
const char *chat_tag_missing(const struct tokenizer *tokenizer);
// Whether a file's first line, or that of a .jsonl in a folder, is a conversation.
bool chat_is_there(const char *path);

// Ids that grow, and which of them are scored: [encoding.count].
struct chat {
    struct encoding encoding;
    uint8_t        *scored;
    size_t          room;
};
void chat_free(struct chat *chat);
// Appends a message. False after one line: the tokenizer gives up on the text.
bool chat_message(struct chat *chat, const struct tokenizer *tokenizer, enum chat_tag role,
                  const char *text, size_t bytes, bool scored);
// Appends what a reply begins with.
bool chat_reply(struct chat *chat, const struct tokenizer *tokenizer);

// The documents of the value of "messages". What is wrong with it, NULL: nothing; `text` has room
// for the words. unscored: counts conversations in which nothing is scored, which are left out.
const char *chat_document(struct documents *out, const struct data_params *params,
                          const struct cJSON *messages, uint64_t *unscored, char text[200]);
