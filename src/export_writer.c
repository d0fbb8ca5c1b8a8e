// SPDX-License-Identifier: MIT
// Writing of exports: the header is complete before the first byte of data, so the data streams.
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/export_file.h"

struct export_writer {
    struct file_writer  *file;
    struct codec_writer *codec;
    char                *path;
    uint64_t             header, wanted, written; // bytes: prefix and header; of data
};

static bool to_file(void *user, const void *data, uint64_t bytes)
{
    return file_writer_write(user, data, bytes);
}

static cJSON *describe(const struct export_tensor *tensor)
{
    cJSON *item = cJSON_CreateObject(), *shape = cJSON_AddArrayToObject(item, "shape");
    cJSON_AddStringToObject(item, "name", tensor->name);
    if (tensor->rank == 2) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->rows));
    cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->cols));
    cJSON_AddStringToObject(item, "kind", quant_name(tensor->kind));
    cJSON_AddNumberToObject(item, "offset", (double)tensor->offset);
    cJSON_AddNumberToObject(item, "bytes", (double)tensor->bytes);
    return item;
}

static char *print_header(const struct export_table *table)
{
    cJSON *header = cJSON_CreateObject();
    cJSON_AddStringToObject(header, "compression", table->zstd ? "zstd" : "none");
    cJSON_AddStringToObject(header, "packing", table->packing == QUANT_BYTES ? "bytes" : "bits");
    cJSON_AddNumberToObject(header, "config_bytes", (double)table->config_bytes);
    cJSON_AddNumberToObject(header, "tokenizer_bytes", (double)table->tokenizer_bytes);
    cJSON_AddNumberToObject(header, "prune", table->prune);
    cJSON *tensors = cJSON_AddArrayToObject(header, "tensors");
    for (uint32_t i = 0; i < table->count; i++)
        cJSON_AddItemToArray(tensors, describe(&table->tensor[i]));
    char *text = cJSON_PrintUnformatted(header);
    cJSON_Delete(header);
    return text;
}

static void put(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> 8 * i);
}

static bool write_header(struct export_writer *w, const struct export_table *table)
{
    uint8_t prefix[EXPORT_PREFIX] = "vkmoe-x\n";
    char *text = print_header(table);
    const uint64_t bytes = strlen(text);
    put(prefix + 8, EXPORT_VERSION, 4);
    put(prefix + 12, bytes, 4);
    put(prefix + 16, table->data_bytes, 8);
    w->header = EXPORT_PREFIX + bytes;
    const bool ok = codec_writer_raw(w->codec, prefix, sizeof prefix) &&
                    codec_writer_raw(w->codec, text, bytes);
    free(text);
    return ok;
}

struct export_writer *export_writer_open(const char *path, const struct export_table *table,
                                         int level)
{
    struct export_writer *w = os_alloc(sizeof *w);
    struct export_table named = *table;
    named.zstd = level > 0;
    w->wanted = table->data_bytes;
    w->path = os_strdup(path);
    w->file = file_writer_open(path);
    w->codec = w->file ? codec_writer_create(level, table->data_bytes, to_file, w->file) : NULL;
    if (!w->codec || !write_header(w, &named)) export_writer_abort(&w);
    return w;
}

bool export_writer_put(struct export_writer *w, const void *data, uint64_t bytes)
{
    w->written += bytes;
    return codec_writer_put(w->codec, data, bytes);
}

bool export_writer_block(struct export_writer *w) { return codec_writer_block(w->codec); }

static bool finish(struct export_writer *w, uint64_t *file_bytes)
{
    uint8_t hash[EXPORT_HASH];
    if (w->written != w->wanted) {
        log_error("%s: %llu bytes of data were written, the header announces %llu", w->path,
                  (unsigned long long)w->written, (unsigned long long)w->wanted);
        return false;
    }
    if (!codec_writer_end(w->codec)) return false;
    put(hash, codec_writer_hash(w->codec), sizeof hash);
    if (!file_writer_write(w->file, hash, sizeof hash)) return false;
    *file_bytes = file_writer_bytes(w->file);
    return file_writer_commit(&w->file); // a failed commit leaves no file, and no writer
}

bool export_writer_commit(struct export_writer **writer, uint64_t *file_bytes)
{
    const bool ok = finish(*writer, file_bytes);
    export_writer_abort(writer);
    return ok;
}

void export_writer_abort(struct export_writer **writer)
{
    struct export_writer *w = *writer;
    if (!w) return;
    codec_writer_destroy(&w->codec);
    file_writer_abort(&w->file);
    free(w->path);
    free(w);
    *writer = NULL;
}

uint64_t export_writer_header(const struct export_writer *w) { return w->header; }
