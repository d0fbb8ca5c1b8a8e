// SPDX-License-Identifier: MIT
// Asynchronous reads and writes of ranges of files, beside the compute. A request is cut into parts
// of 1 MiB; up to 32 parts are under way at once, through io_uring where the kernel allows it, else
// through a pool of threads; the plain backend does each request inside its submit and is the
// reference. Whether the page cache is passed by (O_DIRECT) is a property of the file descriptor;
// stream_choose measures which way is fastest on a real file.
//
// Order. Needed reads begin first, then writes, then speculative reads. No part of a speculative
// read begins while a needed one waits or is under way, and at most STREAM_SPECULATIVE_PARTS are
// under way, so that a needed read never waits for more than these. Requests that overlap in the
// file, one of them a write, happen in the order of their submits; all others in any order.
//
// Errors. A request that fails logs one line, in the thread that takes its end (stream_poll,
// stream_wait...): file, range, reason. What the caller cancelled says nothing, nor do further
// writes to a file that fail for the same reason.
//
// All functions may be called from any thread. Requests hold descriptors and memory until their end
// has been taken; destroy waits for what is under way, and drops what has not begun (one line where
// these were writes).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct iovec;
struct os_file;

enum {
    STREAM_DEPTH = 32, STREAM_PART_BYTES = 1 << 20, STREAM_SPECULATIVE_PARTS = 4,
    STREAM_PIECES = 64
};

enum stream_backend { STREAM_URING, STREAM_THREADS, STREAM_PLAIN, STREAM_BACKENDS };
enum stream_kind { STREAM_NEEDED, STREAM_WRITE, STREAM_SPECULATIVE, STREAM_KINDS };

struct stream_params {
    enum stream_backend backend;    // io_uring that is refused becomes threads, with a word
    uint32_t            depth;      // parts under way at most; 0: STREAM_DEPTH
    uint32_t            part_bytes; // 0: STREAM_PART_BYTES; a multiple of OS_FILE_ALIGNMENT
    const struct os_file *file;     // NULL: the system's calls; others never go through io_uring
};

struct stream {
    struct stream_params params; // as resolved; read-only
};

// Descriptors opened with O_DIRECT want offset, bytes and memory to be multiples of
// OS_FILE_ALIGNMENT (os_pages gives such memory); so does every piece.
struct stream_request {
    enum stream_kind kind;
    int              fd;
    uint64_t         offset;
    size_t           bytes;  // > 0
    void            *memory; // written by reads, read by writes
    uint64_t         user;   // comes back in stream_done
    // Reads, in place of memory: where the bytes go, one piece behind the other, `bytes` in all.
    // At most STREAM_PIECES; the array is the caller's and stays until the end.
    const struct iovec *piece;
    uint32_t            pieces;
};

struct stream_done {
    uint64_t         ticket, user;
    enum stream_kind kind; // as submitted
    size_t           bytes;
    bool             ok;
    int              error; // errno where not ok; ECANCELED: by the caller
};

// NULL after one line.
struct stream *stream_create(const struct stream_params *params);
void           stream_destroy(struct stream **stream);

// A ticket > 0; 0 after one line (misaligned, no bytes).
uint64_t stream_submit(struct stream *stream, const struct stream_request *request);
// Takes the end of one request, whichever came first. False: none has ended.
bool stream_poll(struct stream *stream, struct stream_done *out);
// The same, waiting. False: nothing is under way and no end is left to take.
bool stream_next(struct stream *stream, struct stream_done *out);
// Waits for this request and takes its end; what has not begun goes before all others. True: all
// bytes are there.
bool stream_wait(struct stream *stream, uint64_t ticket);
// Waits for all and takes all ends. True: none of them failed or was cancelled.
bool stream_wait_all(struct stream *stream);
// A speculative read that turned out to be needed.
void stream_promote(struct stream *stream, uint64_t ticket);
// What has not begun never does; the end is still to be taken, and says nothing if it failed.
void stream_cancel(struct stream *stream, uint64_t ticket);
bool stream_finished(struct stream *stream, uint64_t ticket); // its end waits to be taken

struct stream_stats {
    uint64_t requests[STREAM_KINDS]; // that ended
    uint64_t bytes[STREAM_KINDS];    // moved by these
    uint64_t failed, cancelled;
    double   busy_s; // with at least one part under way
    double   wait_s; // that callers spent in stream_next, stream_wait and stream_wait_all: what the
                     // compute did not hide
};
struct stream_stats stream_stats(struct stream *stream);
const char         *stream_backend_name(enum stream_backend backend); // "io_uring"

// ---- which way is fastest

enum stream_way { STREAM_URING_DIRECT, STREAM_THREADS_DIRECT, STREAM_THREADS_CACHED, STREAM_WAYS };

struct stream_choice {
    enum stream_way     way;
    enum stream_backend backend;
    bool                direct;            // open files with O_DIRECT
    double              gbps[STREAM_WAYS]; // read rate; 0: cannot, or was not measured
    char                text[192];         // one sentence: what was taken, and why
};

// The page cache where half of the memory that is free now has room for `all`: how much is read
// again and again, in all files (0: more than memory). Read once it is a memcpy away, 4 to 5 GB/s a
// thread where the disk gave 2. Else reads at places all over the file, for about 100 ms in all, in
// requests of `bytes` (0: 1 MiB) each, and takes the fastest way; one that is not a tenth faster
// loses to one before it. With path NULL, or a file of less than 8 MiB, nothing is measured:
// io_uring, direct, where they can. wanted: NULL or "auto"; "uring", "threads", "cache": that way.
// False after one line: unknown word, unreadable file, or a way that cannot be had.
bool stream_choose(const char *path, size_t bytes, uint64_t all, const char *wanted,
                   struct stream_choice *out);
