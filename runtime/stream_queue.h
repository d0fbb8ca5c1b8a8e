// SPDX-License-Identifier: MIT
// What the backends of the stream share: the queues of requests, and the parts that workers take
// from them and give back. Everything is under one lock.
#pragma once

#include <pthread.h>

#include "runtime/os_file.h"
#include "runtime/stream.h"

enum { STREAM_SLOTS = 1 << 20 };
enum stream_state { STREAM_HELD, STREAM_WAITING, STREAM_RUNNING, STREAM_ENDED };

// A request. HELD: an earlier one that overlaps has not ended. WAITING: in a queue, with parts that
// no worker has taken. RUNNING: all parts are taken. ENDED: in the list of ends.
struct stream_item {
    struct stream_request request;
    enum stream_kind      kind;        // request.kind until it is promoted
    enum stream_state     state;
    uint64_t              ticket;
    uint64_t              device, inode; // of the file
    size_t                taken, moved; // bytes in parts that were taken; moved
    uint32_t              running;     // parts under way
    bool                  cancelled;   // its end, whatever it is, is not told
    int                   error;       // first errno
    uint64_t              error_at;    // offset in the file
    struct stream_item   *next, *before; // in its queue, or in the list of ends
    struct stream_item   *younger, *older; // all that have not ended
    struct stream_item   *chain;       // while it is promoted: the next that is held
};

struct stream_list { struct stream_item *first, *last; };

struct stream_part {
    struct stream_item *item;
    struct iovec        piece[STREAM_PIECES];
    uint32_t            pieces; // writes: one
    uint32_t            used;   // of these, up to done (io_uring's)
    uint64_t            offset;
    size_t              bytes;
    size_t              done; // the worker's
    int                 error;
};

struct stream_own {
    struct stream        stream;
    const struct os_file *file;
    pthread_mutex_t      lock;
    pthread_cond_t       work;   // there are parts to take, or it ends
    pthread_cond_t       ended;  // a request has ended
    struct stream_list   queue[STREAM_KINDS], held, ends;
    struct stream_item  *oldest, *youngest; // that have not ended
    struct stream_item **slot;   // ticket % STREAM_SLOTS -> item
    uint32_t             slots, slot_capacity;
    uint64_t             serial;
    uint32_t             outstanding;            // requests whose end has not been taken
    uint32_t             running[STREAM_KINDS];  // parts under way
    bool                 ending;
    uint64_t             busy_since;             // ns; 0: nothing is under way
    struct stream_stats  stats;
    struct { int fd, error; } told; // of the last failed write
    pthread_t           *thread;
    uint32_t             threads;
    struct stream_uring *uring;
};

static inline struct stream_own *stream_own(struct stream *stream)
{
    return (struct stream_own *)stream;
}

// With the lock held. The next part in order of kinds; false: none may begin now.
bool stream_take(struct stream_own *own, struct stream_part *out);
void stream_give(struct stream_own *own, const struct stream_part *part);

// Starts `count` threads of `run` with signals blocked; false after one line.
bool stream_threads_start(struct stream_own *own, uint32_t count, void *(*run)(void *own));
void stream_threads_join(struct stream_own *own);
void *stream_threads_run(void *own); // worker of the pool
// The whole part, by calls that wait.
void stream_do_part(const struct os_file *file, bool write, int fd, struct stream_part *part);

// stream_uring.c. Create: false, with the reason in `why`, where the kernel refuses.
bool stream_uring_create(struct stream_own *own, char *why, size_t why_bytes);
void stream_uring_wake(struct stream_own *own); // with the lock held: there is work
void stream_uring_destroy(struct stream_own *own);
