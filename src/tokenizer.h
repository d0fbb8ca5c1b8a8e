// SPDX-License-Identifier: MIT
// Text <-> token ids: byte-level, or any Hugging Face tokenizer.json of the BPE kind. What such a
// file asks for is done exactly or refused in one line that names the file and the field.
//
// Text is bytes: broken UTF-8 is encoded too (a run of bytes that is none is a word of its own),
// and with a byte-level tokenizer decoding gives the same bytes back. A special token's text is
// recognised only where TOKENIZER_SPECIAL asks for it, so that a document cannot end itself by
// quoting a token's name. The encoding of a part is in general not the part of the encoding; where
// each byte has its own id (tokenizer_byte_ids) it is.
//
// A tokenizer is not changed by its use; all functions on a const one may be called by several
// threads at once.
#pragma once

#include "base.h"

enum {
    TOKENIZER_EOT = 256,   // "<|endoftext|>": end of a document, and the stop token
    TOKENIZER_BOS = 257,   // "<|bos|>"
    TOKENIZER_PAD = 258,   // "<|pad|>"
    TOKENIZER_BYTES_COUNT = 259,
};
#define TOKENIZER_NONE 0xffffffffu // no such id

enum tokenizer_flags {
    TOKENIZER_SPECIAL = 1,  // special tokens in the text become their ids
    TOKENIZER_TEMPLATE = 2, // what the file's post_processor puts around a text ("<s>")
};

struct tokenizer;

// Ids 0..255 are the bytes; then the three special tokens above.
struct tokenizer *tokenizer_create_bytes(void);
// Reads a tokenizer.json. What it cannot do is refused in one line.
struct tokenizer *tokenizer_load(const char *path);
// The same from text; `name` stands for the file in messages.
struct tokenizer *tokenizer_parse(const char *name, const char *text, size_t bytes);
// A copy with more special tokens (tags), whose ids follow the largest; one that is there already
// stays as it is.
struct tokenizer *tokenizer_extend(const struct tokenizer *tokenizer, const char *const *special,
                                   uint32_t count);
void              tokenizer_destroy(struct tokenizer **tokenizer);
// Writes its tokenizer.json (beside, then renamed): the text it was read from, or that the package
// `tokenizers` reads with the same ids.
bool tokenizer_save(const struct tokenizer *tokenizer, const char *path);

// Bytes [begin, end) of the text that a token stands for.
struct tokenizer_span { uint64_t begin, end; };

// Ids that grow. span is filled along where `with_spans` was set before the first call.
struct encoding {
    uint32_t              *id;   // [count]
    struct tokenizer_span *span; // [count], NULL without with_spans
    size_t                 count, capacity;
    bool                   with_spans;
};
// Appends the ids of the text; flags: enum tokenizer_flags. False after one line where the text
// cannot be encoded (the expression of the file gives up on it).
bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                      unsigned flags, struct encoding *out);
void encoding_free(struct encoding *encoding);

// Appends the text of the ids, as the continuation of a text; special and unknown ids give nothing.
void tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                      struct bytes *out);
// The same for the ids of a whole text: without the space that encoding put in front of it.
void tokenizer_decode_whole(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                            struct bytes *out);

// One more than the largest id: what vocab_size must reach.
uint32_t tokenizer_count(const struct tokenizer *tokenizer);
// The id that ends a document, TOKENIZER_NONE where the file has no such token.
uint32_t tokenizer_eot(const struct tokenizer *tokenizer);
// The id of an added or special token by its text, else of the vocabulary's entry as the file
// spells it; TOKENIZER_NONE: there is none.
uint32_t tokenizer_id(const struct tokenizer *tokenizer, const char *text);
// Whether the id is a special token.
bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id);
// The entry as the file spells it, NULL where the id has none.
const char *tokenizer_id_text(const struct tokenizer *tokenizer, uint32_t id);
// Bytes of text that the id stands for: 0 for a special or unknown one.
uint32_t tokenizer_id_bytes(const struct tokenizer *tokenizer, uint32_t id);
// [256]: the id of each byte, where text is encoded byte by byte; NULL where bytes are merged.
const uint32_t *tokenizer_byte_ids(const struct tokenizer *tokenizer);
// Changes when the tokenizer does: xxh64 of its file.
uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer);
// What it is, in one line: "byte-level BPE, 50257 ids, 50000 merges, 1 special token".
const char *tokenizer_summary(const struct tokenizer *tokenizer);
