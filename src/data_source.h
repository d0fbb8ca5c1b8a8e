// SPDX-License-Identifier: MIT
// The first half of src/data: paths -> documents. Finds files in folders, tells text from the
// rest, reads .jsonl and .bin shards, cuts them into documents. No splits, no windows.
#pragma once

#include "data.h"
#include "runtime/file.h"

enum data_kind {
    KIND_TEXT, KIND_C, KIND_GLSL, KIND_MARKDOWN, KIND_JSON, KIND_MESON, KIND_SHELL, KIND_PYTHON,
    KIND_JSONL, KIND_TOKENS,
    KIND_TOY_COPY, KIND_TOY_REVERSE, KIND_TOY_SORT, KIND_TOY_SUM, KIND_TOY_BRACKETS,
    KIND_CHAT, KIND_WIKI, KIND_COUNT,
};
const char *data_kind_name(enum data_kind kind);

struct document {
    const void    *start;  // text, or ids
    const uint8_t *scored; // [count] 0 or 1; NULL: all, the end too. Not of text
    uint64_t       count;  // tokens, without an end-of-text (of text: bytes)
    uint64_t       bytes;  // of text that the scored ones stand for, 0 where unknown
    uint32_t       source; // which of the paths it is of
    uint8_t        width;  // 1: text; 2 or 4: bytes of an id
    uint16_t       kind;   // enum data_kind, or KIND_COUNT + place in documents.name
    bool           ends;   // an end-of-text is appended
    uint8_t        split;  // 1 + enum data_split where the source decides it, else 0
};

struct corpus_room; // corpus_room.h

struct documents {
    struct document *document;
    uint64_t         count, capacity;
    struct corpus_room *room;      // of text and ids, in memory or in files
    const char     **name;         // of domains that are no kind, see document_add
    uint32_t         name_count;
    struct arena    *arena;        // of what is small
    uint32_t         eot;          // appended where a document ends; TOKENIZER_NONE: nothing is
    bool             eot_from_file; // no tokenizer: the first shard's width decides
};

// A document of text, which stays where it is; an empty one is none.
void documents_add_text(struct documents *documents, enum data_kind kind, const void *text,
                        uint64_t bytes);
// One that is copied. False after one line.
bool documents_copy_text(struct documents *documents, enum data_kind kind, const void *text,
                         uint64_t bytes);
extern const char data_told[]; // a problem of a line that has its own line already
// The documents of a .jsonl; `path` stands for it in messages. False after one line.
bool data_json_lines(struct documents *documents, const struct data_params *params,
                     const char *path, const char *text, uint64_t bytes);
// A document that its source has rendered itself. scored: see struct document. Both are copied.
// domain: the name under which routing is told apart; one that a kind has is that kind's. False
// after one line: there is no room.
bool document_add(struct documents *documents, const uint32_t *ids, const uint8_t *scored,
                  uint64_t count, const char *domain);
uint64_t document_scored(const struct document *document); // tokens, the end included
// Bytes of text that the scored tokens among [from, from + count) of a document stand for; the part
// may reach over its end.
uint64_t document_bytes(const struct document *document, uint64_t from, uint64_t count,
                        const struct tokenizer *tokenizer);
// Cuts a document in two behind `front` tokens; the first has no end-of-text, the second comes
// last of all.
void documents_cut(struct documents *documents, uint64_t index, uint64_t front,
                   const struct tokenizer *tokenizer);
// Starts from zeroed `out`; documents_finish is due whether this succeeds or not.
bool documents_collect(struct documents *out, const struct data_params *params);
void documents_finish(struct documents *documents);
