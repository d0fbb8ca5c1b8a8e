// SPDX-License-Identifier: MIT
// The stream moves the right bytes on every backend, in the order it promises, and each fault of a
// file is one clear line; no thread is left when it ends.
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "unit.h"

#include "runtime/os.h"
#include "runtime/os_file.h"
#include "runtime/stream.h"

enum { PAGE = OS_FILE_ALIGNMENT, MIB = 1 << 20 };

static const enum stream_backend backends[] = {STREAM_PLAIN, STREAM_THREADS, STREAM_URING};

static struct stream *make_stream(enum stream_backend backend)
{
    struct stream *stream = stream_create(&(struct stream_params){.backend = backend});
    assert_non_null(stream);
    return stream;
}

static uint8_t byte_at(uint64_t seed, uint64_t i)
{
    return (uint8_t)(((i + seed * 7919) * 0x9e3779b97f4a7c15u) >> 37);
}

// A file of pages whose every byte depends on its place.
static int make_file(const char *name, uint64_t bytes, uint64_t seed, int flags)
{
    uint8_t *data = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) data[i] = byte_at(seed, i);
    const char *path = unit_write(name, data, bytes);
    free(data);
    const int fd = open(path, O_RDWR | O_CLOEXEC | flags);
    assert_true(fd >= 0);
    return fd;
}

static void assert_bytes(const uint8_t *data, uint64_t offset, uint64_t bytes, uint64_t seed)
{
    for (uint64_t i = 0; i < bytes; i++)
        if (data[i] != byte_at(seed, offset + i))
            fail_msg("byte %llu", (unsigned long long)(offset + i));
}

static uint64_t submit(struct stream *stream, enum stream_kind kind, int fd, uint64_t offset,
                       size_t bytes, void *memory)
{
    const uint64_t ticket = stream_submit(
        stream, &(struct stream_request){kind, fd, offset, bytes, memory, offset + 1});
    assert_true(ticket > 0);
    return ticket;
}

static int thread_count(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    char line[256];
    int  count = 0;
    while (fgets(line, sizeof line, file)) sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

// ---- the right bytes

static void reads_bring_the_file(enum stream_backend backend, int flags)
{
    enum { BYTES = 9 * MIB + 3 * PAGE };
    const int fd = make_file("file", BYTES, 1, flags);
    const int threads = thread_count();
    struct stream *stream = make_stream(backend);
    static const size_t sizes[] = {PAGE, 3 * PAGE, MIB, MIB + PAGE, 5 * MIB + PAGE, BYTES};
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        const uint64_t count = BYTES / sizes[s];
        uint8_t *data = os_pages(BYTES);
        for (uint64_t i = 0; i < count; i++)
            submit(stream, i % 3 ? STREAM_NEEDED : STREAM_SPECULATIVE, fd, i * sizes[s], sizes[s],
                   data + i * sizes[s]);
        uint64_t ended = 0, users = 0;
        struct stream_done done;
        while (stream_next(stream, &done)) {
            assert_true(done.ok);
            assert_int_equal(done.bytes, sizes[s]);
            ended++;
            users += done.user;
        }
        assert_int_equal(ended, count);
        assert_int_equal(users, count + sizes[s] * (count * (count - 1) / 2));
        assert_bytes(data, 0, count * sizes[s], 1);
        os_pages_free(data, BYTES);
    }
    assert_false(stream_poll(stream, &(struct stream_done){0}));
    stream_destroy(&stream);
    assert_null(stream);
    assert_int_equal(thread_count(), threads);
    close(fd);
    unit_assert_silent();
}

static void every_backend_reads(void **state)
{
    (void)state;
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        reads_bring_the_file(backends[b], 0);
        reads_bring_the_file(backends[b], O_DIRECT);
    }
}

// Bytes and places that no direct access would take.
static void odd_ranges(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 31, 33, 4095, 4097, MIB - 1, MIB + 1, 2 * MIB + 7};
    const int fd = make_file("file", 3 * MIB, 2, 0);
    uint8_t *data = malloc(2 * MIB + 8);
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        struct stream *stream = make_stream(backends[b]);
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            data[sizes[s]] = 0xa5;
            const uint64_t offset = 13 * s + 5;
            assert_true(stream_wait(
                stream, submit(stream, STREAM_NEEDED, fd, offset, sizes[s], data)));
            assert_bytes(data, offset, sizes[s], 2);
            assert_int_equal(data[sizes[s]], 0xa5);
        }
        stream_destroy(&stream);
    }
    free(data);
    close(fd);
    unit_assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_backend_reads),
        UNIT(odd_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
