// SPDX-License-Identifier: MIT
// A disk that fails, for tests of the whole program: loaded before the C library (LD_PRELOAD), it
// stands between the program and the calls that it makes on the files of a run folder, those whose
// path holds $VKMOE_FAULT_PATH. What it does is in $VKMOE_FAULT_FILES:
//     count     nothing; the number of calls is said on stderr at the end
//     die:N     the process is killed (as by kill -9) instead of the N-th call, counted from 0
//     full:N    from the N-th call on there is no room: ENOSPC, but where a segment reserved it
//     bad:N     the N-th call alone fails: EIO
//     short     reads and writes give and take less than they were asked for, or are interrupted
// io_uring's calls cannot be seen from here: there is none.
#undef _FILE_OFFSET_BITS // both names of a call are wanted
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_llong calls;

__attribute__((destructor)) static void say(void)
{
    const char *mode = getenv("VKMOE_FAULT_FILES");
    if (mode && strcmp(mode, "count") == 0)
        fprintf(stderr, "files: %lld calls\n", (long long)atomic_load(&calls));
}

static void find(const char *name, void *function, size_t bytes)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol || bytes != sizeof symbol) _exit(99);
    memcpy(function, &symbol, bytes);
}

static int is_ours(const char *path)
{
    const char *wanted = getenv("VKMOE_FAULT_PATH");
    return wanted && *wanted && path && strstr(path, wanted) != NULL;
}

static void path_of(int fd, char path[4096])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
}

static int is_our_file(int fd)
{
    char path[4096];
    path_of(fd, path);
    return is_ours(path);
}

static int is_segment(int fd)
{
    char path[4096];
    path_of(fd, path);
    return strstr(path, "/segment-") != NULL;
}

// A call on one of our files. False with errno: it fails.
static int passes(int writes)
{
    const char *mode = getenv("VKMOE_FAULT_FILES");
    const long long n = atomic_fetch_add(&calls, 1);
    const long long at = mode && strchr(mode, ':') ? atoll(strchr(mode, ':') + 1) : -1;
    if (!mode || at < 0) return 1;
    if (mode[0] == 'd' && n == at) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (mode[0] == 'f' && n >= at && writes) return errno = ENOSPC, 0;
    if (mode[0] == 'b' && n == at) return errno = EIO, 0;
    return 1;
}

// How much of a transfer is made; 0: it is interrupted.
static size_t some_of(int fd, size_t bytes)
{
    const char *mode = getenv("VKMOE_FAULT_FILES");
    const long long n = atomic_load(&calls);
    if (!mode || strcmp(mode, "short") != 0 || bytes < 2) return bytes;
    if (n % 5 == 0) return 0;
    const size_t less = 1 + bytes * (size_t)(n % 7) / 7;
    const size_t pages = (less + 4095) / 4096 * 4096; // what direct access asks for
    if (!(fcntl(fd, F_GETFL) & O_DIRECT)) return less;
    return pages < bytes ? pages : bytes;
}

#define TRANSFER(name, pointer, writes)                                                            \
    ssize_t name(int fd, pointer data, size_t bytes, off_t offset)                                 \
    {                                                                                              \
        ssize_t (*real)(int, pointer, size_t, off_t);                                              \
        find(#name, &real, sizeof real);                                                           \
        if (!is_our_file(fd)) return real(fd, data, bytes, offset);                                \
        if (!passes(writes && !is_segment(fd))) return -1;                                         \
        const size_t some = some_of(fd, bytes);                                                    \
        if (bytes && !some) return errno = EINTR, -1;                                              \
        return real(fd, data, some, offset);                                                       \
    }
TRANSFER(pread, void *, 0)
TRANSFER(pread64, void *, 0)
TRANSFER(pwrite, const void *, 1)
TRANSFER(pwrite64, const void *, 1)

#define CALL(name, ours, writes, types, arguments)                                                 \
    int name types                                                                                 \
    {                                                                                              \
        int(*real) types;                                                                          \
        find(#name, &real, sizeof real);                                                           \
        return !(ours) || passes(writes) ? real arguments : -1;                                    \
    }
CALL(fsync, is_our_file(fd), 0, (int fd), (fd))
CALL(fdatasync, is_our_file(fd), 0, (int fd), (fd))
CALL(fallocate, is_our_file(fd), 1, (int fd, int mode, off_t at, off_t bytes),
     (fd, mode, at, bytes))
CALL(fallocate64, is_our_file(fd), 1, (int fd, int mode, off_t at, off_t bytes),
     (fd, mode, at, bytes))
CALL(ftruncate, is_our_file(fd), 1, (int fd, off_t bytes), (fd, bytes))
CALL(ftruncate64, is_our_file(fd), 1, (int fd, off_t bytes), (fd, bytes))
CALL(rename, is_ours(from), 1, (const char *from, const char *to), (from, to))
CALL(unlink, is_ours(path), 0, (const char *path), (path))

int io_uring_queue_init(unsigned entries, void *ring, unsigned flags);
int io_uring_queue_init(unsigned entries, void *ring, unsigned flags)
{
    (void)entries, (void)ring, (void)flags;
    return -EPERM;
}
int io_uring_queue_init_params(unsigned entries, void *ring, void *params);
int io_uring_queue_init_params(unsigned entries, void *ring, void *params)
{
    (void)entries, (void)ring, (void)params;
    return -EPERM;
}
