// SPDX-License-Identifier: MIT
// Trains a byte-level BPE (Sennrich et al. 2016; bytes: Radford et al. 2019) on text. The same text
// gives the same file: the most frequent pair is joined first, of equally frequent ones that with
// the lowest ids. Ids: the 256 bytes in the order of their characters (as in GPT-2's vocabulary),
// what the merges give, special tokens.
#pragma once

#include "src/tokenizer.h"

struct tokenizer_trainer;

struct tokenizer_training {
    uint32_t           vocab_size; // ids, special tokens included; at least 256 and these
    const char        *expression; // cuts words; a name or an expression, NULL: "llama3"
    const char *const *special;    // behind "<|endoftext|>", "<|bos|>", "<|pad|>"
    uint32_t           special_count;
};

// What is known of the training when it is done.
struct tokenizer_trained { uint64_t bytes, words, unique; uint32_t merges; };

// The expression of a name ("gpt2", "llama3", "qwen2"), or the text itself.
const char *tokenizer_expression(const char *name);

// NULL after one line: a vocabulary too small, an expression that is none.
struct tokenizer_trainer *tokenizer_trainer_create(const struct tokenizer_training *params);
void                      tokenizer_trainer_destroy(struct tokenizer_trainer **trainer);
// One document; its words are counted. False after one line.
bool tokenizer_trainer_add(struct tokenizer_trainer *trainer, const char *text, size_t bytes);
// NULL after one line. Fewer ids than wanted where no pair is there twice.
struct tokenizer *tokenizer_trainer_finish(struct tokenizer_trainer *trainer,
                                           struct tokenizer_trained *report);
