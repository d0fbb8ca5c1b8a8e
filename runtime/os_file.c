// SPDX-License-Identifier: MIT
// The system's calls on files: see os_file.h.
#include "runtime/os_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CALL_MOST = 1 << 30 }; // a multiple of the alignment; the system takes 2 GiB - 4 KiB

static int system_open(void *user, const char *path, int flags)
{
    (void)user;
    return open(path, flags | O_CLOEXEC, 0666);
}

static int system_close(void *user, int fd)
{
    (void)user;
    return close(fd);
}

static ssize_t system_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    (void)user;
    return pread(fd, data, bytes, (off_t)offset);
}

static ssize_t system_write(void *user, int fd, const void *data, size_t bytes, uint64_t offset)
{
    (void)user;
    return pwrite(fd, data, bytes, (off_t)offset);
}

static int system_sync(void *user, int fd)
{
    (void)user;
    return fdatasync(fd);
}

static int system_reserve(void *user, int fd, uint64_t offset, uint64_t bytes)
{
    (void)user;
    return fallocate(fd, 0, (off_t)offset, (off_t)bytes);
}

static int system_punch(void *user, int fd, uint64_t offset, uint64_t bytes)
{
    (void)user;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}

static int system_resize(void *user, int fd, uint64_t bytes)
{
    (void)user;
    return ftruncate(fd, (off_t)bytes);
}

static int system_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to);
}

static int system_remove(void *user, const char *path)
{
    (void)user;
    return unlink(path);
}

const struct os_file os_file_system = {
    .open = system_open,
    .close = system_close,
    .read = system_read,
    .write = system_write,
    .sync = system_sync,
    .reserve = system_reserve,
    .punch = system_punch,
    .resize = system_resize,
    .rename = system_rename,
    .remove = system_remove,
};

uint32_t os_file_pieces_take(struct iovec *pieces, uint32_t count, size_t bytes)
{
    uint32_t used = 0;
    while (used < count && bytes >= pieces[used].iov_len) {
        bytes -= pieces[used].iov_len;
        pieces[used++].iov_len = 0;
    }
    if (used < count) {
        pieces[used].iov_base = (uint8_t *)pieces[used].iov_base + bytes;
        pieces[used].iov_len -= bytes;
    }
    return used;
}

// The system reads all pieces at once; other calls are asked for each.
static ssize_t read_some(const struct os_file *file, int fd, struct iovec *pieces, uint32_t count,
                         uint64_t offset)
{
    if (file == &os_file_system) return preadv(fd, pieces, (int)count, (off_t)offset);
    return file->read(file->user, fd, pieces->iov_base, pieces->iov_len, offset);
}

bool os_file_read_pieces(const struct os_file *file, int fd, struct iovec *pieces, uint32_t count,
                         uint64_t offset, size_t *done)
{
    size_t at = 0;
    file = os_file_or_system(file);
    for (uint32_t first = 0; first < count;) {
        const ssize_t got = read_some(file, fd, pieces + first, count - first, offset + at);
        if (got < 0 && errno == EINTR) continue;
        // direct access goes no further where the file ended inside a block
        if (got == 0 || (got < 0 && errno == EINVAL && at % 512)) errno = ENODATA;
        if (got <= 0) {
            if (done) *done = at;
            return false;
        }
        at += (size_t)got;
        first += os_file_pieces_take(pieces + first, count - first, (size_t)got);
    }
    if (done) *done = at;
    return true;
}

bool os_file_read_all(const struct os_file *file, int fd, void *data, size_t bytes,
                      uint64_t offset, size_t *done)
{
    return os_file_read_pieces(file, fd, &(struct iovec){data, bytes}, 1, offset, done);
}

bool os_file_write_all(const struct os_file *file, int fd, const void *data, size_t bytes,
                       uint64_t offset, size_t *done)
{
    size_t at = 0;
    file = os_file_or_system(file);
    while (at < bytes) {
        const size_t  part = bytes - at < CALL_MOST ? bytes - at : CALL_MOST;
        const ssize_t put =
            file->write(file->user, fd, (const uint8_t *)data + at, part, offset + at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC; // a file takes nothing only where there is no room
        if (put <= 0)
            break;
        at += (size_t)put;
    }
    if (done)
        *done = at;
    return at == bytes;
}

const char *os_file_reason(int error)
{
    switch (error) {
    case ENOSPC:    return "no space left on the device; free some or write elsewhere";
    case EDQUOT:    return "the disk quota is used up; free some or write elsewhere";
    case EROFS:     return "the file system is read-only; write elsewhere";
    case EACCES:    return "permission denied";
    case ENOENT:    return "no such file or folder";
    case EISDIR:    return "it is a folder";
    case ENODATA:   return "the file ends before; was it cut short?";
    case ECANCELED: return "cancelled";
    default:        return strerror(error);
    }
}
