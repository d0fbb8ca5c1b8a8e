// SPDX-License-Identifier: MIT
// Reading of safetensors: header -> checked table of tensors. Every number of the header is taken
// for hostile until it has been compared with the file's real size. safetensors_writer.c writes.
#include "src/safetensors.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"

enum { PREFIX_BYTES = 8 };
#define MOST_EXACT 9007199254740991.0 // 2^53 - 1: cJSON's numbers are doubles

// Every type of the format, in bits: files may hold what is not loaded here.
static const struct { const char *name; uint32_t bits;
} types[] = {
    {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

static bool refuse(const struct safetensors *file, const char *tensor, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool refuse(const struct safetensors *file, const char *tensor, const char *format, ...)
{
    char    text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (tensor) log_error("%s: tensor %.200s: %s", file->name, tensor, text);
    else log_error("%s: not a good safetensors file: %s", file->name, text);
    return false;
}

void safetensors_shape(const uint64_t *shape, uint32_t rank, char *out, size_t bytes)
{
    size_t used = 0;
    snprintf(out, bytes, "%s", rank ? "" : "[]");
    for (uint32_t i = 0; i < rank && used < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "[%llu]", (unsigned long long)shape[i]);
}

// Texts of the header go into messages, so they may not hold what moves a terminal's cursor.
static bool is_printable(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7f) return false;
    return true;
}

static bool is_size(const cJSON *item, uint64_t *out)
{
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= MOST_EXACT) || value != floor(value)) return false;
    *out = (uint64_t)value;
    return true;
}

// ---- one tensor

static bool read_dtype(const struct safetensors *file, const cJSON *item,
                       struct safetensors_tensor *tensor, uint32_t *bits)
{
    if (!cJSON_IsString(item)) return refuse(file, tensor->name, "dtype is not a string");
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(types[i].name, item->valuestring) != 0) continue;
        tensor->dtype_name = types[i].name;
        *bits = types[i].bits;
        tensor->dtype = -1;
        for (int d = 0; d < DTYPE_COUNT; d++)
            if (strcmp(dtype_safetensors((enum dtype)d), types[i].name) == 0) tensor->dtype = d;
        return true;
    }
    return refuse(file, tensor->name, "unknown dtype \"%.30s\"",
                  is_printable(item->valuestring) ? item->valuestring : "?");
}

static bool read_shape(const struct safetensors *file, const cJSON *item,
                       struct safetensors_tensor *tensor)
{
    if (!cJSON_IsArray(item)) return refuse(file, tensor->name, "shape is not an array");
    tensor->count = 1;
    for (const cJSON *size = item->child; size; size = size->next) {
        if (tensor->rank == SAFETENSORS_MAX_RANK)
            return refuse(file, tensor->name, "more than %d dimensions", SAFETENSORS_MAX_RANK);
        uint64_t *const at = &tensor->shape[tensor->rank++];
        if (!is_size(size, at))
            return refuse(file, tensor->name, "dimension %u is not a whole number",
                          tensor->rank - 1);
        if (!checked_mul(tensor->count, *at, &tensor->count))
            return refuse(file, tensor->name, "the shape's product overflows");
    }
    return true;
}

static bool read_tensor(const struct safetensors *file, const cJSON *item,
                        struct safetensors_tensor *tensor)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    uint64_t bits_total;
    uint32_t bits = 0;
    if (!cJSON_IsObject(item) || !dtype || !shape || !offsets || cJSON_GetArraySize(item) != 3)
        return refuse(file, tensor->name, "wanted exactly dtype, shape and data_offsets");
    if (!read_dtype(file, dtype, tensor, &bits) || !read_shape(file, shape, tensor)) return false;
    if (cJSON_GetArraySize(offsets) != 2 || !is_size(offsets->child, &tensor->begin) ||
        !is_size(offsets->child->next, &tensor->end))
        return refuse(file, tensor->name, "data_offsets are not two whole numbers");
    if (tensor->begin > tensor->end || tensor->end > file->bytes)
        return refuse(
            file, tensor->name,
            "data_offsets [%llu, %llu] lie outside the file's %llu bytes of data; was it cut off?",
            (unsigned long long)tensor->begin, (unsigned long long)tensor->end,
            (unsigned long long)file->bytes);
    if (!checked_mul(tensor->count, bits, &bits_total) || bits_total % 8 ||
        bits_total / 8 != tensor->end - tensor->begin) {
        char text[200];
        safetensors_shape(tensor->shape, tensor->rank, text, sizeof text);
        return refuse(file, tensor->name, "%llu bytes of data do not make %s of %s",
                      (unsigned long long)(tensor->end - tensor->begin), text, tensor->dtype_name);
    }
    return true;
}

// ---- the table

static int by_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct safetensors_tensor *const *)a)->name,
                  (*(struct safetensors_tensor *const *)b)->name);
}

// No hole, no overlap, nothing behind the last tensor.
static bool check_coverage(const struct safetensors *file)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensor[i];
        if (tensor->begin != end)
            return refuse(file, tensor->name,
                          "begins at byte %llu, but the tensor before it ends at %llu: %s",
                          (unsigned long long)tensor->begin, (unsigned long long)end,
                          tensor->begin < end ? "they overlap" : "a hole");
        end = tensor->end;
    }
    if (end != file->bytes)
        return refuse(file, NULL, "the tensors are %llu bytes, the file holds %llu",
                      (unsigned long long)end, (unsigned long long)file->bytes);
    return true;
}

static bool index_names(struct safetensors *file)
{
    file->by_name = arena_array(file->arena, file->count, sizeof *file->by_name);
    for (uint32_t i = 0; i < file->count; i++) file->by_name[i] = &file->tensor[i];
    qsort(file->by_name, file->count, sizeof *file->by_name, by_name);
    for (uint32_t i = 1; i < file->count; i++)
        if (by_name(&file->by_name[i - 1], &file->by_name[i]) == 0)
            return refuse(file, file->by_name[i]->name, "the name stands twice in the header");
    return true;
}

static bool read_metadata(struct safetensors *file, const cJSON *object)
{
    if (!cJSON_IsObject(object) || file->metadata)
        return refuse(file, NULL, "__metadata__ is not one object");
    file->metadata =
        arena_array(file->arena, (size_t)cJSON_GetArraySize(object) + 1, sizeof *file->metadata);
    for (const cJSON *item = object->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return refuse(file, NULL, "__metadata__ holds what is not a string");
        file->metadata[file->metadata_count++] = (struct safetensors_metadata){
            arena_strdup(file->arena, item->string), arena_strdup(file->arena, item->valuestring)};
    }
    return true;
}

static bool read_header(struct safetensors *file, const cJSON *object)
{
    file->tensor =
        arena_array(file->arena, (size_t)cJSON_GetArraySize(object), sizeof *file->tensor);
    for (const cJSON *item = object->child; item; item = item->next) {
        if (strcmp(item->string, "__metadata__") == 0) {
            if (!read_metadata(file, item)) return false;
            continue;
        }
        if (!is_printable(item->string))
            return refuse(file, NULL, "a tensor's name holds control characters");
        struct safetensors_tensor *tensor = &file->tensor[file->count++];
        tensor->name = arena_strdup(file->arena, item->string);
        if (!read_tensor(file, item, tensor)) return false;
    }
    if (file->count) qsort(file->tensor, file->count, sizeof *file->tensor, by_offset);
    return index_names(file) && check_coverage(file);
}

static bool only_spaces(const char *text, const char *end)
{
    while (text < end && (*text == ' ' || *text == '\n' || *text == '\t' || *text == '\r')) text++;
    return text == end;
}

static bool read_file(struct safetensors *file, const uint8_t *bytes, uint64_t size)
{
    uint64_t length = 0;
    if (size < PREFIX_BYTES)
        return refuse(file, NULL, "%llu bytes are too few for a header", (unsigned long long)size);
    for (int i = 0; i < PREFIX_BYTES; i++) length |= (uint64_t)bytes[i] << 8 * i;
    if (length > SAFETENSORS_MAX_HEADER)
        return refuse(file, NULL, "a header of %llu bytes, at most %d are allowed",
                      (unsigned long long)length, SAFETENSORS_MAX_HEADER);
    if (length > size - PREFIX_BYTES)
        return refuse(file, NULL, "a header of %llu bytes in a file of %llu; was it cut off?",
                      (unsigned long long)length, (unsigned long long)size);
    const char *text = (const char *)bytes + PREFIX_BYTES, *end = text;
    if (length == 0 || *text != '{')
        return refuse(file, NULL, "the header does not begin with '{'");
    file->data = bytes + PREFIX_BYTES + length;
    file->bytes = size - PREFIX_BYTES - length;
    cJSON *object = cJSON_ParseWithLengthOpts(text, length, &end, false);
    const bool whole = cJSON_IsObject(object) && only_spaces(end, text + length);
    const bool ok = whole ? read_header(file, object)
                          : refuse(file, NULL, "the header is not valid JSON near byte %llu",
                                   (unsigned long long)(end - text));
    cJSON_Delete(object);
    return ok;
}

struct safetensors *safetensors_parse(const char *name, const void *bytes, uint64_t size)
{
    struct arena *arena = arena_create("safetensors header");
    struct safetensors *file = arena_alloc(arena, sizeof *file);
    file->arena = arena;
    file->name = arena_strdup(arena, name);
    if (!read_file(file, bytes, size)) safetensors_close(&file);
    return file;
}

struct safetensors *safetensors_open(const char *path)
{
    struct file_map map;
    if (!file_map(path, &map)) return NULL;
    struct safetensors *file = safetensors_parse(path, map.data, map.bytes);
    if (file) file->map = map;
    else file_unmap(&map);
    return file;
}

void safetensors_close(struct safetensors **file)
{
    if (!*file) return;
    file_unmap(&(*file)->map);
    struct arena *arena = (*file)->arena;
    arena_destroy(&arena);
    *file = NULL;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor key = {.name = name}, *const pointer = &key;
    const struct safetensors_tensor **found =
        file->count ? bsearch(&pointer, file->by_name, file->count, sizeof *file->by_name, by_name)
                    : NULL;
    return found ? *found : NULL;
}
