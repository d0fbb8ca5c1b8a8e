// SPDX-License-Identifier: MIT
// The export file: one model, in few bits, in one file. All numbers are little-endian.
//
//     bytes 0..7    "vkmoe-x\n"
//     8..11   u32   version: 1
//     12..15  u32   H: bytes of the header
//     16..23  u64   D: bytes of the data before compression
//     24..    H     header: JSON
//             ...   the data: one zstd frame of D bytes, or D bytes where "compression" is "none"
//     last 8  u64   XXH64, seed 0, of all bytes before these
//
// The header is {"compression": "zstd" or "none", "packing": "bits" or "bytes", "config_bytes": C,
// "tokenizer_bytes": T, "prune": share set to zero, "tensors": [{"name": "lm_head.weight",
// "shape": [259, 64], "kind": "int8", "offset": O, "bytes": B}, ...]}. The data is config.json
// (C bytes), tokenizer.json (T bytes, 0: none), then the tensors in the order of the header without
// a gap: the first begins at C + T, the last ends at D. quantize.h has the bytes of a tensor; a
// shape [n] is [1, n] there.
#pragma once

#include "export_codec.h"
#include "quantize.h"
#include "runtime/file.h"

enum { EXPORT_VERSION = 1, EXPORT_PREFIX = 24, EXPORT_HASH = 8 };

struct export_tensor {
    const char     *name;
    uint32_t        rank;          // 1 or 2
    uint64_t        rows, cols;    // rank 1: one row
    enum quant_kind kind;
    uint64_t        offset, bytes;
};

struct export_table {
    struct export_tensor *tensor;
    uint32_t              count;
    uint64_t              config_bytes, tokenizer_bytes, data_bytes;
    double                prune;
    bool                  zstd;
    enum quant_packing    packing; // of the integers
};

// Fills `bytes` and `offset` of each tensor, and data_bytes. False after one line: too large.
bool export_table_place(struct export_table *table, const char *name);

struct export_file {
    const char         *name;   // of the file, in messages
    struct export_table table;
    uint64_t            bytes;  // of the file
    // internal
    struct codec_reader *reader;
    struct file_map      map;
    struct arena        *arena;
};

// Maps the file, compares the checksum, checks the whole header. NULL after one line.
struct export_file *export_file_open(const char *path);
bool                export_file_is(const char *path); // by its first bytes
// The same from memory, which stays the caller's.
struct export_file *export_file_parse(const char *name, const void *file, uint64_t bytes);
void                export_file_close(struct export_file **file);
// The next `bytes` of the data, front to back. False after one line.
bool export_file_read(struct export_file *file, void *out, uint64_t bytes);
bool export_file_end(struct export_file *file); // all was read, and nothing is left

// Writes beside PATH. The data follows in pieces of any size; `commit` fails where they are not
// what the table announces, and gives the file's bytes.
struct export_writer;
struct export_writer *export_writer_open(const char *path, const struct export_table *table,
                                         int level);
bool export_writer_put(struct export_writer *writer, const void *data, uint64_t bytes);
// What comes next is of another kind: zstd shall count its bytes anew.
bool export_writer_block(struct export_writer *writer);
bool export_writer_commit(struct export_writer **writer, uint64_t *file_bytes);
void export_writer_abort(struct export_writer **writer); // nothing stays; NULL is fine
uint64_t export_writer_header(const struct export_writer *writer); // bytes of prefix and header
