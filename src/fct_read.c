// SPDX-License-Identifier: MIT
// Lines of JSON -> patterns: see fct_read.h.
#include "src/fct_read.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "src/tokenizer_internal.h"

static const struct { const char *name; bool may_be_list; } fields[FCT_FIELDS] = {
    [FCT_TRIGGER] = {"trigger", false},
    [FCT_PRIOR_BELIEF] = {"prior_belief", false},
    [FCT_UPDATE] = {"update", false},
    [FCT_ANALOGY] = {"analogy", false},
    [FCT_ACTION_DELTA] = {"action_delta", true},
    [FCT_RIPPLE] = {"ripple", true},
    [FCT_PATTERN] = {"pattern", false},
    [FCT_DOMAIN] = {"domain", false},
};

static const char all_fields[] = "trigger, prior_belief, update, analogy, action_delta, ripple, "
                                 "pattern and domain";

// One text that is read; `faults` counts those of the whole text.
struct reader {
    const char   *file;
    uint64_t      line, faults;
    struct arena *arena;
    fct_fault_fn *fault; // NULL: the first is logged and ends the reading
    void         *user;
};

const char *fct_field_name(enum fct_field field)
{
    return fields[field].name;
}

void fct_log_fault(const struct fct_fault *fault)
{
    log_error("%s:%llu: %s: found %s, wanted %s", fault->file, (unsigned long long)fault->line,
              fault->field, fault->found, fault->wanted);
}

// False; the caller goes on with what does not depend on it.
static bool refuse(struct reader *r, const char *field, const char *found, const char *wanted)
{
    const struct fct_fault fault = {r->file, r->line, field, found, wanted};
    if (r->fault)
        r->fault(r->user, &fault);
    else if (r->faults == 0)
        fct_log_fault(&fault);
    r->faults++;
    return false;
}

// ---- a text of a field

// The first tag, or what looks like one: capitals, digits and _ in brackets; NULL: none.
static const char *find_tag(const char *text, size_t *bytes)
{
    static const char capitals[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    while ((text = strchr(text, '['))) {
        const size_t front = text[1] == '/' ? 2 : 1;
        const size_t word = strspn(text + front, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
        *bytes = front + word + 1;
        if (word > 1 && text[front + word] == ']' && strcspn(text + front, capitals) == 0)
            return text;
        text++;
    }
    return NULL;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool check_text(struct reader *r, const char *field, const char *text)
{
    size_t tag_bytes;
    const char *tag = find_tag(text, &tag_bytes), *c = text;
    while (is_space(*c)) c++;
    if (!*c) return refuse(r, field, *text ? "only white space" : "an empty text", "some words");
    if (!tag) return true;
    char found[64];
    snprintf(found, sizeof found, "the tag %.*s", (int)min_u64(tag_bytes, 40), tag);
    return refuse(r, field, found, "no tag inside a text: the renderer writes them");
}

static const char *kind_of(const cJSON *item)
{
    if (cJSON_IsNull(item)) return "null";
    if (cJSON_IsBool(item)) return "true or false";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsArray(item)) return "a list";
    return cJSON_IsObject(item) ? "an object" : "a string";
}

static const char *join(struct reader *r, const cJSON *list)
{
    struct bytes text = {0};
    const cJSON *part;
    cJSON_ArrayForEach(part, list) {
        const uint8_t last = text.count ? text.data[text.count - 1] : 0;
        const bool ended = last && strchr(".!?:;", last);
        if (last) bytes_append(&text, ended ? " " : "; ", ended ? 1 : 2);
        bytes_append(&text, part->valuestring, strlen(part->valuestring));
    }
    bytes_append(&text, "", 1);
    const char *joined = arena_strdup(r->arena, (const char *)text.data);
    bytes_free(&text);
    return joined;
}

static const char *read_list(struct reader *r, const char *field, const cJSON *list)
{
    const cJSON *part;
    bool good = true;
    if (!list->child) return refuse(r, field, "an empty list", "at least one text"), NULL;
    cJSON_ArrayForEach(part, list) {
        char found[40];
        snprintf(found, sizeof found, "%s in the list", kind_of(part));
        good = (cJSON_IsString(part) ? check_text(r, field, part->valuestring)
                                     : refuse(r, field, found, "strings")) && good;
    }
    return good ? join(r, list) : NULL;
}

// NULL after at least one fault.
static const char *read_field(struct reader *r, const cJSON *root, enum fct_field which)
{
    const char *field = fields[which].name;
    const bool list_too = fields[which].may_be_list;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, field);
    if (!item) return refuse(r, field, "none", "one"), NULL;
    if (list_too && cJSON_IsArray(item)) return read_list(r, field, item);
    if (!cJSON_IsString(item))
        return refuse(r, field, kind_of(item), list_too ? "a string or a list of strings"
                                                        : "a string"), NULL;
    if (!check_text(r, field, item->valuestring)) return NULL;
    return arena_strdup(r->arena, item->valuestring);
}

// ---- a line

static bool check_line(struct reader *r, const char *line, size_t bytes)
{
    char found[96], wanted[40];
    const size_t valid = bytes <= FCT_LINE_BYTES ? utf8_valid((const uint8_t *)line, bytes) : 0;
    if (bytes > FCT_LINE_BYTES) {
        snprintf(found, sizeof found, "%llu bytes", (unsigned long long)bytes);
        snprintf(wanted, sizeof wanted, "at most %d", FCT_LINE_BYTES);
        return refuse(r, "line", found, wanted);
    }
    if (valid < bytes) {
        snprintf(found, sizeof found, "invalid UTF-8 (byte 0x%02x at column %llu)",
                 (uint8_t)line[valid], (unsigned long long)valid + 1);
        return refuse(r, "line", found, "UTF-8");
    }
    if (memchr(line, 0, bytes) || json_has_zero(line, bytes))
        return refuse(r, "line", "a zero character", "text");
    return true;
}

// Every member is a field, and is there once.
static bool check_members(struct reader *r, const cJSON *root)
{
    unsigned seen = 0;
    bool good = true;
    const cJSON *item;
    cJSON_ArrayForEach(item, root) {
        uint32_t which = 0;
        while (which < FCT_FIELDS && strcmp(item->string, fields[which].name) != 0) which++;
        if (which == FCT_FIELDS)
            good = refuse(r, SHOWN(item->string), "a field of this name", all_fields);
        else if (seen & 1u << which)
            good = refuse(r, fields[which].name, "it twice", "it once");
        seen |= which < FCT_FIELDS ? 1u << which : 0;
    }
    return good;
}

static void add_pattern(struct arena *arena, struct fct_patterns *out,
                        const struct fct_pattern *pattern)
{
    if (out->count == out->capacity) {
        const uint64_t capacity = out->capacity ? 2 * out->capacity : 64;
        struct fct_pattern *more = arena_array(arena, capacity, sizeof *more);
        if (out->count) memcpy(more, out->pattern, out->count * sizeof *more);
        out->pattern = more;
        out->capacity = capacity;
    }
    out->pattern[out->count++] = *pattern;
}

static bool is_blank(const char *line, size_t bytes)
{
    while (bytes && is_space(line[bytes - 1])) bytes--;
    return bytes == 0;
}

static void read_object(struct reader *r, const cJSON *root, struct fct_patterns *out)
{
    struct fct_pattern pattern = {.file = r->file, .line = r->line};
    bool good = check_members(r, root);
    for (uint32_t f = 0; f < FCT_FIELDS; f++)
        good = (pattern.field[f] = read_field(r, root, (enum fct_field)f)) && good;
    if (good) add_pattern(r->arena, out, &pattern);
}

static void read_line(struct reader *r, const char *line, size_t bytes, struct fct_patterns *out)
{
    if (!check_line(r, line, bytes)) return;
    const char *end = line;
    cJSON *root = cJSON_ParseWithLengthOpts(line, bytes, &end, false);
    const size_t rest = root ? bytes - (size_t)(end - line) : 0;
    if (!root)
        refuse(r, "line", "no JSON", "an object with the fields of a pattern");
    else if (!is_blank(end, rest))
        refuse(r, "line", "more behind the object", "one object a line");
    else if (!cJSON_IsObject(root))
        refuse(r, "line", kind_of(root), "an object with the fields of a pattern");
    else
        read_object(r, root, out);
    cJSON_Delete(root);
}

// ---- a text, a file, a folder

bool fct_parse(const char *name, const char *text, uint64_t bytes, struct arena *arena,
               fct_fault_fn *fault, void *user, struct fct_patterns *out)
{
    struct reader r = {.file = arena_strdup(arena, name), .arena = arena, .fault = fault,
                       .user = user};
    const struct fct_patterns before = *out;
    uint64_t at = 0;
    while (at < bytes && (fault || !r.faults)) {
        const char *stop = memchr(text + at, '\n', bytes - at);
        const size_t length = stop ? (size_t)(stop - (text + at)) : bytes - at;
        r.line++;
        if (!is_blank(text + at, length)) read_line(&r, text + at, length, out);
        at += length + 1;
    }
    r.line = r.line ? r.line : 1;
    if (out->count == before.count && !r.faults) refuse(&r, "line", "no pattern", "at least one");
    if (!fault && r.faults) *out = before;
    return r.faults == 0;
}

// Of files and folders: where what is read goes.
struct sink {
    struct arena        *arena;
    fct_fault_fn        *fault;
    void                *user;
    struct fct_patterns *out;
};

static bool read_file(const char *path, const struct sink *to)
{
    struct file_map map;
    if (!file_map(path, &map)) return false;
    const char *text = map.bytes ? (const char *)map.data : "";
    const bool good = fct_parse(path, text, map.bytes, to->arena, to->fault, to->user, to->out);
    file_unmap(&map);
    return good || to->fault;
}

static bool is_pattern_file(const struct folder_entry *entry)
{
    const size_t length = strlen(entry->name);
    return !entry->is_folder && entry->name[0] != '.' && length > 6 &&
           strcmp(entry->name + length - 6, ".jsonl") == 0;
}

static bool read_folder(const char *path, const struct sink *to)
{
    struct folder folder;
    bool good = folder_list(path, &folder), any = false;
    if (!good) return false;
    const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
    for (uint32_t i = 0; good && i < folder.count; i++) {
        if (!is_pattern_file(&folder.entry[i])) continue;
        any = true;
        good = read_file(arena_printf(to->arena, "%s%s%s", path, slash, folder.entry[i].name), to);
    }
    folder_free(&folder);
    if (good && !any) log_error("%s: no .jsonl file in this folder; wanted patterns", path);
    return good && any;
}

static bool read_path(const char *path, const struct sink *to)
{
    const struct fct_patterns before = *to->out;
    const bool good = folder_is(path) ? read_folder(path, to) : read_file(path, to);
    if (!good) *to->out = before;
    return good;
}

bool fct_read(const char *path, struct arena *arena, struct fct_patterns *out)
{
    return read_path(path, &(struct sink){.arena = arena, .out = out});
}

bool fct_read_told(const char *path, struct arena *arena, fct_fault_fn *fault, void *user,
                   struct fct_patterns *out)
{
    return read_path(path, &(struct sink){arena, fault, user, out});
}
