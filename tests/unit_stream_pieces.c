// SPDX-License-Identifier: MIT
// Requests of the stream whose memory is in pieces: every byte where it belongs, whatever the way
// of reading and however the pieces lie to the parts that a request is cut into; and what is
// refused.
#include <errno.h>

#include "unit_stream.h"

#include "runtime/os.h"

// Pieces of memory of one request: in any sizes, none where it is not written, across the parts
// that a request is cut into.
static void pieces_are_filled(enum stream_backend backend, int flags, uint64_t seed)
{
    enum { BYTES = 5 * MIB + 7 * PAGE, COUNT = 40 };
    const int fd = make_file("file", BYTES, seed, flags);
    const uint64_t unit = flags ? PAGE : 1;
    struct stream *stream = make_stream(backend);
    struct iovec piece[COUNT];
    uint8_t *memory = os_pages(2 * (BYTES + COUNT * PAGE)), *at = memory;
    uint64_t left = BYTES - 3 * PAGE, offset = PAGE;
    for (uint64_t i = 0; i < COUNT; i++) {
        const uint64_t most = 2 * left / (COUNT - i) / unit + 1,
                       bytes = i + 1 < COUNT ? min_u64(left, rng_below(seed, 0, i, most) * unit)
                                             : left;
        piece[i] = (struct iovec){at, bytes};
        at += align_up(bytes, PAGE) + PAGE; // a page between
        left -= bytes;
    }
    memset(memory, 0xa5, (size_t)(at - memory));
    const struct stream_request request = {.fd = fd, .offset = offset, .bytes = BYTES - 3 * PAGE,
                                           .piece = piece, .pieces = COUNT};
    assert_true(stream_wait(stream, stream_submit(stream, &request)));
    for (uint64_t i = 0; i < COUNT; i++) {
        const uint8_t *data = piece[i].iov_base;
        assert_bytes(data, offset, piece[i].iov_len, seed);
        assert_int_equal(data[piece[i].iov_len], 0xa5);
        offset += piece[i].iov_len;
    }
    stream_destroy(&stream);
    os_pages_free(memory, 2 * (BYTES + COUNT * PAGE));
    close(fd);
}

static ssize_t little_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    (void)user;
    return pread(fd, data, bytes < 70000 ? bytes : 70000, (off_t)offset);
}

static void pieces(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++)
        for (size_t b = 0; b < COUNT_OF(backends); b++) {
            pieces_are_filled(backends[b], 0, seed);
            pieces_are_filled(backends[b], O_DIRECT, seed);
        }
    // other calls than the system's, and one piece longer than what they give
    struct os_file file = os_file_system;
    file.read = little_read;
    const int fd = make_file("file", MIB, 4, 0);
    uint8_t *memory = malloc(MIB);
    struct iovec two[] = {{memory, 300000}, {memory + 300000, 600000}};
    size_t done = 0;
    assert_true(os_file_read_pieces(&file, fd, two, 2, 1000, &done));
    assert_int_equal(done, 900000);
    assert_bytes(memory, 1000, 900000, 4);
    struct iovec late = {memory, 300000};
    assert_false(os_file_read_pieces(&file, fd, &late, 1, MIB - 200000, &done));
    assert_int_equal(done, 200000);
    assert_int_equal(errno, ENODATA);
    free(memory);
    close(fd);
    unit_assert_silent();
}

static void pieces_are_refused(void **state)
{
    (void)state;
    const int fd = make_file("file", MIB, 4, O_DIRECT);
    struct stream *stream = make_stream(STREAM_THREADS);
    uint8_t *memory = os_pages(4 * PAGE);
    struct iovec piece[STREAM_PIECES + 1] = {{memory, PAGE}, {memory + PAGE, PAGE}};
    struct stream_request request = {.fd = fd, .bytes = PAGE, .piece = piece, .pieces = 2};
    assert_int_equal(stream_submit(stream, &request), 0);
    unit_assert_line("2 pieces", "4096 bytes");
    request.bytes = 2 * PAGE;
    request.kind = STREAM_WRITE;
    assert_int_equal(stream_submit(stream, &request), 0);
    unit_assert_line("2 pieces", "a read");
    request.kind = STREAM_NEEDED;
    request.pieces = STREAM_PIECES + 1;
    assert_int_equal(stream_submit(stream, &request), 0);
    unit_assert_line("65 pieces", "at most 64");
    request.pieces = 2;
    piece[1].iov_base = memory + PAGE + 8;
    assert_int_equal(stream_submit(stream, &request), 0);
    unit_assert_line("multiple of 4096", "");
    stream_destroy(&stream);
    os_pages_free(memory, 4 * PAGE);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(pieces),
        UNIT(pieces_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
