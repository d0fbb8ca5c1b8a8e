// SPDX-License-Identifier: MIT
// Text <-> token ids. Today: byte-level, one id a byte, and three special tokens; a
// tokenizer.json of Hugging Face's ByteLevel kind without merges opens too, with its own ids.
//
// Encoding has no context: the encoding of a part is the part of the encoding (src/data cuts
// documents anywhere). The text of a special token is encoded as plain bytes, so that a document
// cannot end itself by quoting a token's name.
#pragma once

#include "base.h"

enum {
    TOKENIZER_EOT = 256,   // "<|endoftext|>": end of a document, and the stop token
    TOKENIZER_BOS = 257,   // "<|bos|>"
    TOKENIZER_PAD = 258,   // "<|pad|>"
    TOKENIZER_BYTES_COUNT = 259,
};
#define TOKENIZER_NONE 0xffffffffu // no such id

struct tokenizer;

// Ids 0..255 are the bytes; then the three special tokens above.
struct tokenizer *tokenizer_create_bytes(void);
// Reads a tokenizer.json. What it cannot do is refused in one line that says what is supported.
struct tokenizer *tokenizer_load(const char *path);
// The same from text; `name` stands for the file in messages.
struct tokenizer *tokenizer_parse(const char *name, const char *text, size_t bytes);
void              tokenizer_destroy(struct tokenizer **tokenizer);
// Writes Hugging Face's tokenizer.json (beside, then renamed): the package `tokenizers` loads it
// and gives the same ids.
bool tokenizer_save(const struct tokenizer *tokenizer, const char *path);

// ids has room for `bytes` entries; returns how many were written (never more than bytes).
size_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                        uint32_t *ids);
// Appends the text of the ids; special and unknown ids give nothing.
void tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                      struct bytes *out);
// One more than the largest id: what vocab_size must reach.
uint32_t tokenizer_count(const struct tokenizer *tokenizer);
// The id that ends a document, TOKENIZER_NONE where the file has no such token.
uint32_t tokenizer_eot(const struct tokenizer *tokenizer);
// Bytes of text that the id stands for: 0 for a special or unknown one.
uint32_t tokenizer_id_bytes(const struct tokenizer *tokenizer, uint32_t id);
