// SPDX-License-Identifier: MIT
// The three best-known expressions by hand, for ASCII. A match that looks at any other character is
// left to PCRE2, so there is one source of what Unicode is.
#pragma once

#include "src/tokenizer_internal.h"

enum scan_kind { SCAN_NONE, SCAN_GPT2, SCAN_LLAMA3, SCAN_QWEN2 };

// Which of them an expression is.
enum scan_kind scan_kind_of(const char *expression);
// The end of the match that begins at `at` < count (these expressions match everywhere); 0: it is
// not for this scanner.
size_t scan_match(enum scan_kind kind, const uint8_t *text, size_t at, size_t count);
