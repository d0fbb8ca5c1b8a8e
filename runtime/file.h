// SPDX-License-Identifier: MIT
// Files. Each failure logs one line with the path and the reason. Files are replaced, never
// overwritten: a file_writer writes beside the target and renames, so nothing half-written is ever
// seen under the target's name.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A whole file, with a zero byte behind its end; free() it. A file above `max_bytes` is an error
// (0: any).
bool file_read(const char *path, uint64_t max_bytes, void **data, uint64_t *bytes);

// A file mapped read-only. An empty file maps to data == NULL.
struct file_map {
    const uint8_t *data;
    uint64_t       bytes;
};
bool file_map(const char *path, struct file_map *out);
void file_unmap(struct file_map *map);
void file_map_forget(const struct file_map *map); // its pages leave memory; a look brings them back

bool file_exists(const char *path);
bool file_size(const char *path, uint64_t *bytes);
bool file_make_folders(const char *path);            // like mkdir -p
bool file_rename(const char *from, const char *to);  // and the folder is synced
bool file_sync_folder(const char *path_in_it);       // fsync of the folder that holds this path

// Writes PATH.tmp-PID; commit syncs it, renames it to PATH and syncs the folder; abort (or a failed
// commit) removes it. After the first failed write all later calls fail without another line.
struct file_writer;
struct file_writer *file_writer_open(const char *path);
bool                file_writer_write(struct file_writer *writer, const void *data, uint64_t bytes);
uint64_t            file_writer_bytes(const struct file_writer *writer); // written so far
bool                file_writer_commit(struct file_writer **writer);
void                file_writer_abort(struct file_writer **writer);
