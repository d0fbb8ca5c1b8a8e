// SPDX-License-Identifier: MIT
// Files: see file.h.
#include "runtime/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"

enum { IO_CHUNK = 1 << 30, WRITER_BUFFER = 1 << 18 };

static bool fail(const char *what, const char *path)
{
    log_error("%s: cannot %s: %s", path, what, os_file_reason(errno));
    return false;
}

// Opens a regular file for reading and gives its size.
static int open_regular(const char *path, uint64_t *bytes)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        fail("open", path);
    } else if (!S_ISREG(info.st_mode)) {
        errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
        fail("read", path);
    } else {
        *bytes = (uint64_t)info.st_size;
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool read_all(int fd, uint8_t *data, uint64_t bytes)
{
    while (bytes) {
        const ssize_t got = read(fd, data, bytes < IO_CHUNK ? bytes : IO_CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; // the file became shorter while it was read
        if (got <= 0)
            return false;
        data += got;
        bytes -= (uint64_t)got;
    }
    return true;
}

bool file_read(const char *path, uint64_t max_bytes, void **data, uint64_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    uint64_t  size = 0;
    const int fd = open_regular(path, &size);
    if (fd < 0)
        return false;
    if (max_bytes && size > max_bytes) {
        log_error("%s: %llu bytes, at most %llu are read; is it the right file?", path,
                  (unsigned long long)size, (unsigned long long)max_bytes);
        close(fd);
        return false;
    }
    uint8_t *memory = os_alloc(size + 1);
    if (!read_all(fd, memory, size)) {
        fail("read", path);
        free(memory);
        close(fd);
        return false;
    }
    close(fd);
    *data = memory;
    *bytes = size;
    return true;
}

bool file_map(const char *path, struct file_map *out)
{
    *out = (struct file_map){0};
    uint64_t  size = 0;
    const int fd = open_regular(path, &size);
    if (fd < 0)
        return false;
    void *data = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    const bool ok = data != MAP_FAILED || fail("map", path);
    close(fd);
    if (ok)
        *out = (struct file_map){data, size};
    return ok;
}

void file_unmap(struct file_map *map)
{
    if (map->data)
        munmap((void *)map->data, map->bytes);
    *map = (struct file_map){0};
}

void file_map_forget(const struct file_map *map)
{
    if (map->data && madvise((void *)(uintptr_t)map->data, map->bytes, MADV_DONTNEED) != 0)
        log_debug("a mapped file stays in memory: %s", strerror(errno));
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_size(const char *path, uint64_t *bytes)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return fail("look at", path);
    *bytes = (uint64_t)info.st_size;
    return true;
}

static bool make_folder(const char *path)
{
    struct stat info;
    if (mkdir(path, 0777) == 0)
        return true;
    if (errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return true;
    return fail("make the folder", path);
}

bool file_make_folders(const char *path)
{
    char *part = os_strdup(path);
    bool  ok = true;
    for (char *c = part + 1; part[0] && *c && ok; c++)
        if (*c == '/') {
            *c = 0;
            ok = make_folder(part);
            *c = '/';
        }
    ok = ok && make_folder(part);
    free(part);
    return ok;
}

bool file_sync_folder(const char *path_in_it)
{
    char *folder = os_strdup(path_in_it);
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash++;
    if (slash)
        *slash = 0;
    const char *name = slash ? folder : ".";
    const int   fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // some file systems cannot sync a folder and say EINVAL: nothing more can be done there
    const bool ok =
        (fd >= 0 && (fsync(fd) == 0 || errno == EINVAL)) || fail("sync the folder", name);
    if (fd >= 0)
        close(fd);
    free(folder);
    return ok;
}

bool file_rename(const char *from, const char *to)
{
    if (rename(from, to) != 0) {
        log_error("%s: cannot rename to %s: %s", from, to, os_file_reason(errno));
        return false;
    }
    return file_sync_folder(to);
}

struct file_writer {
    char    *path, *beside; // target, and what is written
    int      fd;
    bool     failed;
    uint64_t bytes;
    size_t   held;          // bytes in `buffer`
    uint8_t  buffer[WRITER_BUFFER];
};

static void writer_free(struct file_writer **writer)
{
    if ((*writer)->fd >= 0)
        close((*writer)->fd);
    free((*writer)->path);
    free((*writer)->beside);
    free(*writer);
    *writer = NULL;
}

struct file_writer *file_writer_open(const char *path)
{
    struct file_writer *writer = os_alloc(sizeof *writer);
    writer->path = os_strdup(path);
    const size_t size = strlen(path) + 32;
    writer->beside = os_alloc(size);
    snprintf(writer->beside, size, "%s.tmp-%ld", path, (long)getpid());
    writer->fd = open(writer->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd >= 0)
        return writer;
    fail("write", path);
    writer_free(&writer);
    return NULL;
}

static bool writer_out(struct file_writer *writer, const uint8_t *data, uint64_t bytes)
{
    while (bytes && !writer->failed) {
        const ssize_t put = write(writer->fd, data, bytes < IO_CHUNK ? bytes : IO_CHUNK);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            writer->failed = true;
            fail("write", writer->path);
            break;
        }
        data += put;
        bytes -= (uint64_t)put;
    }
    return !writer->failed;
}

static bool writer_flush(struct file_writer *writer)
{
    const size_t held = writer->held;
    writer->held = 0;
    return writer_out(writer, writer->buffer, held);
}

bool file_writer_write(struct file_writer *writer, const void *data, uint64_t bytes)
{
    writer->bytes += bytes;
    if (bytes <= sizeof writer->buffer - writer->held) {
        if (bytes)
            memcpy(writer->buffer + writer->held, data, bytes);
        writer->held += bytes;
        return !writer->failed;
    }
    return writer_flush(writer) && writer_out(writer, data, bytes);
}

uint64_t file_writer_bytes(const struct file_writer *writer)
{
    return writer->bytes;
}

bool file_writer_commit(struct file_writer **writer)
{
    struct file_writer *w = *writer;
    bool ok = writer_flush(w);
    if (ok && fsync(w->fd) != 0)
        ok = fail("sync", w->path);
    const int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 && ok) // network file systems report a full disk here
        ok = fail("close", w->path);
    ok = ok && file_rename(w->beside, w->path);
    if (!ok)
        unlink(w->beside);
    writer_free(writer);
    return ok;
}

void file_writer_abort(struct file_writer **writer)
{
    if (!*writer)
        return;
    unlink((*writer)->beside);
    writer_free(writer);
}
