// SPDX-License-Identifier: MIT
// Text -> ids, in memory or through a file: see corpus_tokens.h.
#include "src/corpus_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checksum.h"
#include "runtime/folder.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/corpus_room.h"
#include "src/corpus_text.h"

enum { STEP = 4 << 20 }; // bytes that are looked at before the next are
static const char magic[8] = "vkmoeti1";

struct footer {
    char     magic[8];
    uint64_t key, documents, tokens, width;
    uint64_t checksum; // of all before the footer
    uint64_t zero, own; // own: of the footer's other bytes
};
_Static_assert(sizeof(struct footer) == 64, "as corpus_tokens.h has it");

static uint64_t chain(uint64_t hash, const void *data, uint64_t bytes)
{
    const uint64_t pair[2] = {hash, checksum_xxh64(data, bytes)};
    return checksum_xxh64(pair, sizeof pair);
}

// The hash of much, step by step.
static uint64_t chain_all(uint64_t hash, const uint8_t *data, uint64_t bytes,
                          struct corpus_room *room)
{
    for (uint64_t at = 0; at < bytes; at += STEP) {
        const uint64_t some = min_u64(STEP, bytes - at);
        hash = chain(hash, data + at, some);
        corpus_room_touch(room, some);
    }
    return hash;
}

uint64_t corpus_tokens_key(const struct documents *documents, const struct tokenizer *tokenizer)
{
    const uint64_t made_by = tokenizer_fingerprint(tokenizer);
    uint64_t hash = chain(0, magic, sizeof magic);
    hash = chain(hash, &made_by, sizeof made_by);
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        if (document->width != 1) continue;
        hash = chain(hash, &document->count, sizeof document->count);
        hash = chain_all(hash, document->start, document->count, documents->room);
    }
    return hash;
}

bool corpus_tokens_path(uint64_t key, char *path, size_t bytes)
{
    char folder[4000];
    if (!corpus_folder("tokens", folder, sizeof folder)) return false;
    snprintf(path, bytes, "%s/%016llx.tokens", folder, (unsigned long long)key);
    return true;
}

// ---- writing

struct sink {
    struct file_writer       *writer; // NULL: into memory
    const struct tokenizer   *tokenizer;
    struct corpus_room       *room;
    struct bytes              ids;    // of the step at hand, or of the document in memory
    uint32_t                  width;
    uint64_t                  tokens, checksum;
    uint64_t                 *counts; // of the documents so far
    uint64_t                  documents;
};

static bool write_step(struct sink *sink)
{
    const uint64_t bytes = sink->ids.count;
    sink->checksum = chain(sink->checksum, sink->ids.data, bytes);
    sink->ids.count = 0;
    return file_writer_write(sink->writer, sink->ids.data, bytes);
}

// Ids as narrow as the tokenizer allows.
static bool take_ids(void *user, const uint32_t *ids, uint64_t count)
{
    struct sink *sink = user;
    uint16_t narrow[2048];
    sink->tokens += count;
    while (count > 0) {
        const uint64_t room = sink->writer ? (STEP - sink->ids.count) / sink->width : count;
        const uint64_t some = min_u64(min_u64(count, room), COUNT_OF(narrow));
        for (uint64_t i = 0; i < some; i++) narrow[i] = (uint16_t)ids[i];
        bytes_append(&sink->ids, sink->width == 2 ? (const void *)narrow : ids, some * sink->width);
        if (sink->writer && sink->ids.count == STEP && !write_step(sink)) return false;
        ids += some;
        count -= some;
    }
    return true;
}

static bool write_footer(struct sink *sink, uint64_t key)
{
    static const uint8_t zero[8] = {0};
    const uint64_t pad = (8 - sink->tokens * sink->width % 8) % 8;
    if (sink->ids.count && !write_step(sink)) return false;
    struct footer footer = {.key = key, .documents = sink->documents, .tokens = sink->tokens,
                            .width = sink->width};
    memcpy(footer.magic, magic, sizeof magic);
    footer.checksum = chain(sink->checksum, sink->counts, sink->documents * sizeof(uint64_t));
    footer.own = checksum_xxh64(&footer, sizeof footer - sizeof footer.own);
    return file_writer_write(sink->writer, zero, pad) &&
           file_writer_write(sink->writer, sink->counts, sink->documents * sizeof(uint64_t)) &&
           file_writer_write(sink->writer, &footer, sizeof footer);
}

static bool write_documents(struct sink *sink, const struct documents *documents)
{
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        const uint64_t before = sink->tokens;
        if (document->width != 1) continue;
        if (!corpus_text_encode(document, sink->tokenizer, sink->room, take_ids, sink))
            return false;
        sink->counts[sink->documents++] = sink->tokens - before;
    }
    return true;
}

static bool write_file(struct sink *sink, const struct documents *documents, const char *path,
                       uint64_t key)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    sink->writer = file_make_folders(folder) ? file_writer_open(path) : NULL;
    if (!sink->writer) return false;
    sink->counts = os_alloc((documents->count + 1) * sizeof *sink->counts);
    bool ok = write_documents(sink, documents) && write_footer(sink, key);
    if (ok) ok = file_writer_commit(&sink->writer);
    else file_writer_abort(&sink->writer);
    free(sink->counts);
    return ok;
}

static bool fill_memory(struct sink *sink, struct documents *documents)
{
    for (uint64_t i = 0; i < documents->count; i++) {
        struct document *document = &documents->document[i];
        if (document->width != 1) continue;
        sink->ids.count = 0;
        if (!corpus_text_encode(document, sink->tokenizer, sink->room, take_ids, sink))
            return false;
        void *ids = corpus_room_alloc(sink->room, sink->ids.count);
        if (!ids) return false;
        if (sink->ids.count) memcpy(ids, sink->ids.data, sink->ids.count);
        document->bytes = document->count;
        document->start = ids;
        document->count = sink->ids.count / sink->width;
        document->width = (uint8_t)sink->width;
    }
    return true;
}

// ---- reading

struct parts { const uint8_t *ids; const uint64_t *counts; uint64_t documents; uint32_t width; };

// Whether the sizes are those of the file, the counts those of the tokens.
static bool find_parts(const struct file_map *map, const struct footer *f, struct parts *out)
{
    uint64_t ids, counts, sum = 0;
    if (!checked_mul(f->tokens, f->width, &ids) || !checked_add(ids, 7, &ids) ||
        !checked_mul(f->documents, sizeof(uint64_t), &counts) ||
        ids / 8 * 8 > map->bytes || counts > map->bytes ||
        ids / 8 * 8 + counts + sizeof *f != map->bytes)
        return false;
    *out = (struct parts){.ids = map->data, .documents = f->documents, .width = (uint32_t)f->width,
                          .counts = (const uint64_t *)(const void *)(map->data + ids / 8 * 8)};
    for (uint64_t i = 0; i < f->documents; i++)
        if (!checked_add(sum, out->counts[i], &sum)) return false;
    return sum == f->tokens;
}

// A file of this key, for so many texts, with the ids that were written.
static bool is_whole(const struct file_map *map, uint64_t key, uint64_t texts,
                     struct corpus_room *room, struct parts *parts)
{
    struct footer f;
    if (map->bytes < sizeof f) return false;
    memcpy(&f, map->data + map->bytes - sizeof f, sizeof f);
    if (memcmp(f.magic, magic, sizeof magic) != 0 || f.key != key || f.documents != texts ||
        (f.width != 2 && f.width != 4) ||
        f.own != checksum_xxh64(&f, sizeof f - sizeof f.own) || !find_parts(map, &f, parts))
        return false;
    const uint64_t sum = chain_all(0, map->data, f.tokens * f.width, room);
    return f.checksum == chain(sum, parts->counts, f.documents * sizeof(uint64_t));
}

static void point_at(struct documents *documents, const struct parts *parts)
{
    const uint8_t *ids = parts->ids;
    for (uint64_t i = 0, d = 0; i < documents->count; i++) {
        struct document *document = &documents->document[i];
        if (document->width != 1) continue;
        document->bytes = document->count;
        document->start = ids;
        document->count = parts->counts[d++];
        document->width = (uint8_t)parts->width;
        ids += document->count * parts->width;
    }
}

// True where the documents have the ids of the file.
static bool take_file(struct documents *documents, const char *path, uint64_t key, uint64_t texts)
{
    struct file_map map;
    struct parts parts;
    if (!file_map(path, &map)) return false;
    // from here on among what leaves memory
    corpus_room_map(documents->room, &(struct file_map){map.data, map.bytes});
    if (!is_whole(&map, key, texts, documents->room, &parts)) {
        log_info("%s: damaged, or not of these texts: made anew", path);
        return false;
    }
    point_at(documents, &parts);
    return true;
}

// ---- all of it

static bool refuse_changed(const char *path)
{
    log_error("%s: changed while it was made; does another program write there?", path);
    return false;
}

static bool through_file(struct sink *sink, struct documents *documents, uint64_t text_bytes,
                         bool kept)
{
    char path[4200];
    const uint64_t key = kept ? corpus_tokens_key(documents, sink->tokenizer) : 0;
    uint64_t texts = 0;
    for (uint64_t i = 0; i < documents->count; i++) texts += documents->document[i].width == 1;
    if (!corpus_tokens_path(key, path, sizeof path)) return false;
    if (!kept)
        snprintf(strrchr(path, '/'), 64, "/unkept-%016llx", (unsigned long long)os_time_ns());
    if (kept && file_exists(path) && take_file(documents, path, key, texts)) {
        log_info("tokens: from %s", path);
        return true;
    }
    const double began = os_seconds();
    const bool ok = write_file(sink, documents, path, key) &&
                    (take_file(documents, path, key, texts) || refuse_changed(path));
    if (!kept && !file_remove(path)) return false; // what is mapped stays
    if (ok)
        log_info("tokens: %.1f MiB of text in %.1f s%s%s", (double)text_bytes / 1048576,
                 os_seconds() - began, kept ? ", kept in " : "", kept ? path : "");
    return ok;
}

// Where nothing can be kept, what was not asked for is not done.
static bool can_keep(const struct config_corpus *rules)
{
    char path[4200];
    if (rules->token_cache == CONFIG_CACHE_ON) return true;
    return os_cache_folder(path, sizeof path) && folder_can_write(path);
}

bool corpus_encode(struct documents *documents, const struct tokenizer *tokenizer,
                   const struct config_corpus *rules)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < documents->count; i++)
        if (documents->document[i].width == 1) bytes += documents->document[i].count;
    if (bytes == 0) return true;
    const bool asked = rules->token_cache == CONFIG_CACHE_ON ||
                       (rules->token_cache == CONFIG_CACHE_AUTO && bytes >= CORPUS_CACHE_LEAST),
               kept = asked && can_keep(rules), large = bytes > corpus_room_most(documents->room);
    if (asked && !kept)
        log_warn("data: the folder for caches cannot be written: tokens are not kept; set "
                 "VKMOE_CACHE to one that can, or token_cache to off");
    struct sink sink = {.tokenizer = tokenizer, .room = documents->room,
                        .width = tokenizer_count(tokenizer) <= 1u << 16 ? 2 : 4};
    const bool ok = kept || large ? through_file(&sink, documents, bytes, kept)
                                  : fill_memory(&sink, documents);
    bytes_free(&sink.ids);
    return ok;
}
