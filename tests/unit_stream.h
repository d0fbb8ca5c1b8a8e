// SPDX-License-Identifier: MIT
// What the tests of the stream share: files whose bytes follow from their place, requests, and the
// number of threads.
#pragma once

#include <fcntl.h>
#include <pthread.h>

#include "unit.h"

#include "runtime/os_file.h"
#include "runtime/stream.h"

enum { PAGE = OS_FILE_ALIGNMENT, MIB = 1 << 20 };

UNIT_HELPER uint8_t byte_at(uint64_t seed, uint64_t i)
{
    return (uint8_t)(((i + seed * 7919) * 0x9e3779b97f4a7c15u) >> 37);
}

// A file of pages whose every byte depends on its place.
UNIT_HELPER int make_file(const char *name, uint64_t bytes, uint64_t seed, int flags)
{
    uint8_t *data = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) data[i] = byte_at(seed, i);
    const char *path = unit_write(name, data, bytes);
    free(data);
    const int fd = open(path, O_RDWR | O_CLOEXEC | flags);
    assert_true(fd >= 0);
    return fd;
}

UNIT_HELPER void assert_bytes(const uint8_t *data, uint64_t offset, uint64_t bytes, uint64_t seed)
{
    for (uint64_t i = 0; i < bytes; i++)
        if (data[i] != byte_at(seed, offset + i))
            fail_msg("byte %llu", (unsigned long long)(offset + i));
}

static const enum stream_backend backends[] = {STREAM_PLAIN, STREAM_THREADS, STREAM_URING};

UNIT_HELPER struct stream *make_stream(enum stream_backend backend)
{
    struct stream *stream = stream_create(&(struct stream_params){.backend = backend});
    assert_non_null(stream);
    return stream;
}

UNIT_HELPER uint64_t submit(struct stream *stream, enum stream_kind kind, int fd, uint64_t offset,
                            size_t bytes, void *memory)
{
    const uint64_t ticket = stream_submit(
        stream, &(struct stream_request){kind, fd, offset, bytes, memory, offset + 1});
    assert_true(ticket > 0);
    return ticket;
}

UNIT_HELPER int thread_count(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    char line[256];
    int  count = 0;
    while (fgets(line, sizeof line, file)) sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

UNIT_HELPER void *nothing(void *user)
{
    return user;
}

// How many there are now. The thread sanitizer has one of its own from the first one on.
UNIT_HELPER int thread_base(void)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, nothing, NULL), 0);
    pthread_join(thread, NULL);
    usleep(20000);
    return thread_count();
}

// A thread that was joined, or one that the kernel lent to io_uring, may be seen a little longer.
UNIT_HELPER void assert_threads(int wanted)
{
    for (int tries = 0; tries < 5000 && thread_count() != wanted; tries++) usleep(1000);
    assert_int_equal(thread_count(), wanted);
}
