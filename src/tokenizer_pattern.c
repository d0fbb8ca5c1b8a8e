// SPDX-License-Identifier: MIT
// Expressions: checked and rewritten for PCRE2, compiled with its JIT, matched. See the header.
#include "src/tokenizer_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/tokenizer_scan.h"

enum { JIT_STACK_LEAST = 32 << 10, JIT_STACK_MOST = 16 << 20, LITERAL = PCRE2_LITERAL };

struct pattern { pcre2_code *code; enum scan_kind scan; };

struct pattern_scratch {
    pcre2_match_data    *data;
    pcre2_match_context *context;
    pcre2_jit_stack     *stack;
};

// ---- from Oniguruma's spelling to PCRE2's

struct rewriter {
    const char  *at;
    struct bytes out;
    bool         in_class;
    const char  *problem; // what cannot be taken
};

static void put(struct rewriter *r, const char *text) { bytes_append(&r->out, text, strlen(text)); }

static void copy(struct rewriter *r, size_t count)
{
    bytes_append(&r->out, r->at, count);
    r->at += count;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// \p{L}: a general category has one or two letters; a longer name is a script, and PCRE2 would take
// it with its extensions.
static void rewrite_property(struct rewriter *r)
{
    const char *name = r->at + 3;
    size_t length = 0;
    while (r->at[2] == '{' && is_name(name[length])) length++;
    if (length == 0 || name[length] != '}') {
        r->problem = "\\p without a plain {name}";
        return;
    }
    copy(r, 3);
    if (length > 2) put(r, "sc:");
    copy(r, length + 1);
}

static void rewrite_escape(struct rewriter *r)
{
    static const struct { char letter; const char *as; } spelled[] = {
        {'s', "\\p{White_Space}"}, {'S', "\\P{White_Space}"}, {'d', "\\p{Nd}"}, {'D', "\\P{Nd}"},
        {'n', "\\n"}, {'r', "\\r"}, {'t', "\\t"}, {'f', "\\f"},
    };
    const char letter = r->at[1];
    for (size_t i = 0; i < COUNT_OF(spelled); i++) {
        if (letter != spelled[i].letter) continue;
        put(r, spelled[i].as);
        r->at += 2;
        return;
    }
    const bool plain = letter > ' ' && letter < 127 && !is_name(letter) &&
                       !(letter >= '0' && letter <= '9');
    if (letter == 'p' || letter == 'P')
        rewrite_property(r);
    else if (plain || (letter == 'x' && r->at[2]))
        copy(r, 2);
    else if (letter == 'u' && strlen(r->at) >= 6) {
        bytes_printf(&r->out, "\\x{%.4s}", r->at + 2);
        r->at += 6;
    } else
        r->problem = "an escape that is none of \\s \\S \\d \\D \\n \\r \\t \\f \\p \\P \\x \\u";
}

static void rewrite_in_class(struct rewriter *r)
{
    if (*r->at == '\\') {
        rewrite_escape(r);
    } else if (*r->at == '[') {
        r->problem = "a class within a class";
    } else if (strncmp(r->at, "&&", 2) == 0) {
        r->problem = "&& in a class";
    } else {
        if (*r->at == ']') r->in_class = false;
        copy(r, 1);
    }
}

static void rewrite_group(struct rewriter *r)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strncmp(r->at, known[i], strlen(known[i])) != 0) continue;
        copy(r, strlen(known[i]));
        return;
    }
    if (r->at[1] == '?')
        r->problem = "a group that is none of (?: (?= (?! (?<= (?<! (?> (?i:";
    else if (r->at[1] == '*') // PCRE2's verbs
        r->problem = "(*";
    else
        copy(r, 1);
}

static void rewrite_one(struct rewriter *r)
{
    if (r->in_class) {
        rewrite_in_class(r);
    } else if (*r->at == '\\') {
        rewrite_escape(r);
    } else if (*r->at == '(') {
        rewrite_group(r);
    } else if (*r->at == '^' || *r->at == '$') {
        r->problem = "^ or $, which mean lines or the whole text";
    } else if (strncmp(r->at, "}+", 2) == 0 || strncmp(r->at, "{,", 2) == 0) {
        r->problem = "}+ or {, whose meaning is not the same everywhere";
    } else if (*r->at == '[') {
        r->in_class = true;
        copy(r, r->at[1] == '^' ? 2 : 1);
        if (*r->at == ']') r->problem = "a class that begins with ]";
    } else {
        copy(r, 1);
    }
}

// ---- compiling

static struct pattern *compile(const char *name, const char *field, const char *shown,
                               const char *expression, size_t bytes, uint32_t options)
{
    int code;
    size_t offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)expression, bytes, PCRE2_UTF | options, &code,
                                         &offset, NULL);
    if (!compiled) {
        char message[256] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        log_error("%s: %s: the expression %s: %s", name, field, SHOWN(shown), message);
        return NULL;
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); // where there is no JIT, it is interpreted
    struct pattern *pattern = os_alloc(sizeof *pattern);
    pattern->code = compiled;
    return pattern;
}

struct pattern *pattern_create(const char *name, const char *field, const char *expression)
{
    struct rewriter r = {.at = expression};
    put(&r, "");
    while (*r.at && !r.problem) rewrite_one(&r);
    struct pattern *pattern = NULL;
    if (r.problem)
        log_error("%s: %s: the expression %s has %s; that is not supported", name, field,
                  SHOWN(expression), r.problem);
    else
        pattern = compile(name, field, expression, (const char *)r.out.data, r.out.count, 0);
    if (pattern) pattern->scan = scan_kind_of(expression);
    bytes_free(&r.out);
    return pattern;
}

struct pattern *pattern_create_literal(const char *name, const char *field, const char *text)
{
    if (*text) return compile(name, field, text, text, strlen(text), LITERAL);
    log_error("%s: %s: an empty string to split at", name, field);
    return NULL;
}

void pattern_destroy(struct pattern **pattern)
{
    if (!*pattern) return;
    pcre2_code_free((*pattern)->code);
    free(*pattern);
    *pattern = NULL;
}

// ---- matching

struct pattern_scratch *pattern_scratch_create(void)
{
    struct pattern_scratch *scratch = os_alloc(sizeof *scratch);
    scratch->data = pcre2_match_data_create(8, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    scratch->stack = pcre2_jit_stack_create(JIT_STACK_LEAST, JIT_STACK_MOST, NULL);
    if (scratch->stack) pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    return scratch;
}

void pattern_scratch_destroy(struct pattern_scratch **scratch)
{
    if (!*scratch) return;
    pcre2_match_data_free((*scratch)->data);
    pcre2_match_context_free((*scratch)->context);
    pcre2_jit_stack_free((*scratch)->stack);
    free(*scratch);
    *scratch = NULL;
}

int pattern_next(const struct pattern *pattern, struct pattern_scratch *scratch,
                 struct slice text, size_t from, size_t *begin, size_t *end)
{
    const size_t scanned = pattern->scan && from < text.count
        ? scan_match(pattern->scan, text.data, from, text.count) : 0;
    if (scanned) {
        *begin = from;
        *end = scanned;
        return 1;
    }
    while (from < text.count) {
        const int found = pcre2_match(pattern->code, text.data, text.count, from,
                                      PCRE2_NO_UTF_CHECK, scratch->data, scratch->context);
        if (found == PCRE2_ERROR_NOMATCH) return 0;
        if (found < 0) {
            char message[256] = "";
            pcre2_get_error_message(found, (PCRE2_UCHAR *)message, sizeof message);
            log_error("tokenizer: its expression gave up at byte %zu of a text: %s", from, message);
            return -1;
        }
        const size_t *place = pcre2_get_ovector_pointer(scratch->data);
        *begin = place[0];
        *end = place[1];
        if (*end > *begin) return 1;
        if (*begin >= text.count) return 0;
        from = *begin + utf8_length(text.data + *begin, text.count - *begin);
    }
    return 0;
}
