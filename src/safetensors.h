// SPDX-License-Identifier: MIT
// The safetensors file: 8 bytes of little-endian header length, a JSON header, then the tensors'
// bytes without a gap. Reading trusts nothing: lengths, products, offsets, coverage, names and
// types are checked before the first tensor is looked at. Writing streams, tensor after tensor.
#pragma once

#include "base.h"
#include "dtype.h"
#include "runtime/file.h"

enum { SAFETENSORS_MAX_RANK = 8, SAFETENSORS_MAX_HEADER = 100000000 }; // the format's own limit

struct safetensors_tensor {
    const char *name;
    int dtype; // enum dtype; -1: a type that is not computed with here
    const char *dtype_name;                  // as in the file
    uint32_t    rank;
    uint64_t    shape[SAFETENSORS_MAX_RANK];
    uint64_t    begin, end;                  // bytes from the start of the data
    uint64_t    count;                       // elements
};

struct safetensors_metadata { const char *key, *value; };

struct safetensors {
    const char                  *name;       // of the file, in messages
    struct safetensors_tensor   *tensor;     // in the order of their bytes
    uint32_t                     count;
    struct safetensors_metadata *metadata;
    uint32_t                     metadata_count;
    const uint8_t               *data;       // byte 0 of the offsets; no alignment is promised
    uint64_t                     bytes;
    // internal
    const struct safetensors_tensor **by_name;
    struct file_map              map;
    struct arena                *arena;
};

// Maps the file. NULL after one line that names the file, the tensor and what is wrong.
struct safetensors *safetensors_open(const char *path);
// The same from `bytes` bytes in memory, which stay the caller's.
struct safetensors *safetensors_parse(const char *name, const void *file, uint64_t bytes);
void                safetensors_close(struct safetensors **file);
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);
// "[4][128]"; a scalar is "[]"
void safetensors_shape(const uint64_t *shape, uint32_t rank, char *out, size_t bytes);

// Writes beside PATH. Of each tensor, name, dtype, rank and shape are read. Their bytes follow in
// this order, in pieces of any size; `commit` fails where they are not exactly what was announced.
struct safetensors_writer;
struct safetensors_writer *safetensors_writer_open(const char *path,
                                                   const struct safetensors_tensor *tensor,
                                                   uint32_t count,
                                                   const struct safetensors_metadata *metadata,
                                                   uint32_t metadata_count);
bool safetensors_writer_write(struct safetensors_writer *writer, const void *data, uint64_t bytes);
bool safetensors_writer_commit(struct safetensors_writer **writer); // synced, renamed
void safetensors_writer_abort(struct safetensors_writer **writer);  // nothing stays; NULL is fine
