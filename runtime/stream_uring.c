// SPDX-License-Identifier: MIT
// The stream over io_uring (Axboe, "Efficient IO with io_uring", 2019): one thread owns the ring,
// puts parts into it and gives back what is done; an eventfd in the ring wakes it for new work. Not
// the caller's thread, which may compute for long while parts wait for their turn.
#include "runtime/stream_queue.h"

#ifdef HAVE_URING

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "runtime/os.h"

struct stream_uring {
    struct io_uring     ring;
    int                 event;
    uint64_t            event_count; // what the read of the eventfd fills
    bool                event_armed;
    bool                asleep;      // under the lock: a wake has to write the eventfd
    uint32_t            depth, busy;
    struct stream_part *part;        // [depth], item NULL: free
};

static bool ring_create(struct stream_uring *uring, uint32_t depth, char *why, size_t why_bytes)
{
    const int error = io_uring_queue_init(depth + 1, &uring->ring, 0);
    if (error) {
        snprintf(why, why_bytes, "the kernel says: %s", strerror(-error));
        return false;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
    const bool ok = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
                    io_uring_opcode_supported(probe, IORING_OP_WRITE);
    io_uring_free_probe(probe);
    if (ok)
        return true;
    snprintf(why, why_bytes, "the kernel is older than 5.6");
    io_uring_queue_exit(&uring->ring);
    return false;
}

static struct io_uring_sqe *entry(struct stream_uring *uring, void *data)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring); // as many as can be under way
    io_uring_sqe_set_data(sqe, data);
    return sqe;
}

static void part_put(struct stream_uring *uring, struct stream_part *part)
{
    const struct stream_request *r = &part->item->request;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    const uint32_t       rest = (uint32_t)(part->bytes - part->done);
    const uint64_t       offset = part->offset + part->done;
    const struct iovec  *piece = part->piece + part->used;
    const uint32_t       pieces = part->pieces - part->used;
    if (r->kind == STREAM_WRITE)
        io_uring_prep_write(sqe, r->fd, piece->iov_base, rest, offset);
    else if (pieces == 1)
        io_uring_prep_read(sqe, r->fd, piece->iov_base, rest, offset);
    else
        io_uring_prep_readv(sqe, r->fd, piece, pieces, offset);
    io_uring_sqe_set_data(sqe, part);
}

static void part_progress(struct stream_part *part, size_t bytes)
{
    part->done += bytes;
    part->used += os_file_pieces_take(part->piece + part->used, part->pieces - part->used, bytes);
}

// True: the part has ended; else the rest of it was put in again.
static bool part_advance(struct stream_uring *uring, struct stream_part *part, int result)
{
    const bool write = part->item->request.kind == STREAM_WRITE;
    if (result == 0)
        part->error = write ? ENOSPC : ENODATA;
    else if (result > 0)
        part_progress(part, (size_t)result);
    else if (result == -EINVAL && part->done % 512) // direct, and the file ended inside a block
        part->error = ENODATA;
    else if (result != -EINTR && result != -EAGAIN)
        part->error = -result;
    if (part->error || part->done == part->bytes)
        return true;
    part_put(uring, part);
    return false;
}

static void take_parts(struct stream_own *own)
{
    struct stream_uring *uring = own->uring;
    for (uint32_t i = 0; i < uring->depth && uring->busy < uring->depth; i++) {
        if (uring->part[i].item)
            continue;
        if (!stream_take(own, &uring->part[i])) {
            uring->part[i].item = NULL;
            return;
        }
        uring->busy++;
        part_put(uring, &uring->part[i]);
    }
}

// Waits for at least one completion, without the lock. What ended stays in the ring.
static void ring_wait(struct stream_uring *uring)
{
    if (!uring->event_armed)
        io_uring_prep_read(entry(uring, NULL), uring->event, &uring->event_count,
                           sizeof uring->event_count, 0);
    uring->event_armed = true;
    const int result = io_uring_submit_and_wait(&uring->ring, 1);
    if (result < 0 && result != -EINTR) // the kernel is short of something: not at full speed
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void ring_collect(struct stream_own *own)
{
    struct stream_uring *uring = own->uring;
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct stream_part *part = io_uring_cqe_get_data(cqe);
        const int           result = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        if (!part) {
            uring->event_armed = false;
        } else if (part_advance(uring, part, result)) {
            uring->busy--;
            stream_give(own, part);
            part->item = NULL;
        }
    }
}

static void *uring_run(void *stream)
{
    struct stream_own   *own = stream;
    struct stream_uring *uring = own->uring;
    pthread_mutex_lock(&own->lock);
    for (;;) {
        take_parts(own);
        if (own->ending && !uring->busy)
            break;
        uring->asleep = true;
        pthread_mutex_unlock(&own->lock);
        ring_wait(uring);
        pthread_mutex_lock(&own->lock);
        uring->asleep = false;
        ring_collect(own);
    }
    pthread_mutex_unlock(&own->lock);
    return NULL;
}

bool stream_uring_create(struct stream_own *own, char *why, size_t why_bytes)
{
    struct stream_uring *uring = os_alloc(sizeof *uring);
    uring->depth = own->stream.params.depth;
    uring->event = eventfd(0, EFD_CLOEXEC);
    if (uring->event < 0 || !ring_create(uring, uring->depth, why, why_bytes)) {
        if (uring->event < 0)
            snprintf(why, why_bytes, "no eventfd: %s", strerror(errno));
        else
            close(uring->event);
        free(uring);
        return false;
    }
    uring->part = os_alloc(uring->depth * sizeof *uring->part);
    own->uring = uring;
    if (stream_threads_start(own, 1, uring_run))
        return true;
    snprintf(why, why_bytes, "no thread");
    stream_uring_destroy(own);
    return false;
}

void stream_uring_wake(struct stream_own *own)
{
    const uint64_t one = 1;
    if (!own->uring->asleep)
        return;
    own->uring->asleep = false;
    if (write(own->uring->event, &one, sizeof one) != sizeof one)
        own->uring->asleep = true; // cannot happen: the counter holds 2^64 - 2
}

void stream_uring_destroy(struct stream_own *own)
{
    struct stream_uring *uring = own->uring;
    pthread_mutex_lock(&own->lock);
    own->ending = true;
    stream_uring_wake(own);
    pthread_mutex_unlock(&own->lock);
    stream_threads_join(own);
    io_uring_queue_exit(&uring->ring);
    close(uring->event);
    free(uring->part);
    free(uring);
    own->uring = NULL;
}

#else

#include <stdio.h>

bool stream_uring_create(struct stream_own *own, char *why, size_t why_bytes)
{
    (void)own;
    snprintf(why, why_bytes, "built without liburing");
    return false;
}

void stream_uring_wake(struct stream_own *own)
{
    (void)own;
}

void stream_uring_destroy(struct stream_own *own)
{
    (void)own;
}

#endif
