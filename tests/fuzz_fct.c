// SPDX-License-Identifier: MIT
// The reader of curriculum patterns, and their linter, against damaged files. A case is a .jsonl.
// What must hold for any input: no access outside, one log line if the text is refused and none
// else; the reader that tells all faults takes and refuses the same; every field of a pattern that
// was taken is text.
#define FUZZ_NAME "fuzz_fct"
#define FUZZ_WORDS                                                                            \
    "\"trigger\":", "\"ripple\":", "\"domain\":\"d\"", "[\"a\",\"b.\"]", "[UPDATE]", "[/ACT]",  \
        "\\n", "\xc3\xa9", "\xed\xa0\x80", "one two three four five six", "  "
#include "tests/fuzz.h"

#include "src/fct_lint.h"

static void count_fault(void *user, const struct fct_fault *fault)
{
    require(fault->file && fault->line && *fault->found && *fault->wanted, "a fault without words");
    ++*(uint64_t *)user;
}

static void check_patterns(const struct fct_patterns *patterns)
{
    for (uint64_t i = 0; i < patterns->count; i++) {
        const struct fct_pattern *p = &patterns->pattern[i];
        require(p->line > 0 && (i == 0 || p->line > p[-1].line), "lines are not in order");
        for (uint32_t f = 0; f < FCT_FIELDS; f++)
            require(p->field[f] && *p->field[f] && !strstr(p->field[f], "[UPDATE]"),
                    "a field without text, or with a tag");
    }
}

static void check_linter(const uint8_t *data, size_t size, uint64_t patterns, uint64_t faults)
{
    char path[40];
    const char *const paths[] = {path};
    const int file = fuzz_file(data, size, path);
    struct arena *arena = arena_create("fuzz");
    struct fct_lint_report report;
    uint64_t findings = 0;
    require(fct_lint(paths, 1, arena, count_fault, &findings, &report), "a file was not read");
    require(report.patterns == patterns && report.findings == findings && findings >= faults,
            "the linter counts otherwise");
    arena_destroy(&arena);
    close(file);
}

// Returns 1 where the file was taken (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    char *exact = fuzz_exact(data, size);
    struct arena *arena = arena_create("fuzz");
    struct fct_patterns strict = {0}, told = {0};
    uint64_t faults = 0;
    lines = 0;
    const bool good = fct_parse("fuzz", exact, size, arena, NULL, NULL, &strict);
    require(lines == (good ? 0 : 1), "not one line for a refused file, or one for a good one");
    require(good == fct_parse("fuzz", exact, size, arena, count_fault, &faults, &told) &&
                good == (faults == 0),
            "refused without a fault, or taken with one");
    require(good ? strict.count == told.count : strict.count == 0, "patterns of a refused file");
    check_patterns(&told);
    check_linter(data, size, told.count, faults);
    require(lines == (good ? 0 : 1), "the linter says something");
    arena_destroy(&arena);
    free(exact);
    return good;
}

#ifndef VKMOE_LIBFUZZER

#define SIX(field) "\"" field "\":\"one two three four five six\""
#define OTHERS                                                                         \
    "\"prior_belief\":\"p \\u00e9\",\"update\":\"u\"," SIX("analogy") ","              \
    "\"pattern\":\"n\",\"domain\":\"d\"}\n"

static const char *const files[] = {
    "{\"trigger\":\"t\",\"action_delta\":[\"d\",\"e.\",\"f\"],\"ripple\":\"r [1] [\"," OTHERS,
    "\n{" SIX("trigger") ",\"action_delta\":\"d\",\"ripple\":[\"r\"]," OTHERS
    "  \n{\"trigger\":\"one two\",\"action_delta\":\"d\",\"ripple\":[\"r\"]," OTHERS,
};

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(files), 3, 2, .text = files,
                              .try_one = try_one};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
