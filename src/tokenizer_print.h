// SPDX-License-Identifier: MIT
// Writes a byte-level tokenizer.json: what tokenizer_create_bytes and training make.
#pragma once

#include <stdint.h>

struct cJSON;

struct tokenizer_contents {
    const char *const *entry;   // [entry_count] in byte characters; their ids are 0 and on
    uint32_t           entry_count;
    const uint32_t    *left, *right; // [merge_count] ids
    uint32_t           merge_count;
    const char *const *special; // [special_count] their ids follow
    uint32_t           special_count;
    const char        *expression; // that cuts words, NULL: none
};
char *tokenizer_print(const struct tokenizer_contents *contents); // cJSON_free it
void  tokenizer_print_special(struct cJSON *added_tokens, uint32_t id, const char *text);
