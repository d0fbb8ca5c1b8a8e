// SPDX-License-Identifier: MIT
// The text of a task file -> records: lines of JSON, or MMLU's CSV (RFC 4180: quotes, doubled
// quotes and line breaks inside them). What is wrong is told with file and line.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/task_internal.h"
#include "src/tokenizer_internal.h"

enum { CSV_COLUMNS = 6 };

bool task_refuse(const struct task_reader *r, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ') *at = ' '; // what was found may hold line breaks
    log_error("%s:%llu: %s", r->name, (unsigned long long)r->line, text);
    return false;
}

static void append(struct task_item **list, uint64_t *count, uint64_t *capacity,
                   const struct task_item *item)
{
    if (*count == *capacity) {
        const uint64_t grown = *capacity ? 2 * *capacity : 64;
        *list = os_grow(*list, *capacity * sizeof *item, grown * sizeof *item);
        *capacity = grown;
    }
    (*list)[(*count)++] = *item;
}

bool task_take(struct task_reader *r, struct task_item *item, bool dev)
{
    item->file = r->name;
    item->line = r->line;
    if (dev) append(&r->dev, &r->dev_count, &r->dev_capacity, item);
    else append(&r->item, &r->count, &r->capacity, item);
    return true;
}

// ---- lines

// A zero byte, broken UTF-8, or too much of it. True: none of these.
static bool check_text(const struct task_reader *r, const char *text, uint64_t bytes)
{
    if (bytes > TASK_MOST_LINE)
        return task_refuse(r, "a line of %llu bytes, at most %d are read",
                           (unsigned long long)bytes, (int)TASK_MOST_LINE);
    const size_t valid = utf8_valid((const uint8_t *)text, bytes);
    if (valid < bytes)
        return task_refuse(r, "no UTF-8 at byte %zu of the line (0x%02x)", valid,
                           (unsigned)(uint8_t)text[valid]);
    return !memchr(text, 0, bytes) || task_refuse(r, "a zero byte in the line");
}

static size_t blank(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes && strchr(" \t\r\n", text[i])) i++;
    return i;
}

static bool read_line(struct task_reader *r, const char *line, size_t bytes)
{
    const char *end = NULL;
    if (!check_text(r, line, bytes)) return false;
    if (blank(line, bytes) == bytes) return true;
    if (json_has_zero(line, bytes)) return task_refuse(r, "a zero character (\\u0000)");
    char *own = os_alloc(bytes + 1); // cJSON may look at a byte behind a number
    memcpy(own, line, bytes);
    cJSON *root = cJSON_ParseWithOpts(own, &end, false);
    bool ok = false;
    if (!root || blank(end, strlen(end)) < strlen(end))
        task_refuse(r, "not JSON at byte %td of the line: %.40s", end ? end - own : 0,
                    end ? end : "");
    else if (!cJSON_IsObject(root)) task_refuse(r, "not an object: %.40s", own);
    else {
        if (r->format == TASK_AUTO) r->format = task_guess(root);
        ok = task_read_object(r, root);
    }
    cJSON_Delete(root);
    free(own);
    return ok;
}

static bool read_lines(struct task_reader *r, const char *text, uint64_t bytes)
{
    const char *const end = text + bytes;
    r->line = 1;
    for (const char *line = text; line < end; r->line++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        if (!read_line(r, line, (size_t)(stop - line))) return false;
        line = stop + 1;
    }
    return true;
}

// ---- MMLU's CSV

struct cursor { const char *at, *end; uint64_t lines; };

// A column from the cursor on, which is left behind its comma, or at the line's end. NULL: a quote
// that nothing closes.
static char *column(struct cursor *c, struct arena *arena)
{
    const bool quoted = c->at < c->end && *c->at == '"';
    const char *begin = c->at += quoted;
    bool closed = !quoted;
    struct bytes out = {0};
    for (; c->at < c->end; c->at++) {
        if (quoted && *c->at == '"') {
            closed = c->at + 1 == c->end || c->at[1] != '"';
            if (closed) break;
            c->at++;
        }
        if (!quoted && (*c->at == ',' || *c->at == '\n')) break;
        c->lines += *c->at == '\n';
        bytes_append(&out, c->at, 1);
        if (c->at - begin > TASK_MOST_LINE) break;
    }
    if (quoted && closed) c->at++;
    while (!quoted && out.count && out.data[out.count - 1] == '\r') out.count--;
    char *text = arena_alloc(arena, out.count + 1);
    if (out.count) memcpy(text, out.data, out.count);
    bytes_free(&out);
    return closed ? text : NULL;
}

static bool take_row(struct task_reader *r, char *const text[CSV_COLUMNS])
{
    const char *answer = text[CSV_COLUMNS - 1];
    struct task_item item = {.kind = TASK_CHOICE, .id = "", .choice_count = 4,
                             .domain = r->subject ? r->subject : ""};
    if (!(*answer >= 'A' && *answer <= 'D') || answer[1])
        return task_refuse(r, "no right answer: the last column is \"%.20s\"; wanted A, B, C or D",
                           answer);
    for (int i = 0; i < CSV_COLUMNS - 1; i++)
        if (!*text[i])
            return task_refuse(r, "column %d is empty; wanted question,A,B,C,D,answer", i + 1);
    item.answer = (uint32_t)(*answer - 'A');
    item.header = arena_printf(r->arena, "The following are multiple choice questions (with "
                               "answers)%s%s.\n\n", *item.domain ? " about " : "", item.domain);
    item.prompt = arena_printf(r->arena, "%s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:", text[0],
                               text[1], text[2], text[3], text[4]);
    item.choice = arena_array(r->arena, 4, sizeof *item.choice);
    for (int i = 0; i < 4; i++) item.choice[i] = arena_printf(r->arena, " %c", 'A' + i);
    item.solution = item.choice[item.answer];
    return task_take(r, &item, false);
}

// A row, whose line is the one it begins on.
static bool read_row(struct task_reader *r, struct cursor *c)
{
    char *text[CSV_COLUMNS];
    int count = 0;
    const char *begin = c->at;
    for (bool more = true; more; count++) {
        char *own = column(c, r->arena);
        if (!own) return task_refuse(r, "a quote that nothing closes");
        if (count < CSV_COLUMNS) text[count] = own;
        while (c->at < c->end && *c->at == '\r') c->at++;
        if (c->at < c->end && *c->at != ',' && *c->at != '\n')
            return task_refuse(r, "column %d: text behind the closing quote", count + 1);
        more = c->at < c->end && *c->at == ',';
        c->at += more;
    }
    if (!check_text(r, begin, (uint64_t)(c->at - begin))) return false;
    if (count != CSV_COLUMNS)
        return task_refuse(r, "%d columns; wanted 6: question,A,B,C,D,answer", count);
    return take_row(r, text);
}

bool task_read_csv(struct task_reader *r, const char *text, uint64_t bytes)
{
    struct cursor c = {text, text + bytes, 0};
    r->line = 1;
    for (; c.at < c.end; r->line += c.lines, c.lines = 0) {
        const char *stop = memchr(c.at, '\n', (size_t)(c.end - c.at));
        const size_t line = (size_t)((stop ? stop : c.end) - c.at);
        if (blank(c.at, line) == line) c.at += line;
        else if (!read_row(r, &c)) return false;
        if (c.at < c.end) c.at++, c.lines++; // the line's end
    }
    return true;
}

// ---- whole files

static bool read_plain(struct task_reader *r, const char *text, uint64_t bytes)
{
    r->line = 1;
    if (memchr(text, 0, bytes)) return task_refuse(r, "a zero byte: no text");
    struct task_item item = {.kind = TASK_TEXT, .id = "", .domain = "", .header = "",
                             .prompt = "", .choice_count = 1};
    char *own = arena_alloc(r->arena, bytes + 1);
    memcpy(own, text, bytes);
    item.choice = arena_array(r->arena, 1, sizeof *item.choice);
    item.choice[0] = own;
    return task_take(r, &item, false);
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), own = strlen(end);
    return length >= own && strcmp(name + length - own, end) == 0;
}

bool task_read(struct task_reader *r, const char *text, uint64_t bytes)
{
    const uint64_t before = r->count + r->dev_count;
    if (ends_with(r->name, ".parquet") || (bytes >= 4 && memcmp(text, "PAR1", 4) == 0)) {
        log_error("%s: parquet is not read; make JSON lines of it: python3 -c \"import pandas; "
                  "pandas.read_parquet('FILE').to_json('FILE.jsonl', orient='records', "
                  "lines=True)\"", r->name);
        return false;
    }
    if (bytes >= 2 && memcmp(text, "\x1f\x8b", 2) == 0) {
        log_error("%s: compressed; unpack it first: gunzip --keep FILE", r->name);
        return false;
    }
    const size_t front = blank(text, min_u64(bytes, TASK_MOST_LINE));
    const bool object = front < bytes && text[front] == '{';
    if (front == bytes) {
        log_error("%s: empty; wanted a task: lines of JSON, or MMLU's CSV", r->name);
        return false;
    }
    bool ok;
    if (r->format == TASK_PLAIN) ok = read_plain(r, text, bytes);
    else if (object || (r->format != TASK_AUTO && r->format != TASK_MMLU))
        ok = read_lines(r, text, bytes);
    else if (r->format == TASK_MMLU || ends_with(r->name, ".csv")) {
        r->format = TASK_MMLU;
        ok = task_read_csv(r, text, bytes);
    } else {
        log_error("%s: neither lines of JSON objects nor .csv; --format text takes it as one text",
                  r->name);
        return false;
    }
    if (ok && r->count + r->dev_count == before) {
        log_error("%s: no items", r->name);
        return false;
    }
    return ok;
}
