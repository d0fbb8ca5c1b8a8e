// SPDX-License-Identifier: MIT
// The byte-level tokenizer and its tokenizer.json. In that file a byte is one printable character
// (the map of GPT-2's bytes_to_unicode): bytes that print stand for themselves, the other 68 for
// the code points from 256 on, in order.
#include "src/tokenizer.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"

enum { FILE_LIMIT = 1 << 28, ID_LIMIT = 1 << 20 };

#define SUPPORTED "supported today: byte-level (type BPE with ByteLevel, all 256 bytes, no merges)"

struct special { uint32_t id; const char *text; };

struct tokenizer {
    uint32_t        id[256];      // of each byte
    uint32_t        count;        // one more than the largest id
    int16_t        *byte;         // [count] the byte of an id, -1: none
    struct special *special;      // [special_count]
    uint32_t        special_count;
    uint32_t        eot;
    struct arena   *arena;
};

// ---- the characters that stand for bytes

static bool prints(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static uint32_t byte_to_code(uint32_t byte)
{
    if (prints(byte)) return byte;
    uint32_t hidden = 0;
    for (uint32_t b = 0; b < byte; b++) hidden += !prints(b);
    return 256 + hidden;
}

// UTF-8 of the byte's character (all are below U+0800), zero-terminated.
static void byte_to_text(uint32_t byte, char out[3])
{
    const uint32_t code = byte_to_code(byte);
    out[0] = code < 0x80 ? (char)code : (char)(0xc0 | code >> 6);
    out[1] = code < 0x80 ? 0 : (char)(0x80 | (code & 0x3f));
    out[2] = 0;
}

// ---- building one

static void add_special(struct tokenizer *tokenizer, uint32_t id, const char *text)
{
    static const char *const eot[] = {"<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>"};
    const char *own = arena_strdup(tokenizer->arena, text);
    tokenizer->special[tokenizer->special_count++] = (struct special){id, own};
    for (size_t i = 0; i < COUNT_OF(eot); i++)
        if (strcmp(text, eot[i]) == 0 && tokenizer->eot == TOKENIZER_NONE) tokenizer->eot = id;
}

// Room for ids below `count` and for `specials`; no id has a byte yet.
static struct tokenizer *create(uint32_t count, uint32_t specials)
{
    struct arena *arena = arena_create("tokenizer");
    struct tokenizer *tokenizer = arena_alloc(arena, sizeof *tokenizer);
    tokenizer->arena = arena;
    tokenizer->count = count;
    tokenizer->eot = TOKENIZER_NONE;
    tokenizer->byte = arena_array(arena, count, sizeof *tokenizer->byte);
    tokenizer->special = arena_array(arena, specials, sizeof *tokenizer->special);
    for (uint32_t i = 0; i < count; i++) tokenizer->byte[i] = -1;
    for (uint32_t b = 0; b < 256; b++) tokenizer->id[b] = TOKENIZER_NONE;
    return tokenizer;
}

static void map_byte(struct tokenizer *tokenizer, uint32_t byte, uint32_t id)
{
    tokenizer->id[byte] = id;
    tokenizer->byte[id] = (int16_t)byte;
}

struct tokenizer *tokenizer_create_bytes(void)
{
    struct tokenizer *tokenizer = create(TOKENIZER_BYTES_COUNT, 3);
    for (uint32_t b = 0; b < 256; b++) map_byte(tokenizer, b, b);
    add_special(tokenizer, TOKENIZER_EOT, "<|endoftext|>");
    add_special(tokenizer, TOKENIZER_BOS, "<|bos|>");
    add_special(tokenizer, TOKENIZER_PAD, "<|pad|>");
    return tokenizer;
}

void tokenizer_destroy(struct tokenizer **tokenizer)
{
    if (!*tokenizer) return;
    struct arena *arena = (*tokenizer)->arena;
    arena_destroy(&arena);
    *tokenizer = NULL;
}

// ---- reading

// An item that is no id gives ID_LIMIT.
static uint32_t id_of(const cJSON *item)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return value >= 0 && value < ID_LIMIT && value == (uint32_t)value ? (uint32_t)value : ID_LIMIT;
}

static const char *type_of(const cJSON *object)
{
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "type"));
    return type ? type : "none";
}

// A prefix space would put a byte in front of the text that is not there.
static bool is_byte_level(const cJSON *object)
{
    const cJSON *prefix = cJSON_GetObjectItemCaseSensitive(object, "add_prefix_space");
    return strcmp(type_of(object), "ByteLevel") == 0 && !cJSON_IsTrue(prefix);
}

// What keeps the file from being a byte-level tokenizer without merges; NULL: nothing.
static const char *obstacle(const cJSON *root, const cJSON *model)
{
    const cJSON *normalizer = cJSON_GetObjectItemCaseSensitive(root, "normalizer");
    const cJSON *merges = cJSON_GetObjectItemCaseSensitive(model, "merges");
    if (!cJSON_IsObject(model)) return "no \"model\"";
    if (strcmp(type_of(model), "BPE") != 0) return "a model that is not BPE";
    if (cJSON_GetArraySize(merges) > 0) return "a model with merges";
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(model, "ignore_merges")))
        return "ignore_merges, which looks up whole words";
    if (!is_byte_level(cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer")))
        return "a pre_tokenizer that is not ByteLevel without prefix space";
    if (strcmp(type_of(cJSON_GetObjectItemCaseSensitive(root, "decoder")), "ByteLevel") != 0)
        return "a decoder that is not ByteLevel";
    if (normalizer && !cJSON_IsNull(normalizer)) return "a normalizer";
    if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(model, "vocab"))) return "no \"vocab\"";
    return NULL;
}

// One more than the largest id of the file; 0 where one is no id, or there is none.
static uint32_t count_ids(const cJSON *vocab, const cJSON *added)
{
    uint32_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) count = max_u32(count, id_of(item) + 1);
    cJSON_ArrayForEach(item, added)
        count = max_u32(count, id_of(cJSON_GetObjectItemCaseSensitive(item, "id")) + 1);
    return count > ID_LIMIT ? 0 : count;
}

static bool map_vocab(struct tokenizer *tokenizer, const char *path, const cJSON *vocab)
{
    for (uint32_t b = 0; b < 256; b++) {
        char text[3];
        byte_to_text(b, text);
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(vocab, text);
        if (!item || tokenizer->byte[id_of(item)] >= 0) {
            log_error("%s: vocab has %s for byte %u (\"%s\"); " SUPPORTED, path,
                      item ? "an id used before" : "no id", b, text);
            return false;
        }
        map_byte(tokenizer, b, id_of(item));
    }
    return true;
}

static bool map_added(struct tokenizer *tokenizer, const char *path, const cJSON *added)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, added) {
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "content"));
        const uint32_t id = id_of(cJSON_GetObjectItemCaseSensitive(item, "id"));
        if (!text || tokenizer->byte[id] >= 0) {
            log_error("%s: added token %u %s", path, id,
                      text ? "has the id of a byte" : "has no \"content\"");
            return false;
        }
        add_special(tokenizer, id, text);
    }
    return true;
}

static struct tokenizer *build(const char *path, const cJSON *root)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    const char *problem = obstacle(root, model);
    if (problem) {
        log_error("%s: %s; " SUPPORTED, path, problem);
        return NULL;
    }
    const cJSON *vocab = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    const uint32_t count = count_ids(vocab, added);
    if (count == 0) {
        log_error("%s: an id that is not a whole number from 0 to %d, or no ids", path,
                  ID_LIMIT - 1);
        return NULL;
    }
    struct tokenizer *tokenizer = create(count, (uint32_t)cJSON_GetArraySize(added));
    if (!map_vocab(tokenizer, path, vocab) || !map_added(tokenizer, path, added))
        tokenizer_destroy(&tokenizer);
    return tokenizer;
}

struct tokenizer *tokenizer_parse(const char *name, const char *text, size_t bytes)
{
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    struct tokenizer *tokenizer = NULL;
    if (cJSON_IsObject(root))
        tokenizer = build(name, root);
    else
        log_error("%s: not JSON; wanted a Hugging Face tokenizer.json", name);
    cJSON_Delete(root);
    return tokenizer;
}

struct tokenizer *tokenizer_load(const char *path)
{
    void *text;
    uint64_t bytes;
    if (!file_read(path, FILE_LIMIT, &text, &bytes)) return NULL;
    struct tokenizer *tokenizer = tokenizer_parse(path, text, bytes);
    free(text);
    return tokenizer;
}

// ---- writing

static cJSON *byte_level(void)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", "ByteLevel");
    cJSON_AddFalseToObject(object, "add_prefix_space");
    cJSON_AddFalseToObject(object, "trim_offsets");
    cJSON_AddFalseToObject(object, "use_regex"); // nothing is merged, so there are no words to find
    return object;
}

static void add_model(cJSON *root, const struct tokenizer *tokenizer)
{
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON_AddNullToObject(model, "dropout");
    cJSON_AddNullToObject(model, "unk_token");
    cJSON_AddNullToObject(model, "continuing_subword_prefix");
    cJSON_AddNullToObject(model, "end_of_word_suffix");
    cJSON_AddFalseToObject(model, "fuse_unk");
    cJSON_AddFalseToObject(model, "byte_fallback");
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab");
    for (uint32_t b = 0; b < 256; b++) {
        char text[3];
        byte_to_text(b, text);
        cJSON_AddNumberToObject(vocab, text, tokenizer->id[b]);
    }
    cJSON_AddArrayToObject(model, "merges");
}

static void add_added(cJSON *root, const struct tokenizer *tokenizer)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens");
    for (uint32_t i = 0; i < tokenizer->special_count; i++) {
        cJSON *token = cJSON_CreateObject();
        cJSON_AddNumberToObject(token, "id", tokenizer->special[i].id);
        cJSON_AddStringToObject(token, "content", tokenizer->special[i].text);
        for (size_t f = 0; f < COUNT_OF(flags); f++) cJSON_AddFalseToObject(token, flags[f]);
        cJSON_AddTrueToObject(token, "special");
        cJSON_AddItemToArray(added, token);
    }
}

bool tokenizer_save(const struct tokenizer *tokenizer, const char *path)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", "1.0");
    cJSON_AddNullToObject(root, "truncation");
    cJSON_AddNullToObject(root, "padding");
    add_added(root, tokenizer);
    cJSON_AddNullToObject(root, "normalizer");
    cJSON_AddItemToObject(root, "pre_tokenizer", byte_level());
    cJSON_AddNullToObject(root, "post_processor");
    cJSON_AddItemToObject(root, "decoder", byte_level());
    add_model(root, tokenizer);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);

    struct file_writer *writer = file_writer_open(path);
    bool ok = writer && file_writer_write(writer, text, strlen(text))
        && file_writer_write(writer, "\n", 1);
    if (ok)
        ok = file_writer_commit(&writer);
    else if (writer)
        file_writer_abort(&writer);
    cJSON_free(text);
    return ok;
}

// ---- using

size_t tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                        uint32_t *ids)
{
    for (size_t i = 0; i < bytes; i++) ids[i] = tokenizer->id[(uint8_t)text[i]];
    return bytes;
}

void tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                      struct bytes *out)
{
    for (size_t i = 0; i < count; i++) {
        if (tokenizer_id_bytes(tokenizer, ids[i]) == 0) continue;
        const uint8_t byte = (uint8_t)tokenizer->byte[ids[i]];
        bytes_append(out, &byte, 1);
    }
}

uint32_t tokenizer_count(const struct tokenizer *tokenizer) { return tokenizer->count; }

uint32_t tokenizer_eot(const struct tokenizer *tokenizer) { return tokenizer->eot; }

uint32_t tokenizer_id_bytes(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->count && tokenizer->byte[id] >= 0;
}
