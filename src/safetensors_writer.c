// SPDX-License-Identifier: MIT
// Writing of safetensors: the header is complete before the first byte of data, so the data can
// stream from wherever it lies and is never whole in memory.
#include "src/safetensors.h"

#include <stdlib.h>

#include "runtime/log.h"
#include "runtime/os.h"

enum { HEADER_ALIGN = 8 }; // so that the data begins aligned

struct safetensors_writer {
    struct file_writer *file;
    char               *path;
    uint64_t            wanted, written; // bytes of data
};

static void append_string(struct bytes *out, const char *text)
{
    bytes_append(out, "\"", 1);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') bytes_printf(out, "\\%c", c);
        else if (c < 0x20) bytes_printf(out, "\\u%04x", c);
        else bytes_append(out, text, 1);
    }
    bytes_append(out, "\"", 1);
}

static void append_metadata(struct bytes *out, const struct safetensors_metadata *metadata,
                            uint32_t count)
{
    bytes_printf(out, "\"__metadata__\":{");
    for (uint32_t i = 0; i < count; i++) {
        if (i) bytes_printf(out, ",");
        append_string(out, metadata[i].key);
        bytes_printf(out, ":");
        append_string(out, metadata[i].value);
    }
    bytes_printf(out, "}");
}

static void append_tensor(struct bytes *out, const struct safetensors_tensor *tensor,
                          uint64_t *offset)
{
    uint64_t bytes = dtype_bytes((enum dtype)tensor->dtype);
    append_string(out, tensor->name);
    bytes_printf(out, ":{\"dtype\":\"%s\",\"shape\":[",
                 dtype_safetensors((enum dtype)tensor->dtype));
    for (uint32_t i = 0; i < tensor->rank; i++) {
        bytes *= tensor->shape[i];
        bytes_printf(out, "%s%llu", i ? "," : "", (unsigned long long)tensor->shape[i]);
    }
    bytes_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*offset,
                 (unsigned long long)(*offset + bytes));
    *offset += bytes;
}

struct safetensors_writer *safetensors_writer_open(const char *path,
                                                   const struct safetensors_tensor *tensor,
                                                   uint32_t count,
                                                   const struct safetensors_metadata *metadata,
                                                   uint32_t metadata_count)
{
    struct safetensors_writer *writer = os_alloc(sizeof *writer);
    struct bytes header = {0};
    bytes_printf(&header, "{");
    if (metadata_count) append_metadata(&header, metadata, metadata_count);
    for (uint32_t i = 0; i < count; i++) {
        if (i || metadata_count) bytes_printf(&header, ",");
        append_tensor(&header, &tensor[i], &writer->wanted);
    }
    bytes_printf(&header, "}");
    while (header.count % HEADER_ALIGN) bytes_append(&header, " ", 1);
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)(header.count >> 8 * i);
    writer->path = os_strdup(path);
    writer->file = file_writer_open(path);
    const bool ok = writer->file && file_writer_write(writer->file, prefix, sizeof prefix) &&
                    file_writer_write(writer->file, header.data, header.count);
    bytes_free(&header);
    if (!ok) safetensors_writer_abort(&writer);
    return writer;
}

bool safetensors_writer_write(struct safetensors_writer *writer, const void *data, uint64_t bytes)
{
    writer->written += bytes;
    return file_writer_write(writer->file, data, bytes);
}

bool safetensors_writer_commit(struct safetensors_writer **writer)
{
    struct safetensors_writer *w = *writer;
    bool ok = w->written == w->wanted;
    if (!ok) log_error("%s: %llu bytes of tensors were written, the header announces %llu", w->path,
                       (unsigned long long)w->written, (unsigned long long)w->wanted);
    ok = ok && file_writer_commit(&w->file); // a failed commit leaves no file, and no writer
    safetensors_writer_abort(writer);
    return ok;
}

void safetensors_writer_abort(struct safetensors_writer **writer)
{
    if (!*writer) return;
    file_writer_abort(&(*writer)->file);
    free((*writer)->path);
    free(*writer);
    *writer = NULL;
}
