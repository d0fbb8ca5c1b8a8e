// SPDX-License-Identifier: MIT
// Reading of exports. The checksum tells damage, but anybody can make one that fits: every number
// of the header is checked against the others and against the file before it is used.
#include "src/export_file.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/log.h"

#define MOST_EXACT 9007199254740991.0 // 2^53 - 1: cJSON's numbers are doubles

static const char magic[] = "vkmoe-x\n";

static bool refuse(const struct export_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool refuse(const struct export_file *file, const char *format, ...)
{
    char    text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_error("%s: %s", file->name, text);
    return false;
}

static uint64_t get(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

static bool is_size(const cJSON *item, uint64_t *out)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= MOST_EXACT) || value != floor(value)) return false;
    *out = (uint64_t)value;
    return true;
}

static bool read_size(const struct export_file *file, const cJSON *object, const char *key,
                      uint64_t *out)
{
    return is_size(cJSON_GetObjectItemCaseSensitive(object, key), out) ||
           refuse(file, "header: %s: wanted a whole number", key);
}

// Texts of the header go into messages, so they may not hold what moves a terminal's cursor.
static bool is_printable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

// ---- one tensor

static bool read_shape(const struct export_file *file, const cJSON *shape,
                       struct export_tensor *tensor)
{
    const int rank = cJSON_GetArraySize(shape);
    tensor->rank = (uint32_t)rank;
    tensor->rows = 1;
    if (!cJSON_IsArray(shape) || rank < 1 || rank > 2 || (rank == 2 &&
        !is_size(shape->child, &tensor->rows)) || !is_size(cJSON_GetArrayItem(shape, rank - 1),
                                                           &tensor->cols))
        return refuse(file, "tensor %.100s: shape: wanted one or two whole numbers", tensor->name);
    return true;
}

static bool read_tensor(struct export_file *file, const cJSON *item, struct export_tensor *tensor)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name")),
               *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "kind"));
    uint64_t bytes;
    if (!name || !*name || !is_printable(name))
        return refuse(file, "header: tensors: number %u has no printable name", file->table.count);
    tensor->name = arena_strdup(file->arena, name);
    const int known = kind ? quant_from_name(kind) : -1;
    if (known < 0)
        return refuse(file, "tensor %.100s: kind: found %.20s, wanted int2 to int8, f16 or f32",
                      name, kind && is_printable(kind) ? kind : "no name");
    tensor->kind = (enum quant_kind)known;
    if (!read_shape(file, cJSON_GetObjectItemCaseSensitive(item, "shape"), tensor)) return false;
    if (!is_size(cJSON_GetObjectItemCaseSensitive(item, "offset"), &tensor->offset) ||
        !is_size(cJSON_GetObjectItemCaseSensitive(item, "bytes"), &tensor->bytes))
        return refuse(file, "tensor %.100s: offset, bytes: wanted whole numbers", name);
    if (!quant_bytes(tensor->kind, file->table.packing, tensor->rows, tensor->cols, &bytes))
        return refuse(file, "tensor %.100s: shape: [%llu][%llu] of %s overflows", name,
                      (unsigned long long)tensor->rows, (unsigned long long)tensor->cols,
                      quant_name(tensor->kind));
    return bytes == tensor->bytes ||
           refuse(file, "tensor %.100s: bytes: found %llu, but [%llu][%llu] of %s are %llu", name,
                  (unsigned long long)tensor->bytes, (unsigned long long)tensor->rows,
                  (unsigned long long)tensor->cols, quant_name(tensor->kind),
                  (unsigned long long)bytes);
}

// ---- the header

bool export_table_place(struct export_table *table, const char *name)
{
    if (!checked_add(table->config_bytes, table->tokenizer_bytes, &table->data_bytes)) goto fail;
    for (uint32_t i = 0; i < table->count; i++) {
        struct export_tensor *tensor = &table->tensor[i];
        tensor->offset = table->data_bytes;
        if (!quant_bytes(tensor->kind, table->packing, tensor->rows, tensor->cols,
                         &tensor->bytes) ||
            !checked_add(table->data_bytes, tensor->bytes, &table->data_bytes))
            goto fail;
    }
    return true;
fail:
    log_error("%s: the model's bytes do not fit 64 bits", name);
    return false;
}

// No hole, no overlap, nothing behind the last tensor.
static bool check_coverage(const struct export_file *file)
{
    const struct export_table *table = &file->table;
    uint64_t end;
    if (!checked_add(table->config_bytes, table->tokenizer_bytes, &end))
        return refuse(file, "header: config_bytes and tokenizer_bytes overflow");
    for (uint32_t i = 0; i < table->count; i++) {
        const struct export_tensor *tensor = &table->tensor[i];
        if (tensor->offset != end)
            return refuse(file, "tensor %.100s: offset: found %llu, wanted %llu", tensor->name,
                          (unsigned long long)tensor->offset, (unsigned long long)end);
        if (!checked_add(end, tensor->bytes, &end))
            return refuse(file, "tensor %.100s: bytes: %llu overflow", tensor->name,
                          (unsigned long long)tensor->bytes);
    }
    return end == table->data_bytes ||
           refuse(file, "data_bytes: found %llu, but config, tokenizer and tensors are %llu",
                  (unsigned long long)table->data_bytes, (unsigned long long)end);
}

static bool read_header(struct export_file *file, const cJSON *header)
{
    struct export_table *table = &file->table;
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(header, "tensors");
    const char *compression =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(header, "compression"));
    table->zstd = compression && strcmp(compression, "zstd") == 0;
    if (!table->zstd && (!compression || strcmp(compression, "none") != 0))
        return refuse(file, "header: compression: wanted \"zstd\" or \"none\"");
    const char *packing =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(header, "packing"));
    table->packing = packing && strcmp(packing, "bytes") == 0 ? QUANT_BYTES : QUANT_BITS;
    if (!packing || (table->packing == QUANT_BITS && strcmp(packing, "bits") != 0))
        return refuse(file, "header: packing: wanted \"bits\" or \"bytes\"");
    if (!read_size(file, header, "config_bytes", &table->config_bytes) ||
        !read_size(file, header, "tokenizer_bytes", &table->tokenizer_bytes))
        return false;
    const cJSON *prune = cJSON_GetObjectItemCaseSensitive(header, "prune");
    table->prune = cJSON_IsNumber(prune) ? prune->valuedouble : -1;
    if (!(table->prune >= 0 && table->prune <= 1))
        return refuse(file, "header: prune: wanted a number from 0 to 1");
    if (!cJSON_IsArray(tensors)) return refuse(file, "header: tensors: wanted a list");
    table->tensor =
        arena_array(file->arena, (size_t)cJSON_GetArraySize(tensors) + 1, sizeof *table->tensor);
    for (const cJSON *item = tensors->child; item; item = item->next, table->count++)
        if (!read_tensor(file, item, &table->tensor[table->count])) return false;
    return check_coverage(file);
}

static bool parse_header(struct export_file *file, const char *text, uint64_t bytes)
{
    const char *end = text;
    cJSON *header = cJSON_ParseWithLengthOpts(text, bytes, &end, false);
    const bool ok = cJSON_IsObject(header) && (uint64_t)(end - text) == bytes
                        ? read_header(file, header)
                        : refuse(file, "header: not valid JSON near byte %llu",
                                 (unsigned long long)(end - text));
    cJSON_Delete(header);
    return ok;
}

static bool check_hash(const struct export_file *file, const uint8_t *bytes, uint64_t size)
{
    const uint64_t found = codec_hash(bytes, size - EXPORT_HASH),
                   wanted = get(bytes + size - EXPORT_HASH, EXPORT_HASH);
    return found == wanted ||
           refuse(file, "checksum: the bytes give %016llx, the file says %016llx; damaged or cut "
                  "off?", (unsigned long long)found, (unsigned long long)wanted);
}

static bool read_file(struct export_file *file, const uint8_t *bytes, uint64_t size)
{
    const uint64_t least = EXPORT_PREFIX + EXPORT_HASH;
    if (!codec_available(file->name)) return false;
    if (size < 8 || memcmp(bytes, magic, 8) != 0)
        return refuse(file, "magic: not a vkmoe export (vkmoe export writes one), nor a folder");
    if (size < least)
        return refuse(file, "%llu bytes are too few for an export; was it cut off?",
                      (unsigned long long)size);
    const uint64_t version = get(bytes + 8, 4), header = get(bytes + 12, 4);
    file->table.data_bytes = get(bytes + 16, 8);
    if (version != EXPORT_VERSION)
        return refuse(file, "version: found %llu, this program reads %d",
                      (unsigned long long)version, EXPORT_VERSION);
    if (header > size - least)
        return refuse(file, "header: %llu bytes in a file of %llu; was it cut off?",
                      (unsigned long long)header, (unsigned long long)size);
    if (!check_hash(file, bytes, size) ||
        !parse_header(file, (const char *)bytes + EXPORT_PREFIX, header))
        return false;
    const uint64_t stored = size - least - header;
    if (!file->table.zstd && stored != file->table.data_bytes)
        return refuse(file, "data_bytes: found %llu, the file holds %llu",
                      (unsigned long long)file->table.data_bytes, (unsigned long long)stored);
    file->reader = codec_reader_create(file->name, file->table.zstd,
                                       bytes + EXPORT_PREFIX + header, stored);
    return file->reader != NULL;
}

struct export_file *export_file_parse(const char *name, const void *bytes, uint64_t size)
{
    struct arena *arena = arena_create("export header");
    struct export_file *file = arena_alloc(arena, sizeof *file);
    *file = (struct export_file){.arena = arena, .name = arena_strdup(arena, name), .bytes = size};
    if (!read_file(file, bytes, size)) export_file_close(&file);
    return file;
}

bool export_file_is(const char *path)
{
    char start[sizeof magic - 1];
    FILE *file = fopen(path, "rb");
    const bool same = file && fread(start, 1, sizeof start, file) == sizeof start &&
                      memcmp(start, magic, sizeof start) == 0;
    if (file) fclose(file);
    return same;
}

struct export_file *export_file_open(const char *path)
{
    struct file_map map;
    if (!file_map(path, &map)) return NULL;
    struct export_file *file = export_file_parse(path, map.data, map.bytes);
    if (file) file->map = map;
    else file_unmap(&map);
    return file;
}

void export_file_close(struct export_file **file)
{
    if (!*file) return;
    codec_reader_destroy(&(*file)->reader);
    file_unmap(&(*file)->map);
    struct arena *arena = (*file)->arena;
    arena_destroy(&arena);
    *file = NULL;
}

bool export_file_read(struct export_file *file, void *out, uint64_t bytes)
{
    return codec_reader_get(file->reader, out, bytes);
}

bool export_file_end(struct export_file *file) { return codec_reader_end(file->reader); }
