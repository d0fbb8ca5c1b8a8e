// SPDX-License-Identifier: MIT
// The ids of a text of any length, part by part, the same as if it were encoded at once: parts
// overlap, and where both encodings of the overlap have the same tokens for long enough one goes on
// for the other. Where they never have (one word of kilobytes), the rest is encoded at once.
#pragma once

#include "data_source.h"

enum { CORPUS_TEXT_PART = 1 << 20, CORPUS_TEXT_OVERLAP = 16 << 10 };

typedef bool corpus_take_ids(void *user, const uint32_t *ids, uint64_t count);
// False after one line, or where `take` returned false.
bool corpus_text_encode(const struct document *document, const struct tokenizer *tokenizer,
                        struct corpus_room *room, corpus_take_ids *take, void *user);
// The same in parts of `part` bytes: for tests.
bool corpus_text_encode_parts(const struct document *document, uint64_t part, uint64_t overlap,
                              const struct tokenizer *tokenizer, struct corpus_room *room,
                              corpus_take_ids *take, void *user);
