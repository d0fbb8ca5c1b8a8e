// SPDX-License-Identifier: MIT
// Whether a generated answer is right: exact text, a regular expression (PCRE2), a number. See
// task.h. Nothing that was generated is ever executed.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/task_internal.h"

enum { MATCH_LIMIT = 1000000 }; // steps of a match before it is given up

struct task_pattern {
    pcre2_code          *code;
    pcre2_match_context *context;
    pcre2_match_data    *data;
};

struct task_pattern *task_pattern_create(const struct task_reader *reader, const char *expression)
{
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &error, &at, NULL);
    if (!code) {
        char why[160] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        task_refuse(reader, "\"regex\" does not compile at character %zu: %s", at, why);
        return NULL;
    }
    struct task_pattern *p = os_alloc(sizeof *p);
    p->code = code;
    p->context = pcre2_match_context_create(NULL);
    p->data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    return p;
}

void task_pattern_destroy(struct task_pattern **pattern)
{
    struct task_pattern *p = *pattern;
    if (!p) return;
    pcre2_match_data_free(p->data);
    pcre2_match_context_free(p->context);
    pcre2_code_free(p->code);
    free(p);
    *pattern = NULL;
}

static bool matches_pattern(const struct task_item *item, const char *text, size_t bytes)
{
    const struct task_pattern *p = item->pattern;
    const int found =
        pcre2_match(p->code, (PCRE2_SPTR)text, bytes, 0, 0, p->data, p->context);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        log_warn("%s:%llu: the expression gave up on a generated text of %zu bytes; counted as "
                 "wrong", item->file, (unsigned long long)item->line, bytes);
    return found >= 0;
}

static void trim(const char **text, size_t *bytes)
{
    while (*bytes && isspace((unsigned char)**text)) (*text)++, (*bytes)--;
    while (*bytes && isspace((unsigned char)(*text)[*bytes - 1])) (*bytes)--;
}

// A number begins: a digit, or a sign or point with a digit behind it.
static bool begins_number(const char *text, size_t bytes)
{
    if (bytes && (*text == '-' || *text == '.')) text++, bytes--;
    return bytes && isdigit((unsigned char)*text);
}

// Its digits without the commas of thousands, and without a point that ends a sentence.
static size_t copy_number(const char *text, size_t bytes, char *out, size_t size)
{
    size_t used = 0, at = 0;
    for (; at < bytes && (isdigit((unsigned char)text[at]) || strchr(",.-", text[at])); at++) {
        if (text[at] == '-' && at > 0) break;
        if (text[at] != ',' && used + 1 < size) out[used++] = text[at];
    }
    while (used && out[used - 1] == '.') used--;
    out[used] = 0;
    return at;
}

// The number behind the last "####", else the last one.
static bool find_number(const char *text, size_t bytes, char *out, size_t size)
{
    bool found = false;
    const char *end = text + bytes, *mark = NULL;
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), "####", 4)); at += 4)
        mark = at + 4;
    for (const char *at = mark ? mark : text; at < end;) {
        if (begins_number(at, (size_t)(end - at))) {
            at += copy_number(at, (size_t)(end - at), out, size);
            found = true;
            if (mark) break;
        } else {
            at++;
        }
    }
    return found;
}

static bool matches_number(const struct task_item *item, const char *text, size_t bytes)
{
    char found[64], wanted[64];
    if (!find_number(text, bytes, found, sizeof found)) return false;
    copy_number(item->wanted, strlen(item->wanted), wanted, sizeof wanted);
    return strcmp(found, wanted) == 0 || strtod(found, NULL) == strtod(wanted, NULL);
}

bool task_matches(const struct task_item *item, const char *text, size_t bytes)
{
    const char *wanted = item->wanted;
    size_t length = wanted ? strlen(wanted) : 0;
    switch (item->match) {
    case TASK_REGEX: return matches_pattern(item, text, bytes);
    case TASK_NUMBER: return matches_number(item, text, bytes);
    case TASK_SAMPLE: return false;
    case TASK_EXACT: break;
    }
    trim(&text, &bytes);
    trim(&wanted, &length);
    return bytes == length && memcmp(text, wanted, bytes) == 0;
}

size_t task_stop(const struct task_item *item, const char *text, size_t bytes)
{
    size_t end = bytes;
    for (uint32_t i = 0; i < item->stop_count; i++) {
        const char *at = memmem(text, end, item->stop[i], strlen(item->stop[i]));
        if (at) end = (size_t)(at - text);
    }
    return end;
}
