// SPDX-License-Identifier: MIT
// vkmoe tokenizer: train one on text, encode and decode with any, say what it is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "src/data_source.h"
#include "src/tokenizer_train.h"
#include "tools/cli.h"

enum { SHARD_HEADER = 256, SHARD_16 = 20240520, SHARD_32 = 20240801 };

static int wrong_usage(const char *wants)
{
    fprintf(stderr, "vkmoe tokenizer: wants %s; see vkmoe tokenizer --help\n", wants);
    return EXIT_USAGE;
}

// A tokenizer.json, or the folder of a run.
static struct tokenizer *open_tokenizer(const char *path)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/tokenizer.json", path);
    return tokenizer_load(folder_is(path) ? file : path);
}

// ---- train

static bool add_documents(struct tokenizer_trainer *trainer, const struct documents *documents)
{
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *document = &documents->document[i];
        if (document->width != 1) {
            log_error("tokenizer train: a .bin shard has no text; wanted text files, folders, "
                      ".jsonl");
            return false;
        }
        if (!tokenizer_trainer_add(trainer, document->start, document->count)) return false;
    }
    return true;
}

static bool collect(const struct cli *cli, struct documents *documents)
{
    struct tokenizer *bytes = tokenizer_create_bytes();
    const bool ok = documents_collect(documents, &(struct data_params){
        .path = cli->data, .path_count = cli->data_count, .tokenizer = bytes,
        .vocab_size = TOKENIZER_BYTES_COUNT, .seq_len = 1, .text_only = true});
    tokenizer_destroy(&bytes);
    return ok;
}

static void print_trained(const struct cli *cli, const struct tokenizer *t,
                          const struct tokenizer_trained *r, double seconds)
{
    if (cli->json)
        printf("{\"bytes\": %llu, \"words\": %llu, \"unique_words\": %llu, \"merges\": %u, "
               "\"ids\": %u, \"seconds\": %.3f}\n", (unsigned long long)r->bytes,
               (unsigned long long)r->words, (unsigned long long)r->unique, r->merges,
               tokenizer_count(t), seconds);
    else
        printf("%llu bytes, %llu words, %llu different; %s; %.2f s; saved in %s\n",
               (unsigned long long)r->bytes, (unsigned long long)r->words,
               (unsigned long long)r->unique, tokenizer_summary(t), seconds, cli->out);
    if (tokenizer_count(t) < cli->vocab)
        log_warn("%u ids, not %u: no pair is there twice in the text", tokenizer_count(t),
                 cli->vocab);
}

static int train(const struct cli *cli)
{
    if (cli->operand_count != 1 || !cli->data_count || !cli->vocab || !cli->out)
        return wrong_usage("train --data PATH... --vocab N --out FILE");
    struct documents documents = {0};
    struct tokenizer_trained report;
    struct tokenizer *tokenizer = NULL;
    const double began = os_seconds();
    struct tokenizer_trainer *trainer = tokenizer_trainer_create(&(struct tokenizer_training){
        .vocab_size = cli->vocab, .expression = cli->pattern, .special = cli->special,
        .special_count = (uint32_t)cli->special_count});
    bool ok = trainer && collect(cli, &documents) && add_documents(trainer, &documents);
    documents_finish(&documents);
    if (ok) tokenizer = tokenizer_trainer_finish(trainer, &report);
    tokenizer_trainer_destroy(&trainer);
    ok = tokenizer && tokenizer_save(tokenizer, cli->out);
    if (ok) print_trained(cli, tokenizer, &report, os_seconds() - began);
    tokenizer_destroy(&tokenizer);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

// ---- encode

static void read_stream(FILE *file, struct bytes *out)
{
    uint8_t buffer[1 << 16];
    for (size_t count; (count = fread(buffer, 1, sizeof buffer, file)) > 0;)
        bytes_append(out, buffer, count);
}

static void print_ids(const struct cli *cli, const struct encoding *e)
{
    printf(cli->json ? "{\"ids\": [" : "");
    for (size_t i = 0; i < e->count; i++)
        printf("%s%u", !i ? "" : cli->json ? ", " : " ", e->id[i]);
    if (cli->json) {
        printf("], \"offsets\": [");
        for (size_t i = 0; i < e->count; i++)
            printf("%s[%llu, %llu]", i ? ", " : "", (unsigned long long)e->span[i].begin,
                   (unsigned long long)e->span[i].end);
        printf("]}");
    }
    putchar('\n');
}

// A token shard, as train --data reads it.
static bool write_shard(const struct tokenizer *t, const struct encoding *e, const char *path)
{
    const bool narrow = tokenizer_count(t) <= 1u << 16;
    int32_t header[SHARD_HEADER] = {narrow ? SHARD_16 : SHARD_32, 1, (int32_t)e->count};
    if (e->count > INT32_MAX) {
        log_error("%s: %zu tokens; a shard holds at most %d", path, e->count, INT32_MAX);
        return false;
    }
    struct file_writer *writer = file_writer_open(path);
    if (!writer) return false;
    file_writer_write(writer, header, sizeof header);
    for (size_t i = 0; i < e->count; i += narrow ? 1024 : e->count) {
        uint16_t part[1024];
        const size_t count = e->count - i < 1024 ? e->count - i : 1024;
        for (size_t k = 0; narrow && k < count; k++) part[k] = (uint16_t)e->id[i + k];
        if (narrow)
            file_writer_write(writer, part, count * sizeof *part);
        else
            file_writer_write(writer, e->id, e->count * sizeof *e->id);
    }
    return file_writer_commit(&writer);
}

static bool encode_text(const struct cli *cli, const struct tokenizer *t, const void *text,
                        size_t bytes)
{
    const unsigned flags = (cli->specials ? TOKENIZER_SPECIAL : 0u) |
                           (cli->template ? TOKENIZER_TEMPLATE : 0u);
    struct encoding e = {.with_spans = cli->json && !cli->out};
    const double began = os_seconds();
    bool ok = tokenizer_encode(t, text, bytes, flags, &e);
    const double seconds = os_seconds() - began;
    if (ok && cli->out)
        ok = write_shard(t, &e, cli->out);
    else if (ok)
        print_ids(cli, &e);
    if (ok && bytes > 1 << 20)
        log_info("%zu bytes, %zu tokens, %.1f MB/s", bytes, e.count,
                 1e-6 * (double)bytes / seconds);
    encoding_free(&e);
    return ok;
}

static bool encode_file(const struct cli *cli, const struct tokenizer *t, const char *path)
{
    struct file_map map;
    if (!file_map(path, &map)) return false;
    const bool ok = encode_text(cli, t, map.bytes ? (const void *)map.data : "", map.bytes);
    file_unmap(&map);
    return ok;
}

static int encode(const struct cli *cli)
{
    if (cli->operand_count < 2 || cli->operand_count > 3)
        return wrong_usage("encode FILE|DIR and one text: --text TEXT, a file, or standard input");
    struct tokenizer *t = open_tokenizer(cli->operand[1]);
    struct bytes text = {0};
    bool ok = t != NULL;
    if (ok && cli->text) {
        ok = encode_text(cli, t, cli->text, strlen(cli->text));
    } else if (ok && cli->operand_count == 3) {
        ok = encode_file(cli, t, cli->operand[2]);
    } else if (ok) {
        read_stream(stdin, &text);
        ok = encode_text(cli, t, text.count ? (const void *)text.data : "", text.count);
    }
    bytes_free(&text);
    tokenizer_destroy(&t);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

// ---- decode

// Ids with commas or spaces between; false after one line.
static bool parse_ids(const struct tokenizer *t, const char *text, struct bytes *out)
{
    while (*(text += strspn(text, ", \t\r\n[]"))) {
        char *end;
        const unsigned long long id = strtoull(text, &end, 10);
        if (end == text || id >= tokenizer_count(t)) {
            log_error("tokenizer decode: found %.20s, wanted ids below %u", text,
                      tokenizer_count(t));
            return false;
        }
        const uint32_t value = (uint32_t)id;
        bytes_append(out, &value, sizeof value);
        text = end;
    }
    return true;
}

static int decode(const struct cli *cli)
{
    if (cli->operand_count != 2)
        return wrong_usage("decode FILE|DIR and ids: --ids 1,2,3, or standard input");
    struct tokenizer *t = open_tokenizer(cli->operand[1]);
    struct bytes text = {0}, ids = {0}, out = {0};
    if (t && !cli->ids) read_stream(stdin, &text);
    const char *given = cli->ids ? cli->ids : text.data ? (const char *)text.data : "";
    const bool ok = t && parse_ids(t, given, &ids);
    if (ok) {
        tokenizer_decode_whole(t, (const uint32_t *)ids.data, ids.count / sizeof(uint32_t), &out);
        if (out.count) fwrite(out.data, 1, out.count, stdout);
    }
    bytes_free(&text);
    bytes_free(&ids);
    bytes_free(&out);
    tokenizer_destroy(&t);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

// ---- info

static int info(const struct cli *cli)
{
    if (cli->operand_count != 2) return wrong_usage("info FILE|DIR");
    struct tokenizer *t = open_tokenizer(cli->operand[1]);
    if (!t) return EXIT_FAILED;
    printf("%s\nvocab_size of at least %u; fingerprint %016llx\n", tokenizer_summary(t),
           tokenizer_count(t), (unsigned long long)tokenizer_fingerprint(t));
    for (uint32_t id = 0; id < tokenizer_count(t); id++)
        if (tokenizer_is_special(t, id))
            printf("  %8u  %s%s\n", id, tokenizer_id_text(t, id),
                   id == tokenizer_eot(t) ? "  (ends a text)" : "");
    tokenizer_destroy(&t);
    return EXIT_DONE;
}

int command_tokenizer(struct cli *cli)
{
    static const struct { const char *name; int (*run)(const struct cli *cli); } commands[] = {
        {"train", train}, {"encode", encode}, {"decode", decode}, {"info", info},
    };
    for (size_t i = 0; cli->operand_count && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(cli->operand[0], commands[i].name) == 0) return commands[i].run(cli);
    return wrong_usage("train, encode, decode or info");
}
