// SPDX-License-Identifier: MIT
// Folders that one process owns: see folder_own.h.
#include "runtime/folder_own.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/os.h"

struct folder_lock {
    int fd;
};

static bool fail(const char *what, const char *path)
{
    log_error("%s: cannot %s: %s", path, what, strerror(errno));
    return false;
}

static char *join(const char *folder, const char *name)
{
    const size_t size = strlen(folder) + strlen(name) + 2;
    char *path = os_alloc(size);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

// ---- lock

// The holder's process id is in the file, for the message only: the lock itself ends with its
// holder.
static void log_held(const char *folder, int fd)
{
    char text[32] = "";
    const ssize_t got = pread(fd, text, sizeof text - 1, 0);
    const long pid = got > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        log_error("%s: in use by process %ld; end that run first or choose another folder", folder,
                  pid);
    else
        log_error("%s: in use by another process; end that run first or choose another folder",
                  folder);
}

static bool take_lock(const char *folder, const char *path, int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            log_held(folder, fd);
            return false;
        }
        log_warn("%s: cannot be locked (%s); take care that no second process writes here", path,
                 strerror(errno));
        return true;
    }
    char text[32];
    const int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    // a full disk only costs the number in another process's message
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
        log_debug("%s: not written", path);
    return true;
}

struct folder_lock *folder_lock(const char *folder)
{
    char *path = join(folder, ".lock");
    struct folder_lock *lock = os_alloc(sizeof *lock);
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    const bool ok = lock->fd >= 0 ? take_lock(folder, path, lock->fd) : fail("write", path);
    free(path);
    if (!ok) folder_unlock(&lock);
    return lock;
}

void folder_unlock(struct folder_lock **lock)
{
    if (!*lock) return;
    if ((*lock)->fd >= 0)
        close((*lock)->fd); // releases; the file stays, for removing it would race
    free(*lock);
    *lock = NULL;
}

void folder_give_up(struct folder_lock **lock, const char *folder)
{
    char *path = join(folder, ".lock");
    if (file_remove(path)) rmdir(folder); // fails where it is not empty
    free(path);
    folder_unlock(lock);
}

// ---- folders

bool folder_make(const char *path)
{
    return mkdir(path, 0777) == 0 || fail("make the folder", path);
}

static bool sync_path(const char *path, int flags)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    // EINVAL: a file system that cannot sync this; nothing more can be done there
    const bool ok = (fd >= 0 && (fsync(fd) == 0 || errno == EINVAL)) || fail("sync", path);
    if (fd >= 0) close(fd);
    return ok;
}

bool folder_sync(const char *path)
{
    struct folder folder;
    if (!folder_list(path, &folder)) return false;
    bool ok = true;
    for (uint32_t i = 0; i < folder.count && ok; i++) {
        if (folder.entry[i].is_folder) continue;
        char *file = join(path, folder.entry[i].name);
        ok = sync_path(file, 0);
        free(file);
    }
    folder_free(&folder);
    return ok && sync_path(path, O_DIRECTORY);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *level)
{
    (void)info, (void)type, (void)level;
    return remove(path) == 0 || errno == ENOENT || fail("remove", path) ? 0 : -1;
}

bool folder_remove(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0) return errno == ENOENT || fail("look at", path);
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}

// ---- files

bool file_remove(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT || fail("remove", path);
}

bool file_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool file_copy(const char *from, const char *to)
{
    struct file_map map;
    if (!file_map(from, &map)) return false;
    struct file_writer *writer = file_writer_open(to);
    bool ok = writer && file_writer_write(writer, map.data, map.bytes);
    if (ok) ok = file_writer_commit(&writer);
    else file_writer_abort(&writer);
    file_unmap(&map);
    return ok;
}

bool folder_link(const char *folder, const char *target, const char *name)
{
    char *from = join(folder, target), *to = join(folder, name), beside_name[300];
    snprintf(beside_name, sizeof beside_name, "%s.tmp-%ld", name, (long)getpid());
    char *beside = join(folder, beside_name);
    // the name of an ended process with this number may lie here; renaming onto the same file would
    // be no step at all
    bool ok = file_remove(beside);
    if (ok && file_is_same(from, to)) goto done;
    if (ok && (link(from, beside) == 0 || symlink(target, beside) == 0)) {
        ok = file_rename(beside, to);
        if (!ok) file_remove(beside);
    } else {
        ok = ok && file_copy(from, to);
    }
done:
    free(from), free(to), free(beside);
    return ok;
}
