// SPDX-License-Identifier: MIT
// Text -> ids, for tokenizers that are not byte by byte, and the files that keep them: a set of
// texts has one file, named by a hash of the texts and the tokenizer, in the folder for caches. It
// is written beside, then renamed, and mapped on use, when its checksum is that of all of it; one
// that is not whole, or of something else, is made anew. Sets that would not fit in memory are
// written to such a file in any case, which loses its name at once where none is to be kept.
//
//     ids (16 or 32 bits), padded to 8 bytes | u64 ids of each document | footer (64 bytes)
#pragma once

#include "config.h"
#include "data_source.h"

enum { CORPUS_CACHE_LEAST = 16 << 20 }; // bytes of text from which on "auto" keeps their ids

// Text becomes ids; `bytes` stays that of the text. False after one line.
bool corpus_encode(struct documents *documents, const struct tokenizer *tokenizer,
                   const struct config_corpus *rules);
// What names the file: xxh64 of texts, how they are cut into documents, and the tokenizer.
uint64_t corpus_tokens_key(const struct documents *documents, const struct tokenizer *tokenizer);
// PATH of the file for a key. False after one line.
bool corpus_tokens_path(uint64_t key, char *path, size_t bytes);
