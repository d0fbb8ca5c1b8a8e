// SPDX-License-Identifier: MIT
// The system's calls on files of records, as one small table, so that a test puts its own between
// (a full disk, a short read, an unreadable sector, the end of the process at any call). What
// takes a table takes NULL for the system's own. Every call returns what the system's does and
// leaves its errno; only the two `all` functions below loop. Calls come from several threads.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { OS_FILE_ALIGNMENT = 4096 }; // of offset, bytes and memory of direct access

struct os_file {
    int     (*open)(void *user, const char *path, int flags); // O_CLOEXEC, mode 0666 are added
    int     (*close)(void *user, int fd);
    ssize_t (*read)(void *user, int fd, void *data, size_t bytes, uint64_t offset);
    ssize_t (*write)(void *user, int fd, const void *data, size_t bytes, uint64_t offset);
    int     (*sync)(void *user, int fd);                      // the data, and what finds it
    int     (*reserve)(void *user, int fd, uint64_t offset, uint64_t bytes); // room; grows it
    int     (*punch)(void *user, int fd, uint64_t offset, uint64_t bytes);   // gives room back
    int     (*resize)(void *user, int fd, uint64_t bytes);
    int     (*rename)(void *user, const char *from, const char *to);
    int     (*remove)(void *user, const char *path);
    void     *user; // first argument of each
};

extern const struct os_file os_file_system;

static inline const struct os_file *os_file_or_system(const struct os_file *file)
{
    return file ? file : &os_file_system;
}

// All bytes or false with errno: interrupted and partial calls go on; ENODATA: the file ended
// `*done` bytes in (done may be NULL).
bool os_file_read_all(const struct os_file *file, int fd, void *data, size_t bytes,
                      uint64_t offset, size_t *done);
// The same into pieces of memory, one behind the other, which are used up by it.
bool os_file_read_pieces(const struct os_file *file, int fd, struct iovec *pieces, uint32_t count,
                         uint64_t offset, size_t *done);
// Takes so many bytes from the front of the pieces; returns how many of these are used up.
uint32_t os_file_pieces_take(struct iovec *pieces, uint32_t count, size_t bytes);
bool os_file_write_all(const struct os_file *file, int fd, const void *data, size_t bytes,
                       uint64_t offset, size_t *done);

// What an errno means to the user, with what to do where there is something to do.
const char *os_file_reason(int error);
