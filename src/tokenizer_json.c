// SPDX-License-Identifier: MIT
// Reads a tokenizer.json: vocabulary and merges here, the steps of a text in tokenizer_steps.c. A
// file is damaged or asks for something else: one line with its name, the field, what was found.
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "src/tokenizer_internal.h"

static const cJSON *field(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

// An item that is no id gives TOKENIZER_ID_LIMIT.
static uint32_t id_of(const cJSON *item)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value < TOKENIZER_ID_LIMIT) || value != (uint32_t)value)
        return TOKENIZER_ID_LIMIT;
    return (uint32_t)value;
}

static bool refuse(const char *name, const char *what, const char *found, const char *wanted)
{
    log_error("%s: %s: found %s, wanted %s", name, what, SHOWN(found), wanted);
    return false;
}

// ---- the model's options

static bool is_unset(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    return !item || cJSON_IsNull(item) || (text && !*text);
}

static bool read_flag(const char *name, const cJSON *model, const char *key, bool *out)
{
    const cJSON *item = field(model, key);
    *out = cJSON_IsTrue(item);
    if (!item || cJSON_IsBool(item) || cJSON_IsNull(item)) return true;
    log_error("%s: model.%s: wanted true or false", name, key);
    return false;
}

static bool read_options(struct tokenizer *t, const char *name, const cJSON *model)
{
    const char *type = cJSON_GetStringValue(field(model, "type"));
    const cJSON *dropout = field(model, "dropout");
    if (!cJSON_IsObject(model)) return refuse(name, "model", "none", "a BPE model");
    if ((type && strcmp(type, "BPE") != 0) || (!type && !field(model, "merges")))
        return refuse(name, "model.type", type ? type : "none", "BPE");
    if (dropout && !cJSON_IsNull(dropout) && cJSON_GetNumberValue(dropout) != 0)
        return refuse(name, "model.dropout", "a dropout", "null: the same text, the same ids");
    if (!is_unset(field(model, "continuing_subword_prefix")))
        return refuse(name, "model.continuing_subword_prefix", "one", "null");
    if (!is_unset(field(model, "end_of_word_suffix")))
        return refuse(name, "model.end_of_word_suffix", "one", "null");
    if (!cJSON_IsObject(field(model, "vocab")))
        return refuse(name, "model.vocab", "none", "an object of ids");
    return read_flag(name, model, "byte_fallback", &t->byte_fallback) &&
           read_flag(name, model, "fuse_unk", &t->fuse_unk) &&
           read_flag(name, model, "ignore_merges", &t->ignore_merges);
}

// ---- vocabulary

// One more than the largest id of the file; 0 where one is no id, or there is none.
static uint32_t count_ids(const cJSON *vocab, const cJSON *added)
{
    uint32_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) count = max_u32(count, id_of(item) + 1);
    cJSON_ArrayForEach(item, added) count = max_u32(count, id_of(field(item, "id")) + 1);
    return count > TOKENIZER_ID_LIMIT ? 0 : count;
}

// What merging sees of an entry: its bytes, or its text.
static struct slice model_text(struct tokenizer *t, const char *text)
{
    const size_t length = strlen(text);
    if (!t->byte_level) return (struct slice){(const uint8_t *)text, length};
    uint8_t *bytes = arena_alloc(t->arena, length + 1);
    size_t count = 0;
    const bool ok = text_to_bytes(text, bytes, &count);
    return (struct slice){bytes, ok ? count : 0}; // other characters are never reached
}

static bool read_entry(struct tokenizer *t, const char *name, const cJSON *item)
{
    struct token *token = &t->token[id_of(item)];
    if (token->text) {
        log_error("%s: model.vocab: \"%s\" and \"%s\" have one id, %u", name, SHOWN(token->text),
                  SHOWN(item->string), id_of(item));
        return false;
    }
    token->text = arena_strdup(t->arena, item->string);
    token->model = model_text(t, token->text);
    token->span = (uint32_t)token->model.count;
    return true;
}

static bool read_vocab(struct tokenizer *t, const char *name, const cJSON *vocab)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab)
        if (!read_entry(t, name, item)) return false;
    vocab_index(t);
    for (uint32_t id = 0; id < t->count; id++) {
        const struct slice model = t->token[id].model;
        const uint32_t found = model.count ? vocab_find(t, model) : id;
        if (found == id) continue;
        log_error("%s: model.vocab: \"%s\" is there twice, as %u and %u", name,
                  SHOWN(t->token[id].text), found, id);
        return false;
    }
    return true;
}

static uint32_t find_text(const struct tokenizer *t, const char *text)
{
    return *text ? vocab_find(t, slice_of(text)) : TOKENIZER_NONE;
}

// Byte-level: a vocabulary without a byte would lose text.
static bool map_bytes(struct tokenizer *t, const char *name)
{
    for (uint32_t b = 0; b < 256; b++) {
        const uint8_t byte = (uint8_t)b;
        char text[8];
        if (t->byte_level) {
            byte_to_text(b, text);
            t->byte[b] = vocab_find(t, (struct slice){&byte, 1});
        } else {
            snprintf(text, sizeof text, "<0x%02X>", b);
            t->byte[b] = find_text(t, text);
        }
        if (t->byte_level && t->byte[b] == TOKENIZER_NONE) {
            log_error("%s: model.vocab: no id for byte %u (\"%s\"); wanted all 256", name, b, text);
            return false;
        }
        if (!t->byte_level && t->byte[b] != TOKENIZER_NONE) t->token[t->byte[b]].span = 1;
    }
    for (uint32_t c = 0; c < 128; c++) {
        const uint8_t byte = (uint8_t)c;
        t->ascii[c] = vocab_find(t, (struct slice){&byte, 1});
    }
    return true;
}

static bool read_unknown(struct tokenizer *t, const char *name, const cJSON *model)
{
    const char *text = cJSON_GetStringValue(field(model, "unk_token"));
    t->unk = TOKENIZER_NONE;
    if (!text || t->byte_level) return true; // all bytes are known
    t->unk = find_text(t, text);
    if (t->unk != TOKENIZER_NONE) return true;
    return refuse(name, "model.unk_token", text, "an entry of model.vocab");
}

// ---- merges

// Both halves of a merge: ["a", "b"] or "a b"; false: it is neither.
static bool halves(const cJSON *item, struct bytes *left, struct bytes *right)
{
    const char *text = cJSON_GetStringValue(item);
    const char *a = cJSON_GetStringValue(cJSON_GetArrayItem(item, 0));
    const char *b = cJSON_GetStringValue(cJSON_GetArrayItem(item, 1));
    left->count = right->count = 0;
    if (text) {
        const char *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        bytes_append(left, text, (size_t)(space - text));
        bytes_append(right, space + 1, strlen(space + 1));
    } else if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2 && a && b) {
        bytes_append(left, a, strlen(a));
        bytes_append(right, b, strlen(b));
    }
    return left->count > 0 && right->count > 0;
}

// From the file's spelling to the model's, in place.
static bool to_model(const struct tokenizer *t, struct bytes *text)
{
    if (!t->byte_level) return true;
    size_t count = 0;
    struct bytes out = {0};
    bytes_append(&out, text->data, text->count);
    const bool ok = text_to_bytes((const char *)text->data, out.data, &count);
    text->count = 0;
    bytes_append(text, out.data, count);
    bytes_free(&out);
    return ok;
}

struct merge_reader { struct bytes left, right, both; };

static uint32_t find_bytes(const struct tokenizer *t, const struct bytes *text)
{
    return vocab_find(t, (struct slice){text->data, text->count});
}

static bool read_merge(struct tokenizer *t, const char *name, const cJSON *item, uint32_t rank,
                       struct merge_reader *r)
{
    if (!halves(item, &r->left, &r->right)) {
        log_error("%s: model.merges[%u]: wanted \"a b\" or [\"a\", \"b\"]", name, rank);
        return false;
    }
    const bool spelled = to_model(t, &r->left) & to_model(t, &r->right);
    r->both.count = 0;
    bytes_append(&r->both, r->left.data, r->left.count);
    bytes_append(&r->both, r->right.data, r->right.count);
    const uint32_t left = spelled ? find_bytes(t, &r->left) : TOKENIZER_NONE,
                   right = spelled ? find_bytes(t, &r->right) : TOKENIZER_NONE,
                   both = spelled ? find_bytes(t, &r->both) : TOKENIZER_NONE;
    if (left == TOKENIZER_NONE || right == TOKENIZER_NONE || both == TOKENIZER_NONE ||
        (t->unk != TOKENIZER_NONE && (left == t->unk || right == t->unk))) {
        log_error("%s: model.merges[%u]: %s is not in model.vocab, or is the unknown token", name,
                  rank, left == TOKENIZER_NONE ? "its left part"
                        : right == TOKENIZER_NONE ? "its right part" : "what it gives");
        return false;
    }
    if (!pairs_add(&t->pairs, left, right, rank)) {
        log_error("%s: model.merges[%u]: the same pair as a merge before it", name, rank);
        return false;
    }
    t->merged[rank] = both;
    t->unk_merged |= both == t->unk;
    t->token[both].span = t->token[left].span + t->token[right].span;
    return true;
}

static bool read_merges(struct tokenizer *t, const char *name, const cJSON *merges)
{
    const cJSON *item;
    uint32_t rank = 0;
    const int count = cJSON_GetArraySize(merges);
    if (!cJSON_IsArray(merges)) return refuse(name, "model.merges", "none", "a list");
    if (count >= TOKENIZER_MERGE_LIMIT)
        return refuse(name, "model.merges", "too many", "less than 2^24");
    t->merge_count = (uint32_t)count;
    t->merged = arena_array(t->arena, t->merge_count, sizeof *t->merged);
    pairs_create(&t->pairs, t->merge_count, t->arena);
    struct merge_reader reader = {0};
    bool ok = true;
    cJSON_ArrayForEach(item, merges) {
        ok = read_merge(t, name, item, rank++, &reader);
        if (!ok) break;
    }
    bytes_free(&reader.left);
    bytes_free(&reader.right);
    bytes_free(&reader.both);
    return ok;
}

static bool ends_with(struct slice text, struct slice with)
{
    return text.count >= with.count &&
           memcmp(text.data + text.count - with.count, with.data, with.count) == 0;
}

// Where no merge joins two characters a text can be cut between them, so that words are found
// again: between ASCII characters, and in front of a space (as the file spells it).
static void note_join(struct tokenizer *t, struct slice left, struct slice right)
{
    const uint8_t last = left.data[left.count - 1], first = right.data[0];
    if (last < 128 && first < 128) t->joins[last][first] = true;
    if (t->cut_at_space && right.count >= t->space.count &&
        memcmp(right.data, t->space.data, t->space.count) == 0)
        t->cut_at_space = ends_with(left, t->space);
}

static void find_cuts(struct tokenizer *t)
{
    for (uint32_t i = 0; i < t->split_count; i++)
        if (t->split[i].kind == SPLIT_METASPACE) t->space = t->split[i].replacement;
    for (uint32_t i = 0; i < t->normal_count; i++)
        if (t->normalizer[i].kind == NORMAL_REPLACE) t->space = t->normalizer[i].to;
    t->cuts = !t->byte_level && !t->ignore_merges;
    if (!t->cuts) return;
    t->cut_at_space = t->space.count && vocab_find(t, t->space) != TOKENIZER_NONE &&
                      utf8_length(t->space.data, t->space.count) == t->space.count;
    for (uint32_t a = 0; a < 128; a++) // unknown ones may be fused
        for (uint32_t b = 0; b < 128; b++)
            t->joins[a][b] = t->ascii[a] == TOKENIZER_NONE || t->ascii[b] == TOKENIZER_NONE;
    for (uint64_t at = 0; at <= t->pairs.mask; at++) {
        const uint64_t slot = t->pairs.slot[at];
        if (slot != UINT64_MAX)
            note_join(t, t->token[slot >> 44].model,
                      t->token[slot >> 24 & (TOKENIZER_ID_LIMIT - 1)].model);
    }
}

// ---- the whole file

static void summarize(struct tokenizer *t)
{
    uint32_t ids = 0;
    for (uint32_t i = 0; i < t->count; i++) ids += t->token[i].text != NULL;
    t->summary = arena_printf(t->arena, "%s%s, %u ids, %u merges, %u special token%s",
                              t->byte_level ? "byte-level" : "characters",
                              t->merge_count ? " BPE" : t->byte_fallback ? ", bytes" : "", ids,
                              t->merge_count, t->specials, t->specials == 1 ? "" : "s");
}

static bool build(struct tokenizer *t, const char *name, const cJSON *root)
{
    const cJSON *model = field(root, "model"), *added = field(root, "added_tokens");
    if (!read_options(t, name, model) || !steps_read(t, name, root)) return false;
    const cJSON *vocab = field(model, "vocab");
    t->count = count_ids(vocab, added);
    if (t->count == 0) {
        log_error("%s: an id that is not a whole number from 0 to %d, or no ids", name,
                  TOKENIZER_ID_LIMIT - 1);
        return false;
    }
    t->token = arena_array(t->arena, t->count, sizeof *t->token);
    if (!read_vocab(t, name, vocab) || !map_bytes(t, name) || !read_unknown(t, name, model) ||
        !read_merges(t, name, field(model, "merges")) || !added_read(t, name, added))
        return false;
    find_cuts(t);
    decoder_apply(t, field(root, "decoder"));
    summarize(t);
    return true;
}

// cJSON's strings end at a zero byte.
static bool has_zero(const char *text, size_t bytes)
{
    if (memchr(text, 0, bytes)) return true;
    for (const char *at = text, *end = text + bytes;
         (at = memmem(at, (size_t)(end - at), "\\u0000", 6)) != NULL; at++) {
        size_t slashes = 0;
        while (at - slashes > text && at[-1 - (ptrdiff_t)slashes] == '\\') slashes++;
        if (slashes % 2 == 0) return true;
    }
    return false;
}

static struct tokenizer *create(const char *text, size_t bytes)
{
    struct arena *arena = arena_create("tokenizer");
    struct tokenizer *t = arena_alloc(arena, sizeof *t);
    uint8_t *source = memcpy(arena_alloc(arena, bytes + 1), text, bytes);
    t->arena = arena;
    t->source = (struct slice){source, bytes};
    t->eot = TOKENIZER_NONE;
    atomic_flag_clear(&t->shared_taken);
    return t;
}

struct tokenizer *tokenizer_parse(const char *name, const char *text, size_t bytes)
{
    const bool zero = has_zero(text, bytes);
    cJSON *root = zero ? NULL : cJSON_ParseWithLength(text, bytes);
    struct tokenizer *t = NULL;
    if (cJSON_IsObject(root)) {
        t = create(text, bytes);
        if (!build(t, name, root)) tokenizer_destroy(&t);
    } else {
        log_error(zero ? "%s: a zero character (\\u0000) in it; that is not supported"
                       : "%s: not JSON; wanted a Hugging Face tokenizer.json", name);
    }
    cJSON_Delete(root);
    return t;
}

struct tokenizer *tokenizer_load(const char *path)
{
    void *text;
    uint64_t bytes;
    if (!file_read(path, TOKENIZER_FILE_LIMIT, &text, &bytes)) return NULL;
    struct tokenizer *tokenizer = tokenizer_parse(path, text, bytes);
    free(text);
    return tokenizer;
}
