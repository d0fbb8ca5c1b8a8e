// SPDX-License-Identifier: MIT
// The byte-level tokenizer as a tokenizer.json, decoding, and what can be asked of any tokenizer.
// Each one is made by reading a file's text, ours too, so that there is one way to be made.
#include "src/tokenizer.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/tokenizer_internal.h"
#include "src/tokenizer_print.h"

struct tokenizer *tokenizer_create_bytes(void)
{
    static const char *const special[] = {"<|endoftext|>", "<|bos|>", "<|pad|>"};
    char texts[256][3];
    const char *entry[256];
    for (uint32_t b = 0; b < 256; b++) {
        byte_to_text(b, texts[b]);
        entry[b] = texts[b];
    }
    char *json = tokenizer_print(&(struct tokenizer_contents){
        .entry = entry, .entry_count = 256, .special = special, .special_count = 3});
    struct tokenizer *tokenizer = tokenizer_parse("the byte-level tokenizer", json, strlen(json));
    cJSON_free(json);
    return tokenizer;
}

void tokenizer_destroy(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t) return;
    steps_destroy(t);
    encoder_destroy(&t->shared);
    struct arena *arena = t->arena;
    arena_destroy(&arena);
    *tokenizer = NULL;
}

struct tokenizer *tokenizer_extend(const struct tokenizer *t, const char *const *special,
                                   uint32_t count)
{
    cJSON *root = cJSON_ParseWithLength((const char *)t->source.data, t->source.count);
    cJSON *added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    uint32_t id = t->count;
    if (!added) added = cJSON_AddArrayToObject(root, "added_tokens");
    for (uint32_t i = 0; i < count; i++) {
        bool there = tokenizer_id(t, special[i]) != TOKENIZER_NONE;
        for (uint32_t before = 0; before < i; before++)
            there |= strcmp(special[before], special[i]) == 0;
        if (!there) tokenizer_print_special(added, id++, special[i]);
    }
    char *json = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    struct tokenizer *extended = tokenizer_parse("tokenizer with tags", json, strlen(json));
    cJSON_free(json);
    return extended;
}

bool tokenizer_save(const struct tokenizer *t, const char *path)
{
    struct file_writer *writer = file_writer_open(path);
    if (!writer) return false;
    if (file_writer_write(writer, t->source.data, t->source.count))
        return file_writer_commit(&writer);
    file_writer_abort(&writer);
    return false;
}

// ---- decoding

void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t count,
                      struct bytes *out)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= t->count) continue;
        const struct slice text = t->token[ids[i]].decoded;
        bytes_append(out, text.data, text.count);
    }
}

void tokenizer_decode_whole(const struct tokenizer *t, const uint32_t *ids, size_t count,
                            struct bytes *out)
{
    size_t first = 0;
    while (first < count && tokenizer_id_bytes(t, ids[first]) == 0) first++;
    if (first == count) return;
    const struct slice text = t->token[ids[first]].decoded;
    size_t skip = 0;
    if (t->strip.count && text.count >= t->strip.count &&
        memcmp(text.data, t->strip.data, t->strip.count) == 0)
        skip = t->strip.count;
    for (size_t i = skip; i < text.count; i++)
        if (!t->drop_first_spaces || text.data[i] != ' ') bytes_append(out, text.data + i, 1);
    tokenizer_decode(t, ids + first + 1, count - first - 1, out);
}

// ---- what it is

uint32_t tokenizer_count(const struct tokenizer *t) { return t->count; }

uint32_t tokenizer_eot(const struct tokenizer *t) { return t->eot; }

uint32_t tokenizer_id(const struct tokenizer *t, const char *text)
{
    const struct added_tokens *const lists[] = {&t->raw, &t->normal};
    for (size_t l = 0; l < COUNT_OF(lists); l++)
        for (uint32_t i = 0; i < lists[l]->count; i++)
            if (strcmp(t->token[lists[l]->token[i].id].text, text) == 0)
                return lists[l]->token[i].id;
    for (uint32_t id = 0; id < t->count; id++)
        if (t->token[id].text && strcmp(t->token[id].text, text) == 0) return id;
    return TOKENIZER_NONE;
}

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
    return id < t->count && t->token[id].special;
}

const char *tokenizer_id_text(const struct tokenizer *t, uint32_t id)
{
    return id < t->count ? t->token[id].text : NULL;
}

uint32_t tokenizer_id_bytes(const struct tokenizer *t, uint32_t id)
{
    return id < t->count ? (uint32_t)t->token[id].decoded.count : 0;
}

const uint32_t *tokenizer_byte_ids(const struct tokenizer *t)
{
    bool plain = t->byte_level && t->merge_count == 0 && !t->ignore_merges && !t->normal_count;
    for (uint32_t i = 0; i < t->split_count; i++)
        plain &= t->split[i].kind == SPLIT_PATTERN && t->split[i].behavior != SPLIT_REMOVED;
    for (uint32_t id = 0; id < t->count; id++) // a token of several bytes that is no special one
        plain &= !t->token[id].text || t->token[id].special || t->token[id].decoded.count <= 1;
    return plain ? t->byte : NULL;
}

uint64_t tokenizer_fingerprint(const struct tokenizer *t)
{
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < t->source.count; i++)
        hash = (hash ^ t->source.data[i]) * 0x100000001b3u;
    return hash;
}

const char *tokenizer_summary(const struct tokenizer *t) { return t->summary; }
