// SPDX-License-Identifier: MIT
// The reader of exports against damaged files. The checksum of most is put right again, else
// nothing behind it would be tried. What must hold for any input: no access outside the file, one
// log line if it is refused, while it is opened or while it is read, none if it is taken, and in a
// taken file tensors that cover the data exactly.
#define FUZZ_NAME "fuzz_export"
#define FUZZ_WORDS "\"int4\"", "\"f32\"", "\"kind\"", "\"zstd\""
#include "tests/fuzz.h"

#include "src/export.h"

enum { MOST_TENSOR = 1 << 20 }; // a model's own shapes bound it outside of this test

// 1: read, 0: refused, -1: too large to try
static int read_tensor(struct export_file *file, const struct export_tensor *tensor)
{
    const uint64_t size = tensor->rows * tensor->cols;
    uint64_t bytes, bad;
    require(quant_bytes(tensor->kind, file->table.packing, tensor->rows, tensor->cols, &bytes) &&
                bytes == tensor->bytes, "a wrong size was taken");
    if (bytes > MOST_TENSOR || size > MOST_TENSOR) return -1;
    uint8_t *packed = malloc(bytes ? bytes : 1); // so that one byte too far is seen
    float *values = malloc(size ? size * sizeof *values : 1);
    const int ok = export_file_read(file, packed, bytes);
    if (ok)
        quant_decode(tensor->kind, file->table.packing, packed, tensor->rows, tensor->cols, values,
                     &bad);
    free(packed);
    free(values);
    return ok;
}

static int read_all(struct export_file *file)
{
    char *config = NULL, *tokenizer = NULL;
    const struct export_table *table = &file->table;
    uint64_t end = table->config_bytes + table->tokenizer_bytes;
    if (end > MOST_TENSOR) return -1;
    int ok = export_read_texts(file, &config, &tokenizer);
    free(config);
    free(tokenizer);
    for (uint32_t i = 0; i < table->count; i++) {
        require(table->tensor[i].offset == end, "a hole or an overlap was taken");
        end += table->tensor[i].bytes;
        if (ok > 0) ok = read_tensor(file, &table->tensor[i]);
    }
    require(end == table->data_bytes, "bytes behind the last tensor were taken");
    return ok > 0 ? export_file_end(file) : ok;
}

// Returns 1 where the file was taken (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    uint8_t *exact = fuzz_exact(data, size);
    lines = 0;
    struct export_file *file = export_file_parse("fuzz", exact, size);
    require(lines == (file ? 0 : 1),
            "not exactly one line for a refused file, none for a good one");
    const int taken = file ? read_all(file) : 0;
    require(lines == (taken == 0), "not exactly one line while the data was read");
    export_file_close(&file);
    free(exact);
    return taken > 0;
}

#ifndef VKMOE_LIBFUZZER

static const char *const headers[] = {
    "{\"compression\":\"none\",\"packing\":\"bits\","
    "\"config_bytes\":2,\"tokenizer_bytes\":0,\"prune\":0,"
    "\"tensors\":[]}",
    "{\"compression\":\"none\",\"packing\":\"bits\","
    "\"config_bytes\":2,\"tokenizer_bytes\":3,\"prune\":0.03,"
    "\"tensors\":["
    "{\"shape\":[2,3],\"name\":\"a\",\"kind\":\"int5\",\"offset\":5,\"bytes\":8},"
    "{\"shape\":[4],\"name\":\"b\",\"kind\":\"f16\",\"offset\":13,\"bytes\":8}]}",
    "{\"compression\":\"zstd\",\"packing\":\"bytes\","
    "\"config_bytes\":2,\"tokenizer_bytes\":0,\"prune\":0,"
    "\"tensors\":["
    "{\"shape\":[3,7],\"name\":\"a\",\"kind\":\"int6\",\"offset\":2,\"bytes\":27},"
    "{\"shape\":[1,9],\"name\":\"b\",\"kind\":\"int8\",\"offset\":29,\"bytes\":11}]}",
};
static const size_t data_bytes[] = {2, 21, 40};

static bool append(void *user, const void *data, uint64_t bytes)
{
    bytes_append(user, data, bytes);
    return true;
}

static void put(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> 8 * i);
}

static void fix_hash(uint8_t *out, size_t size)
{
    if (size >= EXPORT_HASH)
        put(out + size - EXPORT_HASH, codec_hash(out, size - EXPORT_HASH), EXPORT_HASH);
}

// A good file.
static size_t make_seed(uint8_t *out, uint64_t which)
{
    const size_t length = strlen(headers[which]);
    uint8_t plain[64];
    struct bytes stored = {0};
    memset(plain, 0x25, sizeof plain);
    struct codec_writer *codec = codec_writer_create(strstr(headers[which], "zstd") ? 3 : 0,
                                                     data_bytes[which], append, &stored);
    require(codec && codec_writer_put(codec, plain, data_bytes[which]) && codec_writer_end(codec),
            "the corpus cannot be made");
    codec_writer_destroy(&codec);
    memcpy(out, "vkmoe-x\n", 8);
    put(out + 8, EXPORT_VERSION, 4);
    put(out + 12, length, 4);
    put(out + 16, data_bytes[which], 8);
    memcpy(out + EXPORT_PREFIX, headers[which], length);
    memcpy(out + EXPORT_PREFIX + length, stored.data, stored.count);
    const size_t size = EXPORT_PREFIX + length + stored.count + EXPORT_HASH;
    bytes_free(&stored);
    fix_hash(out, size);
    return size;
}

// Most mutated headers get their length put right, so that they are read at all.
static void fix_length(uint8_t *out, size_t size, size_t data)
{
    if (size >= EXPORT_PREFIX + data) put(out + 12, size - EXPORT_PREFIX - data, 4);
}

static int attempt(struct mutator *m, uint8_t *data, size_t size, uint64_t which, size_t whole)
{
    const size_t behind = whole - EXPORT_PREFIX - strlen(headers[which]);
    if (m && pick(m, 4)) fix_length(data, size, behind);
    if (m && pick(m, 8)) fix_hash(data, size);
    return try_one(data, size);
}

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(headers), 5, 2, make_seed, attempt};
    if (!codec_available(FUZZ_NAME)) return 77; // skipped
    return fuzz_run(&fuzz, argc, argv);
}

#endif
