// SPDX-License-Identifier: MIT
// What the files of the tokenizer share: the tokenizer as it was read, its vocabulary, and the
// steps of encoding in the order in which a text goes through them: added tokens, normalizer,
// pre-tokenizer, byte pairs.
#pragma once

#include <stdatomic.h>

#include "src/tokenizer.h"

enum {
    TOKENIZER_FILE_LIMIT = 1 << 28,
    TOKENIZER_ID_LIMIT = 1 << 20,
    TOKENIZER_MERGE_LIMIT = 1 << 24,
};

// A text, or a part of one.
struct slice { const uint8_t *data; size_t count; };

static inline struct slice slice_of(const char *text)
{
    size_t count = 0;
    while (text[count]) count++;
    return (struct slice){(const uint8_t *)text, count};
}

// ---- vocabulary

struct token {
    const char  *text;    // as the file spells it, NULL: no such id
    struct slice model;   // what merging sees: bytes (byte-level) or UTF-8; empty: not reached
    struct slice decoded; // the text it stands for
    uint32_t     span;    // bytes of the model's text that it covers
    bool         special;
};

// Open addressing, slots of u64: 40 bits of (left, right), 24 bits of rank.
struct pair_table { uint64_t *slot; uint32_t shift; uint64_t mask; };

struct added_token {
    struct slice content;     // what is looked for
    uint32_t     id;
    bool         special, left, right; // strips white space at its left, right
};
struct added_tokens {
    struct added_token *token; // [count] by first byte, then the longest first
    uint32_t            count;
    uint32_t            first[257]; // range of each first byte
};

// ---- steps of a text

enum normal_kind { NORMAL_PREPEND, NORMAL_REPLACE, NORMAL_NFC };
struct normal_step { enum normal_kind kind; struct slice from, to; };

struct pattern; // tokenizer_pattern.h
enum split_kind { SPLIT_PATTERN, SPLIT_METASPACE, SPLIT_PREFIX };
enum split_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };
enum prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };
struct split_step {
    enum split_kind     kind;
    enum split_behavior behavior;
    struct pattern     *pattern;
    bool                invert;
    enum prepend        prepend;     // Metaspace
    struct slice        replacement; // of a space
    bool                split;       // Metaspace: in front of each replacement
};

enum { STEPS_MOST = 16, TEMPLATE_MOST = 8 };

struct encoder; // tokenizer_encode.c: the scratch memory of one call

struct tokenizer {
    struct arena       *arena;
    struct slice        source; // the file
    struct token       *token;  // [count]
    uint32_t            count;
    uint32_t           *string; // hash table of ids by `model`
    uint32_t            string_mask;

    // model
    bool                byte_level, byte_fallback, fuse_unk, ignore_merges;
    bool                unk_merged;    // merges spell the unknown token
    uint32_t            unk;           // TOKENIZER_NONE: what is unknown is dropped
    uint32_t            byte[256];     // byte-level: each byte's id; else of "<0x00>" to "<0xFF>"
    uint32_t            ascii[128];    // not byte-level: of these characters
    uint32_t           *merged;        // [merge_count] what merge number i gives
    uint32_t            merge_count;
    struct pair_table   pairs;
    bool                cuts;          // texts are cut where no merge joins: not byte-level
    bool                joins[128][128]; // ... between these characters one may
    bool                cut_at_space;  // none goes over the front of a Metaspace replacement
    struct slice        space;         // that replacement

    struct added_tokens raw, normal;   // looked for in the text, and in the normalized text
    struct normal_step  normalizer[STEPS_MOST];
    uint32_t            normal_count;
    struct split_step   split[STEPS_MOST];
    uint32_t            split_count;
    uint32_t            before[TEMPLATE_MOST], after[TEMPLATE_MOST]; // post_processor
    uint32_t            before_count, after_count;
    bool                trim_spans, trim_prefix;
    struct slice        strip;         // decoding a whole text: what is taken off its front, once
    bool                drop_first_spaces; // ... or all spaces of the first token (Metaspace)
    uint32_t            eot, specials;
    const char         *summary;

    void               *nfc;           // tokenizer_normal.c
    struct encoder     *shared;        // of the caller that comes first
    atomic_flag         shared_taken;
};

// tokenizer_text.c
bool         prints_itself(uint32_t byte);
void         byte_to_text(uint32_t byte, char out[3]);
bool         text_to_bytes(const char *text, uint8_t *out, size_t *count); // byte characters
uint32_t     utf8_length(const uint8_t *text, size_t count); // of the character here, 0: broken
size_t       utf8_valid(const uint8_t *text, size_t count);  // bytes until something is broken
// JSON with \u0000 in it: cJSON's strings end there, so it would silently cut the text.
bool         json_has_zero(const char *text, size_t count);
uint32_t     utf8_code(const uint8_t *text, uint32_t length);
bool         is_white_space(uint32_t code);
const char  *shown_text(char out[104], const char *text); // for a log line: at most 100 bytes
#define SHOWN(text) shown_text((char[104]){0}, text)
uint64_t     text_hash(const uint8_t *text, size_t count);

// tokenizer_vocab.c
uint32_t     vocab_find(const struct tokenizer *tokenizer, struct slice model);
void         vocab_index(struct tokenizer *tokenizer); // fills the hash table
void         pairs_create(struct pair_table *pairs, uint32_t count, struct arena *arena);
bool         pairs_add(struct pair_table *pairs, uint32_t left, uint32_t right, uint32_t rank);

static inline uint64_t pair_key(uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 20 | right) << 24;
}

// The rank of the merge, TOKENIZER_NONE: there is none.
static inline uint32_t pairs_find(const struct pair_table *pairs, uint32_t left, uint32_t right)
{
    const uint64_t key = pair_key(left, right);
    for (uint64_t at = (key >> 24) * 0x9e3779b97f4a7c15u >> pairs->shift;; at++) {
        const uint64_t slot = pairs->slot[at & pairs->mask];
        if (slot == UINT64_MAX) return TOKENIZER_NONE;
        if ((slot ^ key) < 1u << 24) return (uint32_t)(slot & 0xffffff);
    }
}

// tokenizer_bpe.c: appends the ids of one word; merging never looks over its ends.
struct word_cache;
struct merger; // scratch memory of merging
struct merger *merger_create(void);
void           merger_destroy(struct merger **merger);
bool           merge_word(const struct tokenizer *tokenizer, struct merger *merger,
                          const uint8_t *word, size_t count, const uint8_t *readable_end,
                          struct encoding *out);
// Lengths of the unknown tokens of the last merge_word, in order.
const uint64_t *merger_unknown(const struct merger *merger);

// tokenizer_encode.c
void encoder_destroy(struct encoder **encoder);
void encoding_reserve(struct encoding *encoding, size_t more);

// tokenizer_normal.c: text with where each byte came from (NULL: it is not asked for)
struct text_buffer {
    struct bytes           bytes;
    struct tokenizer_span *origin; // [origin_capacity]
    size_t                 origin_capacity;
};
struct piece {
    struct slice                 text;
    const struct tokenizer_span *origin; // of each byte; NULL: they are `base` and on
    uint64_t                     base;
};
static inline struct tokenizer_span piece_origin(const struct piece *piece, size_t i)
{
    if (piece->origin) return piece->origin[i];
    return (struct tokenizer_span){piece->base + i, piece->base + i + 1};
}
void buffer_put(struct text_buffer *buffer, const void *text, size_t count,
                const struct tokenizer_span *origin); // one origin for all of it; NULL: not wanted
void buffer_copy(struct text_buffer *buffer, const struct piece *piece, size_t from, size_t to,
                 bool track);
void buffer_free(struct text_buffer *buffer);
struct piece buffer_piece(const struct text_buffer *buffer, bool track);
// One step: appends the normalized piece.
void normal_apply(const struct tokenizer *tokenizer, const struct normal_step *step,
                  const struct piece *piece, bool track, struct text_buffer *out);
bool nfc_create(struct tokenizer *tokenizer, const char *name); // false: built without utf8proc
void nfc_destroy(struct tokenizer *tokenizer);

// tokenizer_steps.c, on parts of the file
struct cJSON;
bool steps_read(struct tokenizer *tokenizer, const char *name, const struct cJSON *root);
void steps_destroy(struct tokenizer *tokenizer);
void decoder_apply(struct tokenizer *tokenizer, const struct cJSON *root);
bool added_read(struct tokenizer *tokenizer, const char *name, const struct cJSON *added);
