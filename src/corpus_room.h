// SPDX-License-Identifier: MIT
// Where text and ids lie, so that a set may be larger than memory: what is small is copied to
// memory, up to half of data_memory_mib; large files stay mapped; what else comes lies in a file
// without a name in the folder for caches. Of what lies in files the pages that were looked at
// leave memory again and again, so that they are never much more than a quarter of it.
#pragma once

#include "config.h"
#include "runtime/file.h"

struct corpus_room;
struct corpus_room *corpus_room_create(const struct config_corpus *rules);
void                corpus_room_destroy(struct corpus_room **room);

// Zeroed; NULL after one line.
void *corpus_room_alloc(struct corpus_room *room, uint64_t bytes);
// Takes the map over, and returns where it lies.
const uint8_t *corpus_room_map(struct corpus_room *room, struct file_map *map);
// So many bytes were looked at, of whatever lies here. By several threads at once.
void corpus_room_touch(struct corpus_room *room, uint64_t bytes);

uint64_t corpus_room_most(const struct corpus_room *room); // that is kept in memory
// Of files: in all, and at most in memory at a time, but for what is looked at at the moment.
uint64_t corpus_room_filed(const struct corpus_room *room);
uint64_t corpus_room_resident(const struct corpus_room *room);

// $VKMOE_CACHE/NAME, or in the user's folder for caches. False after one line: there is none.
bool corpus_folder(const char *name, char *path, size_t bytes);
