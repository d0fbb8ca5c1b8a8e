// SPDX-License-Identifier: MIT
// Patterns of Foundation Curriculum Training: a .jsonl file, one object a line with the eight
// fields below and nothing else, all of them text; ripple and action_delta may be lists of texts.
// A list becomes one text: its parts with a space between, or "; " behind a part that ends without
// punctuation. Whatever a field holds is UTF-8, not empty, without a zero character, and without
// tags: what looks like one ("[UPDATE]", "[/ACT]", any capitals in brackets) is refused, because
// the renderer alone writes those. Blank lines are passed over.
#pragma once

#include "src/base.h"

enum fct_field {
    FCT_TRIGGER,
    FCT_PRIOR_BELIEF,
    FCT_UPDATE,
    FCT_ANALOGY,
    FCT_ACTION_DELTA,
    FCT_RIPPLE,
    FCT_PATTERN, // its name
    FCT_DOMAIN,
    FCT_FIELDS
};

enum { FCT_LINE_BYTES = 64 << 10 }; // a longer line is refused before it is read

struct fct_pattern {
    const char *field[FCT_FIELDS]; // zero-ended
    const char *file;              // where it stands
    uint64_t    line;              // from 1
};

struct fct_patterns {
    struct fct_pattern *pattern; // in the arena, in the order of the files and their lines
    uint64_t            count, capacity;
};

// What is wrong with a line, in words: "file:line: field: found ..., wanted ...".
struct fct_fault {
    const char *file;
    uint64_t    line;
    const char *field; // "line" where it is no field's
    const char *found, *wanted;
};
typedef void fct_fault_fn(void *user, const struct fct_fault *fault);

const char *fct_field_name(enum fct_field field); // as the files write it: "prior_belief"
void        fct_log_fault(const struct fct_fault *fault); // as an error

// Appends the patterns of a file, or of all .jsonl files of a folder in the order of their names.
// False after one line, at the first fault, or where there is no pattern; *out is as it was.
bool fct_read(const char *path, struct arena *arena, struct fct_patterns *out);

// The same, but faults are told, as below; true where all files could be read.
bool fct_read_told(const char *path, struct arena *arena, fct_fault_fn *fault, void *user,
                   struct fct_patterns *out);

// The patterns of a text; `name` stands for its file. With `fault` each fault of each line is told
// instead of logged, lines with one are left out, the result is whether there was none; a text
// without patterns is one fault. Strings are copied into the arena, `name` too.
bool fct_parse(const char *name, const char *text, uint64_t bytes, struct arena *arena,
               fct_fault_fn *fault, void *user, struct fct_patterns *out);
