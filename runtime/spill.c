// SPDX-License-Identifier: MIT
// Memory in a file: see spill.h. Pieces of the file are mapped one by one as they are needed, each
// with its room taken beforehand, so that a full disk is an error here and no signal later.
#include "runtime/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"

enum { PIECE = 64 << 20, PAGE = 4096, ALIGNMENT = 16 };

struct piece { uint8_t *memory; uint64_t bytes, used; };

struct spill {
    int           fd;
    char         *folder;
    uint64_t      bytes;
    struct piece *piece;
    size_t        count;
};

// A file that no other process ever sees. Some file systems have names only: then one for a moment.
static int open_nameless(const char *folder)
{
    char path[4200];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    if (snprintf(path, sizeof path, "%s/spill-XXXXXX", folder) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

struct spill *spill_create(const char *folder)
{
    if (!file_make_folders(folder)) return NULL;
    const int fd = open_nameless(folder);
    if (fd < 0) {
        log_error("%s: cannot write a file in it: %s", folder, os_file_reason(errno));
        return NULL;
    }
    struct spill *spill = os_alloc(sizeof *spill);
    spill->fd = fd;
    spill->folder = os_strdup(folder);
    return spill;
}

void spill_destroy(struct spill **spill)
{
    if (!*spill) return;
    for (size_t i = 0; i < (*spill)->count; i++)
        munmap((*spill)->piece[i].memory, (*spill)->piece[i].bytes);
    close((*spill)->fd);
    free((*spill)->piece);
    free((*spill)->folder);
    free(*spill);
    *spill = NULL;
}

static bool refuse(const struct spill *spill, uint64_t bytes)
{
    log_error("%s: no room for %llu MiB more, of a file of %llu MiB so far: %s", spill->folder,
              (unsigned long long)(bytes >> 20), (unsigned long long)(spill->bytes >> 20),
              os_file_reason(errno));
    return false;
}

static bool add_piece(struct spill *spill, uint64_t bytes)
{
    const uint64_t room = bytes > PIECE ? (bytes + PAGE - 1) / PAGE * PAGE : PIECE;
    const int error = posix_fallocate(spill->fd, (off_t)spill->bytes, (off_t)room);
    errno = error;
    if (error) return refuse(spill, room);
    void *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, spill->fd,
                        (off_t)spill->bytes);
    if (memory == MAP_FAILED) return refuse(spill, room);
    spill->piece = os_grow(spill->piece, spill->count * sizeof *spill->piece,
                           (spill->count + 1) * sizeof *spill->piece);
    spill->piece[spill->count++] = (struct piece){memory, room, 0};
    spill->bytes += room;
    return true;
}

void *spill_alloc(struct spill *spill, uint64_t bytes)
{
    struct piece *last = spill->count ? &spill->piece[spill->count - 1] : NULL;
    if (!last || last->bytes - last->used < bytes) {
        if (!add_piece(spill, bytes)) return NULL;
        last = &spill->piece[spill->count - 1];
    }
    void *memory = last->memory + last->used;
    const uint64_t next = (last->used + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    last->used = next < last->bytes ? next : last->bytes;
    return memory;
}

void spill_forget(struct spill *spill)
{
    for (size_t i = 0; i < spill->count; i++)
        if (madvise(spill->piece[i].memory, spill->piece[i].bytes, MADV_DONTNEED) != 0)
            log_debug("spilled memory stays: %s", strerror(errno));
}

uint64_t spill_bytes(const struct spill *spill)
{
    return spill->bytes;
}
