// SPDX-License-Identifier: MIT
// .jsonl -> documents: a line has a "text", or the "messages" of a conversation (data_chat.h). What
// is wrong with a line is told with the file and the line's number, and the file is refused.
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "runtime/log.h"
#include "src/corpus_room.h"
#include "src/data_chat.h"
#include "src/tokenizer_internal.h"

enum { LINE_LIMIT = 64 << 20 }; // bytes: a document of more is no line of a .jsonl

static bool is_blank(const char *line, size_t bytes)
{
    while (bytes && line[bytes - 1] && strchr(" \t\r", line[bytes - 1])) bytes--;
    return bytes == 0;
}

static size_t valid_bytes(const char *text, size_t bytes)
{
    return utf8_valid((const uint8_t *)text, bytes);
}

const char data_told[] = "";

// What is wrong with the line; NULL: nothing, and its documents are there.
static const char *read_object(struct documents *out, const struct data_params *params,
                               const cJSON *root, uint64_t *unscored, char words[200])
{
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(root, "messages");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "text"));
    if (!root) return "is not JSON";
    if (!cJSON_IsObject(root)) return "is not an object";
    if (messages && text) return "has both \"text\" and \"messages\"";
    if (messages) return chat_document(out, params, messages, unscored, words);
    if (!text) return "has no string \"text\" and no \"messages\"";
    return documents_copy_text(out, KIND_JSONL, text, strlen(text)) ? NULL : data_told;
}

static const char *read_line(struct documents *out, const struct data_params *params,
                             const char *line, size_t bytes, uint64_t *unscored, char words[200])
{
    const size_t valid = valid_bytes(line, bytes);
    if (valid < bytes) {
        snprintf(words, 200, "has a byte 0x%02x at %zu that is no UTF-8", (uint8_t)line[valid],
                 valid);
        return words;
    }
    if (json_has_zero(line, bytes)) return "has a zero character (\\u0000)";
    cJSON *root = cJSON_ParseWithLength(line, bytes);
    const char *problem = read_object(out, params, root, unscored, words);
    cJSON_Delete(root);
    return problem;
}

static bool refuse_line(const char *path, uint64_t number, const char *problem, const char *line,
                        size_t bytes)
{
    const size_t shown = valid_bytes(line, min_u64(bytes, 40));
    log_error("%s:%llu: the line %s; wanted {\"text\": \"...\"} or {\"messages\": [...]}, found "
              "%.*s%s", path, (unsigned long long)number, problem, (int)shown, line,
              bytes > shown ? "..." : "");
    return false;
}

static void tell_unscored(const char *path, uint64_t unscored)
{
    if (unscored)
        log_warn("%s: %llu conversations in which the assistant says nothing are left out", path,
                 (unsigned long long)unscored);
}

bool data_json_lines(struct documents *out, const struct data_params *params, const char *path,
                     const char *text, uint64_t bytes)
{
    uint64_t number = 1, unscored = 0;
    for (const char *line = text, *end = text + bytes; line < end; number++) {
        const uint64_t left = (uint64_t)(end - line), most = min_u64(left, LINE_LIMIT + 1);
        const char *stop = memchr(line, '\n', most);
        char words[200];
        if (!stop && left > LINE_LIMIT)
            return refuse_line(path, number, "has more than 64 MiB", line, most);
        if (!stop) stop = end;
        const size_t length = (size_t)(stop - line);
        const char *problem = is_blank(line, length) ? NULL
                              : read_line(out, params, line, length, &unscored, words);
        if (problem == data_told) return false;
        if (problem) return refuse_line(path, number, problem, line, length);
        line = stop + 1;
        corpus_room_touch(out->room, length);
    }
    tell_unscored(path, unscored);
    return true;
}
