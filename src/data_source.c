// SPDX-License-Identifier: MIT
// Paths -> documents: see data_source.h. A file that was named must be readable as what it is; one
// that was found in a folder is passed over where it is no text.
#include "src/data_source.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/config_fields.h"
#include "src/corpus_mix.h"
#include "src/corpus_room.h"
#include "src/data_toy.h"
#include "src/data_wiki.h"
#include "src/fct_source.h"

enum {
    READ_LIMIT  = 16 << 20, // larger files are mapped
    PROBE_BYTES = 8 << 10,  // decide whether a file is text
    SHARD_HEADER_BYTES = 256 * 4, SHARD_16 = 20240520, SHARD_32 = 20240801,
    GPT2_EOT = 50256, LLAMA3_EOT = 128000,
    DEPTH_LIMIT = 64,
    STEP_IDS = 1 << 20, // looked at before their pages may leave memory
};

struct collector {
    struct documents         *out;
    const struct data_params *params;
    bool                      wiki; // the path says that its files are WikiText's
};

static void add_document(struct documents *out, const struct document *document)
{
    if (out->count == out->capacity) {
        const uint64_t capacity = out->capacity ? 2 * out->capacity : 64;
        out->document = os_grow(out->document, out->capacity * sizeof *document,
                                capacity * sizeof *document);
        out->capacity = capacity;
    }
    out->document[out->count++] = *document;
}

static uint32_t shard_id(const void *ids, uint64_t i, uint32_t width)
{
    return width == 2 ? ((const uint16_t *)ids)[i] : ((const uint32_t *)ids)[i];
}

uint64_t document_bytes(const struct document *document, uint64_t from, uint64_t count,
                        const struct tokenizer *tokenizer)
{
    const uint64_t end = from < document->count ? from + min_u64(count, document->count - from) : 0;
    if (document->width == 1) return end > from ? end - from : 0;
    uint64_t bytes = 0;
    for (uint64_t i = from; tokenizer && i < end; i++)
        if (!document->scored || document->scored[i])
            bytes += tokenizer_id_bytes(tokenizer, shard_id(document->start, i, document->width));
    return bytes;
}

uint64_t document_scored(const struct document *document)
{
    uint64_t scored = 0;
    if (!document->scored) return document->count + document->ends;
    for (uint64_t i = 0; i < document->count; i++) scored += document->scored[i];
    return scored;
}

void documents_cut(struct documents *documents, uint64_t index, uint64_t front,
                   const struct tokenizer *tokenizer)
{
    struct document tail = documents->document[index], *head = &documents->document[index];
    tail.start = (const uint8_t *)tail.start + front * tail.width;
    if (tail.scored) tail.scored += front;
    tail.count -= front;
    tail.bytes = document_bytes(&tail, 0, tail.count, tokenizer);
    head->count = front;
    head->ends = false;
    head->bytes = document_bytes(head, 0, front, tokenizer);
    add_document(documents, &tail);
}

// Copies ids, in 16 bits where they all fit.
static bool keep_ids(struct documents *documents, struct document *document, const uint32_t *ids,
                     uint64_t count, bool narrow)
{
    document->width = narrow ? 2 : 4;
    document->count = count;
    void *own = corpus_room_alloc(documents->room, count * document->width);
    if (!own) return false;
    for (uint64_t i = 0; narrow && i < count; i++) ((uint16_t *)own)[i] = (uint16_t)ids[i];
    if (!narrow) memcpy(own, ids, count * sizeof *ids);
    document->start = own;
    return true;
}

// The kind of a name, a new one where it is neither a kind of file nor known.
static uint16_t kind_of_domain(struct documents *documents, const char *name)
{
    for (enum data_kind kind = 0; kind < KIND_COUNT; kind++)
        if (strcmp(data_kind_name(kind), name) == 0) return (uint16_t)kind;
    for (uint32_t i = 0; i < documents->name_count; i++)
        if (strcmp(documents->name[i], name) == 0) return (uint16_t)(KIND_COUNT + i);
    const uint32_t count = documents->name_count;
    if (KIND_COUNT + count >= UINT16_MAX) return KIND_TEXT;
    documents->name = os_grow(documents->name, count * sizeof *documents->name,
                              (count + 1) * sizeof *documents->name);
    documents->name[count] = arena_strdup(documents->arena, name);
    documents->name_count++;
    return (uint16_t)(KIND_COUNT + count);
}

bool document_add(struct documents *documents, const uint32_t *ids, const uint8_t *scored,
                  uint64_t count, const char *domain)
{
    struct document document = {.kind = kind_of_domain(documents, domain),
                                .ends = documents->eot != TOKENIZER_NONE};
    uint32_t largest = 0;
    if (count == 0) return true;
    for (uint64_t i = 0; i < count; i++) largest = max_u32(largest, ids[i]);
    if (!keep_ids(documents, &document, ids, count, largest <= UINT16_MAX)) return false;
    if (scored) {
        void *own = corpus_room_alloc(documents->room, count);
        if (!own) return false;
        document.scored = memcpy(own, scored, count);
    }
    add_document(documents, &document);
    return true;
}

// ---- what kind of file

const char *data_kind_name(enum data_kind kind)
{
    static const char *const name[KIND_COUNT] = {
        [KIND_TEXT] = "text", [KIND_C] = "c", [KIND_GLSL] = "glsl", [KIND_MARKDOWN] = "markdown",
        [KIND_JSON] = "json", [KIND_MESON] = "meson", [KIND_SHELL] = "shell",
        [KIND_PYTHON] = "python", [KIND_JSONL] = "jsonl", [KIND_TOKENS] = "tokens",
        [KIND_TOY_COPY] = "copy", [KIND_TOY_REVERSE] = "reverse", [KIND_TOY_SORT] = "sort",
        [KIND_TOY_SUM] = "sum", [KIND_TOY_BRACKETS] = "brackets", [KIND_CHAT] = "chat",
        [KIND_WIKI] = "wiki",
    };
    return name[kind];
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static enum data_kind kind_of_name(const char *path)
{
    static const struct { const char *end; enum data_kind kind; } known[] = {
        {".c", KIND_C}, {".h", KIND_C}, {".cc", KIND_C}, {".cpp", KIND_C}, {".hpp", KIND_C},
        {".comp", KIND_GLSL}, {".glsl", KIND_GLSL}, {".vert", KIND_GLSL}, {".frag", KIND_GLSL},
        {".md", KIND_MARKDOWN}, {".json", KIND_JSON}, {".sh", KIND_SHELL}, {".py", KIND_PYTHON},
        {".jsonl", KIND_JSONL}, {".bin", KIND_TOKENS}, {".tokens", KIND_WIKI},
    };
    const char *name = base_name(path), *dot = strrchr(name, '.');
    if (strcmp(name, "meson.build") == 0 || strncmp(name, "meson_options", 13) == 0)
        return KIND_MESON;
    for (size_t i = 0; dot && i < COUNT_OF(known); i++)
        if (strcmp(dot, known[i].end) == 0) return known[i].kind;
    return KIND_TEXT;
}

// A script without an extension says what it is in its first line.
static enum data_kind kind_of_text(const char *path, const uint8_t *text, uint64_t bytes)
{
    const enum data_kind kind = kind_of_name(path);
    if (kind != KIND_TEXT || bytes < 2 || memcmp(text, "#!", 2) != 0) return kind;
    const uint8_t *end = memchr(text, '\n', bytes);
    const size_t line = end ? (size_t)(end - text) : bytes;
    if (memmem(text, line, "python", 6)) return KIND_PYTHON;
    return memmem(text, line, "sh", 2) ? KIND_SHELL : KIND_TEXT;
}

// Bytes of the UTF-8 sequence that begins with `first`, 0 where none does.
static uint32_t utf8_lead(uint8_t first)
{
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

// The same with its tail; a sequence that the end cuts counts as whole.
static uint32_t utf8_length(const uint8_t *text, uint64_t bytes)
{
    const uint32_t length = utf8_lead(text[0]);
    for (uint32_t i = 1; i < length && i < bytes; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    return length;
}

static bool is_odd_control(uint8_t c)
{
    return c == 127 || (c < 32 && !strchr("\t\n\r\f\b\033", c));
}

// Text has no zero byte, and at most a tenth is neither UTF-8 nor a usual control character.
static bool is_text(const uint8_t *data, uint64_t bytes)
{
    const uint64_t end = min_u64(bytes, PROBE_BYTES);
    uint64_t odd = 0;
    if (memchr(data, 0, end)) return false;
    for (uint64_t i = 0; i < end;) {
        const uint32_t length = utf8_length(data + i, end - i);
        odd += length == 0 || is_odd_control(data[i]);
        i += length ? length : 1;
    }
    return odd * 10 <= end;
}

// ---- text files

bool documents_copy_text(struct documents *out, enum data_kind kind, const void *text,
                         uint64_t bytes)
{
    if (bytes == 0) return true;
    void *copy = corpus_room_alloc(out->room, bytes);
    if (copy) documents_add_text(out, kind, memcpy(copy, text, bytes), bytes);
    return copy != NULL;
}

void documents_add_text(struct documents *out, enum data_kind kind, const void *text,
                        uint64_t bytes)
{
    if (bytes == 0) return;
    add_document(out, &(struct document){
        .start = text, .count = bytes, .width = 1, .kind = (uint16_t)kind,
        .ends = out->eot != TOKENIZER_NONE});
}

// ---- .bin shards

static int32_t shard_word(const uint8_t *data, uint32_t i)
{
    int32_t word;
    memcpy(&word, data + 4 * i, sizeof word);
    return word;
}

static bool is_shard(const uint8_t *data, uint64_t bytes)
{
    const int32_t magic = bytes >= SHARD_HEADER_BYTES ? shard_word(data, 0) : 0;
    return magic == SHARD_16 || magic == SHARD_32;
}

// 0 after one line where the header does not describe the file.
static uint32_t shard_width(const char *path, const uint8_t *data, uint64_t bytes)
{
    if (!is_shard(data, bytes)) {
        log_error("%s: no token shard: wanted 256 int32 that begin {%d or %d, 1, count}", path,
                  SHARD_16, SHARD_32);
        return 0;
    }
    const uint32_t width = shard_word(data, 0) == SHARD_16 ? 2 : 4;
    const int32_t version = shard_word(data, 1), count = shard_word(data, 2);
    if (version != 1 || count < 0 || (uint64_t)count * width != bytes - SHARD_HEADER_BYTES) {
        log_error("%s: the header says version %d, %d tokens of %u bytes, and %llu bytes follow; "
                  "wanted version 1 and all tokens; is the file cut off?", path, version, count,
                  width, (unsigned long long)(bytes - SHARD_HEADER_BYTES));
        return 0;
    }
    return width;
}

static bool check_ids(const struct documents *out, const char *path, const void *ids,
                      uint64_t count, uint32_t width, uint32_t vocab_size)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint32_t id = shard_id(ids, i, width);
        if (i % STEP_IDS == 0) corpus_room_touch(out->room, (uint64_t)STEP_IDS * width);
        if (id < vocab_size) continue;
        log_error("%s: token %llu is id %u, vocab_size is %u; wrong tokenizer for this config?",
                  path, (unsigned long long)i, id, vocab_size);
        return false;
    }
    return true;
}

// Without a tokenizer the first shard says what ends a document, by the width of its ids.
static void guess_eot(struct documents *out, uint32_t width, uint32_t vocab_size)
{
    const uint32_t eot = width == 2 ? GPT2_EOT : LLAMA3_EOT;
    if (out->eot_from_file && out->eot == TOKENIZER_NONE && eot < vocab_size) out->eot = eot;
}

static void cut_shard(const struct collector *c, const uint8_t *ids, uint64_t count, uint32_t width)
{
    struct documents *out = c->out;
    for (uint64_t begin = 0, i = 0; i <= count; i++) {
        if (i % STEP_IDS == 0) corpus_room_touch(out->room, (uint64_t)STEP_IDS * width);
        if (i < count && shard_id(ids, i, width) != out->eot) continue;
        const uint8_t *start = ids + begin * width;
        if (i > begin)
            add_document(out, &(struct document){
                .start = start, .count = i - begin, .width = (uint8_t)width, .kind = KIND_TOKENS,
                .ends = out->eot != TOKENIZER_NONE});
        begin = i + 1;
    }
}

static bool add_shard(const struct collector *c, const char *path, const uint8_t *data,
                      uint64_t bytes)
{
    const uint32_t width = shard_width(path, data, bytes), vocab_size = c->params->vocab_size;
    if (width == 0) return false;
    const uint8_t *ids = data + SHARD_HEADER_BYTES;
    const uint64_t count = (bytes - SHARD_HEADER_BYTES) / width;
    if (!check_ids(c->out, path, ids, count, width, vocab_size)) return false;
    guess_eot(c->out, width, vocab_size);
    cut_shard(c, ids, count, width);
    return true;
}

// ---- files and folders

// What documents point at: a small file is copied, a large one stays mapped. NULL after one line.
static const uint8_t *keep(struct documents *out, struct file_map *map)
{
    if (map->bytes > READ_LIMIT) return corpus_room_map(out->room, map);
    uint8_t *copy = corpus_room_alloc(out->room, map->bytes);
    if (copy) memcpy(copy, map->data, map->bytes);
    file_unmap(map);
    return copy;
}

static bool refuse(const char *path, const char *why)
{
    log_error("%s: %s", path, why);
    return false;
}

// A .jsonl of other things, patterns for one: its first line has no text and no conversation.
static bool is_other_json(const struct file_map *map)
{
    const char *end = memchr(map->data, '\n', map->bytes);
    const size_t line = end ? (size_t)(end - (const char *)map->data) : map->bytes;
    return !memmem(map->data, line, "\"text\"", 6) && !memmem(map->data, line, "\"messages\"", 10);
}

// Its texts are copied line by line; a large file leaves memory behind them.
static bool read_json_lines(const struct collector *c, const char *path, struct file_map *map)
{
    const uint64_t bytes = map->bytes;
    const uint8_t *text = bytes > READ_LIMIT ? corpus_room_map(c->out->room, map) : map->data;
    return data_json_lines(c->out, c->params, path, (const char *)text, bytes);
}

// A file that is only called like WikiText's is text like any other.
static bool add_wiki(const struct collector *c, const char *path, const uint8_t *text,
                     uint64_t bytes)
{
    if (wiki_documents(c->out, (const char *)text, bytes)) return true;
    if (c->wiki)
        return refuse(path, "no title of an article; wanted a WikiText file, with lines "
                            "\" = Title = \" between blank ones");
    documents_add_text(c->out, KIND_TEXT, text, bytes);
    return true;
}

// Adds what the mapped file holds; `map` is emptied where documents point into it.
static bool add_mapped(const struct collector *c, const char *path, struct file_map *map,
                       bool named)
{
    const uint64_t bytes = map->bytes;
    const uint8_t *data;
    enum data_kind kind = c->wiki ? KIND_WIKI : kind_of_text(path, map->data, bytes);
    if (kind == KIND_TOKENS && (named || is_shard(map->data, bytes)))
        return (data = keep(c->out, map)) && add_shard(c, path, data, bytes);
    // the lines of a .jsonl tell where they are none
    if (!(named && kind == KIND_JSONL) && !is_text(map->data, bytes))
        return !named || refuse(path, "not text (it has zero bytes, or more than a tenth is no "
                                      "UTF-8); wanted text, .jsonl or .bin");
    if (!c->params->tokenizer) return refuse(path, "text, but no tokenizer; wanted .bin shards");
    if (kind == KIND_JSONL && !named && is_other_json(map)) return true;
    if (kind == KIND_JSONL) // its texts are copied line by line
        return read_json_lines(c, path, map);
    data = keep(c->out, map);
    if (data && kind == KIND_WIKI) return add_wiki(c, path, data, bytes);
    if (data) documents_add_text(c->out, kind == KIND_TOKENS ? KIND_TEXT : kind, data, bytes);
    return data != NULL;
}

static bool add_file(const struct collector *c, const char *path, bool named)
{
    struct file_map map;
    if (!file_map(path, &map)) return false;
    const bool good = map.bytes == 0 || add_mapped(c, path, &map, named);
    file_unmap(&map);
    return good;
}

// Builds and runs are made from the text beside them; what they write changes while it is read.
static bool is_output(const struct folder *folder)
{
    return folder_has(folder, "meson-private") || folder_has(folder, "metrics.jsonl")
        || folder_has(folder, "model.safetensors");
}

static bool add_folder(const struct collector *c, const char *path, uint32_t depth)
{
    struct folder folder;
    if (!folder_list(path, &folder)) return false;
    const bool skip = depth > DEPTH_LIMIT || (depth > 0 && is_output(&folder));
    bool good = true;
    for (uint32_t i = 0; good && !skip && i < folder.count; i++) {
        const struct folder_entry *entry = &folder.entry[i];
        if (entry->name[0] == '.') continue;
        struct bytes child = {0};
        const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
        bytes_printf(&child, "%s%s%s", path, slash, entry->name);
        good = entry->is_folder ? add_folder(c, (const char *)child.data, depth + 1)
                                : add_file(c, (const char *)child.data, false);
        bytes_free(&child);
    }
    folder_free(&folder);
    return good;
}

static void add_example(void *user, enum data_kind kind, const char *text)
{
    documents_add_text(user, kind, text, strlen(text));
}

static void add_ids(void *user, const uint32_t *ids)
{
    add_document(user, &(struct document){
        .start = ids, .count = IDS_LENGTH, .width = sizeof *ids, .kind = KIND_TOKENS});
}

bool data_without_text(const char *path)
{
    path = corpus_path(path);
    const size_t length = strlen(path);
    return ids_is(path) || (length > 4 && strcmp(path + length - 4, ".bin") == 0);
}

// A named path gives at least one document.
static bool add_path(const struct collector *c, const char *path)
{
    const uint64_t before = c->out->count;
    if (fct_is(path)) return fct_documents(c->out, c->params, path);
    if (toy_is(path) && !c->params->tokenizer)
        return refuse(path, "a toy task is text, but there is no tokenizer");
    if (toy_is(path)) return toy_generate(path, c->out->arena, add_example, c->out);
    if (ids_is(path))
        return ids_generate(path, c->params->vocab_size, c->out->arena, add_ids, c->out);
    struct collector own = *c;
    if (wiki_path(path)) own.wiki = true, path = wiki_path(path), c = &own;
    const bool is_folder = folder_is(path);
    if (is_folder ? !add_folder(c, path, 0) : !add_file(c, path, true)) return false;
    if (c->out->count > before) return true;
    log_error(is_folder ? "%s: no text in the folder" : "%s: no text in the file", path);
    return false;
}

static bool add_source(const struct collector *c, uint32_t index)
{
    const uint64_t before = c->out->count;
    const char *path;
    double weight;
    if (!corpus_weight(c->params->path[index], &path, &weight) || !add_path(c, path)) return false;
    for (uint64_t i = before; i < c->out->count; i++) c->out->document[i].source = index;
    return true;
}

bool documents_collect(struct documents *out, const struct data_params *params)
{
    const struct collector collector = {.out = out, .params = params};
    const uint32_t count = params->tokenizer ? tokenizer_count(params->tokenizer) : 0;
    out->arena = arena_create("data");
    out->room = corpus_room_create(params->corpus ? params->corpus : &config_defaults.corpus);
    out->eot = params->tokenizer ? tokenizer_eot(params->tokenizer) : TOKENIZER_NONE;
    out->eot_from_file = !params->tokenizer;
    if (params->path_count == 0) {
        log_error("data: no path given; wanted text files, folders, .jsonl or .bin shards");
        return false;
    }
    if (count > params->vocab_size) {
        log_error("data: the tokenizer has %u ids, vocab_size is %u; wanted at least %u", count,
                  params->vocab_size, count);
        return false;
    }
    for (int i = 0; i < params->path_count; i++)
        if (!add_source(&collector, (uint32_t)i)) return false;
    for (uint64_t i = 0; i < out->count; i++) {
        struct document *document = &out->document[i];
        document->bytes = 0;
        for (uint64_t at = 0; at < document->count; at += STEP_IDS) {
            const uint64_t some = min_u64(STEP_IDS, document->count - at);
            document->bytes += document_bytes(document, at, some, params->tokenizer);
            if (document->width > 1) corpus_room_touch(out->room, some * document->width);
        }
    }
    return true;
}

void documents_finish(struct documents *documents)
{
    corpus_room_destroy(&documents->room);
    free((void *)documents->name);
    free(documents->document);
    if (documents->arena) arena_destroy(&documents->arena);
    *documents = (struct documents){0};
}
