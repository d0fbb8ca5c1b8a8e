// SPDX-License-Identifier: MIT
// Rows of the hash tables for bigrams and trigrams of token ids (BigramHash of PR 660 of
// openai/parameter-golf). In 32 bits, which wrap: like there for ids up to 59,138.
#pragma once

#include "config.h"

enum { NGRAM_BEFORE = 2 }; // tokens that a row looks back at

// The row of table `which` (0: bigrams, 1: trigrams) for at[0], with at[-1] and at[-2] before it;
// KERNEL_NONE_ID: not there. A token that is not there has no row.
uint32_t ngram_row(const struct config *config, uint32_t which, const uint32_t *at);
// Rows of `count` tokens in sequences of `seq`, or of the documents in them, which have the places
// begins[i] on (batch.h); NULL: a sequence is one.
void ngram_rows(const struct config *config, uint32_t which, const uint32_t *ids,
                const uint32_t *begins, uint32_t count, uint32_t seq, uint32_t *rows);
// Table size, 0: there is none.
uint32_t ngram_size(const struct config *config, uint32_t which);
