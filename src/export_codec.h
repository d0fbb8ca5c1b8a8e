// SPDX-License-Identifier: MIT
// The two libraries behind exports, and nothing else of them: zstd (libzstd) and XXH64 (libxxhash).
// Both are optional when building; without them every `create` here fails with one line.
#pragma once

#include "base.h"

enum { CODEC_LEVEL_MOST = 22 };

// XXH64 with seed 0.
uint64_t codec_hash(const void *data, uint64_t bytes);

// Takes bytes, hands their compressed form on, and hashes what it hands on. level 0: as they are.
typedef bool codec_sink_fn(void *user, const void *data, uint64_t bytes);
struct codec_writer;
// `bytes`: how many will come, so that small data gets small tables.
struct codec_writer *codec_writer_create(int level, uint64_t bytes, codec_sink_fn *sink,
                                         void *user);
void     codec_writer_destroy(struct codec_writer **writer);
bool     codec_writer_raw(struct codec_writer *writer, const void *data, uint64_t bytes);
bool     codec_writer_put(struct codec_writer *writer, const void *data, uint64_t bytes);
bool     codec_writer_block(struct codec_writer *writer); // ends a block of zstd's
bool     codec_writer_end(struct codec_writer *writer);
uint64_t codec_writer_hash(const struct codec_writer *writer); // of all that was handed on

// Gives the bytes back, front to back. `name` stands for the file in messages.
struct codec_reader;
struct codec_reader *codec_reader_create(const char *name, bool zstd, const uint8_t *data,
                                         uint64_t bytes);
void codec_reader_destroy(struct codec_reader **reader);
// Exactly `bytes`, or one line.
bool codec_reader_get(struct codec_reader *reader, void *out, uint64_t bytes);
// True where nothing is left; one line else.
bool codec_reader_end(struct codec_reader *reader);
// False after one line where this build lacks a library.
bool codec_available(const char *name);
