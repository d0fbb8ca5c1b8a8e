// SPDX-License-Identifier: MIT
// The regular expressions of tokenizer files, which are written for Oniguruma, through PCRE2. Only
// what both read alike is taken, after \s, \d and scripts were spelled out as Oniguruma means them;
// the rest (\b, \w, ^, nested classes, ...) is refused.
#pragma once

#include "src/tokenizer_internal.h"

// NULL after one line that names the file and the field.
struct pattern *pattern_create(const char *name, const char *field, const char *expression);
struct pattern *pattern_create_literal(const char *name, const char *field, const char *text);
void            pattern_destroy(struct pattern **pattern);

// What matching writes into: one for each thread.
struct pattern_scratch;
struct pattern_scratch *pattern_scratch_create(void);
void                    pattern_scratch_destroy(struct pattern_scratch **scratch);

// The first match at or behind `from` in valid UTF-8: 1 and [*begin, *end), not empty; 0: there is
// none; -1 after one line: matching gave up.
int pattern_next(const struct pattern *pattern, struct pattern_scratch *scratch,
                 struct slice text, size_t from, size_t *begin, size_t *end);
