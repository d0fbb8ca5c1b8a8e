// SPDX-License-Identifier: MIT
// Conversations -> ids and which of them are scored: see data_chat.h.
#include "src/data_chat.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/os.h"

enum { FIRST_BYTES = 4096 }; // of a file, that tell what it is

const char *const chat_tags[CHAT_TAGS] = {"<|system|>", "<|user|>", "<|assistant|>", "<|tool|>",
                                          "<|end|>"};
static const char *const roles[CHAT_END] = {"system", "user", "assistant", "tool"};

const char *chat_tag_missing(const struct tokenizer *tokenizer)
{
    for (int i = 0; i < CHAT_TAGS; i++) {
        const uint32_t id = tokenizer_id(tokenizer, chat_tags[i]);
        if (id == TOKENIZER_NONE || !tokenizer_is_special(tokenizer, id)) return chat_tags[i];
    }
    return NULL;
}

// ---- what is a conversation

static bool file_is_chat(const char *path)
{
    char text[FIRST_BYTES + 1] = "";
    const size_t length = strlen(path);
    if (length < 6 || strcmp(path + length - 6, ".jsonl") != 0) return false;
    FILE *file = fopen(path, "rb");
    if (!file) return false; // who reads it will say why
    const size_t bytes = fread(text, 1, FIRST_BYTES, file);
    fclose(file);
    const char *first = text + strspn(text, " \t\r\n");
    return memmem(first, bytes - (size_t)(first - text), "\"messages\"", 10);
}

bool chat_is_there(const char *path)
{
    struct folder folder;
    bool found = false;
    if (!folder_is(path)) return file_is_chat(path);
    if (!folder_list(path, &folder)) return false;
    for (uint32_t i = 0; !found && i < folder.count; i++) {
        struct bytes child = {0};
        if (folder.entry[i].is_folder || folder.entry[i].name[0] == '.') continue;
        bytes_printf(&child, "%s/%s", path, folder.entry[i].name);
        found = file_is_chat((const char *)child.data);
        bytes_free(&child);
    }
    folder_free(&folder);
    return found;
}

// ---- ids

void chat_free(struct chat *chat)
{
    encoding_free(&chat->encoding);
    free(chat->scored);
    *chat = (struct chat){0};
}

static bool append(struct chat *chat, const struct tokenizer *tokenizer, const char *text,
                   size_t bytes, unsigned flags, bool scored)
{
    const size_t from = chat->encoding.count;
    if (!tokenizer_encode(tokenizer, text, bytes, flags, &chat->encoding)) return false;
    const size_t count = chat->encoding.count;
    if (count > chat->room) {
        chat->scored = os_grow(chat->scored, chat->room, 2 * count);
        chat->room = 2 * count;
    }
    if (count > from) memset(chat->scored + from, scored, count - from);
    return true;
}

static bool append_tag(struct chat *chat, const struct tokenizer *tokenizer, enum chat_tag tag,
                       bool scored)
{
    const char *text = chat_tags[tag];
    return append(chat, tokenizer, text, strlen(text), TOKENIZER_SPECIAL, scored);
}

bool chat_message(struct chat *chat, const struct tokenizer *tokenizer, enum chat_tag role,
                  const char *text, size_t bytes, bool scored)
{
    return append_tag(chat, tokenizer, role, false) &&
           append(chat, tokenizer, text, bytes, 0, scored) &&
           append_tag(chat, tokenizer, CHAT_END, scored);
}

bool chat_reply(struct chat *chat, const struct tokenizer *tokenizer)
{
    return append_tag(chat, tokenizer, CHAT_ASSISTANT, false);
}

// ---- documents

struct turn { enum chat_tag role; const char *content; bool scored; };

// How much of a name can be shown in a line.
static int printable(const char *name)
{
    int count = 0;
    while (count < 20 && name[count] > 32 && name[count] < 127) count++;
    return count;
}

// What is wrong with a message, NULL: nothing.
static const char *read_turn(const cJSON *message, int number, struct turn *turn, char text[200])
{
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(message, "role"),
                *weight = cJSON_GetObjectItemCaseSensitive(message, "weight");
    const char *name = cJSON_GetStringValue(role);
    const char *problem = NULL;
    turn->content =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "content"));
    turn->role = CHAT_SYSTEM;
    while (name && turn->role < CHAT_END && strcmp(roles[turn->role], name) != 0) turn->role++;
    turn->scored = turn->role == CHAT_ASSISTANT &&
                   !(cJSON_IsNumber(weight) && !(weight->valuedouble > 0));
    if (!cJSON_IsObject(message)) problem = "is not an object";
    else if (!name) problem = "has no string \"role\"";
    else if (turn->role == CHAT_END) problem = NULL;
    else if (cJSON_HasObjectItem(message, "tool_calls")) problem = "has \"tool_calls\"";
    else if (!turn->content) problem = "has no string \"content\"";
    else return NULL;
    if (problem) snprintf(text, 200, "message %d %s", number, problem);
    else
        snprintf(text, 200, "message %d has a role that is none of system, user, assistant and "
                            "tool: \"%.*s\"", number, printable(name), name);
    return text;
}

// The contents alone, to train a tokenizer on.
static bool add_contents(struct documents *out, const struct turn *turn)
{
    return documents_copy_text(out, KIND_CHAT, turn->content, strlen(turn->content));
}

static bool any_scored(const struct chat *chat)
{
    return chat->encoding.count && memchr(chat->scored, 1, chat->encoding.count);
}

const char *chat_document(struct documents *out, const struct data_params *params,
                          const struct cJSON *messages, uint64_t *unscored, char text[200])
{
    const char *missing = params->text_only ? NULL : chat_tag_missing(params->tokenizer),
               *problem = NULL;
    struct chat chat = {0};
    const cJSON *message;
    int number = 0;
    if (!cJSON_IsArray(messages) || !messages->child) return "has an empty \"messages\"";
    if (missing) {
        snprintf(text, 200, "is a conversation, but the tokenizer has no special token %s: that of "
                            "a run that was trained on conversations has", missing);
        return text;
    }
    cJSON_ArrayForEach(message, messages) {
        struct turn turn;
        problem = read_turn(message, ++number, &turn, text);
        if (problem) break;
        if (params->text_only ? !add_contents(out, &turn)
                              : !chat_message(&chat, params->tokenizer, turn.role, turn.content,
                                              strlen(turn.content), turn.scored))
            problem = params->text_only ? data_told : "cannot be encoded (see the line before)";
        if (problem) break;
    }
    const bool scored = any_scored(&chat);
    if (!problem && scored && !document_add(out, chat.encoding.id, chat.scored,
                                            chat.encoding.count, data_kind_name(KIND_CHAT)))
        problem = data_told;
    *unscored += !problem && !scored && !params->text_only;
    chat_free(&chat);
    return problem;
}
