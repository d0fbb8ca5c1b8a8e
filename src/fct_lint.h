// SPDX-License-Identifier: MIT
// What a set of patterns must hold beyond being readable, so that a curriculum of them means
// something: lengths, names, nothing said twice, domains of like size. The limits are here; a
// finding says what was found and what is wanted, in the words of fct_read.h's faults.
#pragma once

#include "src/fct_read.h"

enum {
    // Bytes of a payload: three of them, with tags, a name and a domain, fit a sequence of 1,024.
    FCT_PAYLOAD_LEAST = 40, FCT_PAYLOAD_MOST = 300,
    FCT_NAME_LEAST = 3, FCT_NAME_MOST = 60, // of a pattern, a domain
    FCT_GRAM_WORDS = 5,    // texts are compared by their runs of five words ...
    FCT_NEAR_PERCENT = 50, // ... of the text with fewer: so many in another text are a finding
    FCT_OPENING_WORDS = 3, // the first words of a field ...
    FCT_OPENINGS_MOST = 3, // ... are shared by at most so many patterns
    FCT_BALANCE_PERCENT = 125, // largest domain, in percent of the smallest
};

struct fct_domain_count {
    const char *name;
    const char *file;              // of its first pattern
    uint64_t    line;              // ... of its last
    uint64_t    patterns;
    uint64_t    bytes[FCT_FIELDS]; // sums
};

struct fct_lint_report {
    struct fct_domain_count *domain; // in the order of their first patterns; in the arena
    uint32_t                 domains;
    uint64_t                 patterns, findings;
};

// Reads files and folders and tells each finding: faults of lines first, file by file, then those
// of patterns, then those between them. False after one log line where a file cannot be read;
// findings are no failure.
bool fct_lint(const char *const *path, int path_count, struct arena *arena,
              fct_fault_fn *finding, void *user, struct fct_lint_report *out);
