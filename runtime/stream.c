// SPDX-License-Identifier: MIT
// The stream's requests: see stream.h. A request goes from held or waiting over running to ended;
// workers (stream_threads.c, stream_uring.c) take its parts in the order of kinds.
#include "runtime/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/stream_queue.h"

enum { THREADS_MOST = 16 };

const char *stream_backend_name(enum stream_backend backend)
{
    switch (backend) {
    case STREAM_URING:    return "io_uring";
    case STREAM_THREADS:  return "threads";
    case STREAM_PLAIN:    return "plain";
    case STREAM_BACKENDS: break;
    }
    return "?";
}

// ---- lists

static void list_append(struct stream_list *list, struct stream_item *item)
{
    item->next = NULL;
    item->before = list->last;
    *(list->last ? &list->last->next : &list->first) = item;
    list->last = item;
}

static void list_prepend(struct stream_list *list, struct stream_item *item)
{
    item->before = NULL;
    item->next = list->first;
    *(list->first ? &list->first->before : &list->last) = item;
    list->first = item;
}

static void list_remove(struct stream_list *list, struct stream_item *item)
{
    *(item->before ? &item->before->next : &list->first) = item->next;
    *(item->next ? &item->next->before : &list->last) = item->before;
}

static struct stream_list *list_of(struct stream_own *own, const struct stream_item *item)
{
    return item->state == STREAM_HELD ? &own->held : &own->queue[item->kind];
}

// ---- items and their slots

static struct stream_item *item_of(struct stream_own *own, uint64_t ticket)
{
    const uint64_t slot = ticket % STREAM_SLOTS;
    struct stream_item *item = slot < own->slots ? own->slot[slot] : NULL;
    return item && item->ticket == ticket ? item : NULL;
}

// A free slot; NULL where a million requests are under way.
static struct stream_item *item_new(struct stream_own *own)
{
    uint32_t slot = (uint32_t)(own->serial % (own->slots ? own->slots : 1));
    for (uint32_t tries = 0; tries < own->slots && own->slot[slot]; tries++)
        slot = slot + 1 < own->slots ? slot + 1 : 0;
    if (!own->slots || own->slot[slot]) {
        const size_t size = sizeof *own->slot, grown = own->slots ? 2 * own->slots : 256;
        if (grown > STREAM_SLOTS)
            return NULL;
        slot = own->slots;
        own->slot = os_grow(own->slot, own->slots * size, grown * size);
        own->slots = (uint32_t)grown;
    }
    struct stream_item *item = os_alloc(sizeof *item);
    item->ticket = ++own->serial * STREAM_SLOTS + slot;
    own->slot[slot] = item;
    own->outstanding++;
    return item;
}

static void item_free(struct stream_own *own, struct stream_item *item)
{
    own->slot[item->ticket % STREAM_SLOTS] = NULL;
    own->outstanding--;
    free(item);
}

static bool conflict(const struct stream_item *a, const struct stream_item *b)
{
    const struct stream_request *x = &a->request, *y = &b->request;
    return (x->kind == STREAM_WRITE || y->kind == STREAM_WRITE) && a->device == b->device &&
           a->inode == b->inode && x->offset < y->offset + y->bytes &&
           y->offset < x->offset + x->bytes;
}

// Whether one that was submitted before, overlaps and has not ended stands in its way.
static bool must_wait(const struct stream_item *item)
{
    for (const struct stream_item *other = item->older; other; other = other->older)
        if (conflict(item, other))
            return true;
    return false;
}

static void wake(struct stream_own *own)
{
    if (own->uring)
        stream_uring_wake(own);
    else
        pthread_cond_broadcast(&own->work);
}

static void enqueue(struct stream_own *own, struct stream_item *item)
{
    item->state = must_wait(item) ? STREAM_HELD : STREAM_WAITING;
    list_append(list_of(own, item), item);
}

// Held requests that nothing stands in the way of any more.
static void release_held(struct stream_own *own)
{
    for (struct stream_item *item = own->held.first, *next; item; item = next) {
        next = item->next;
        if (must_wait(item))
            continue;
        list_remove(&own->held, item);
        item->state = STREAM_WAITING;
        list_append(&own->queue[item->kind], item);
    }
}

// Nothing of it is under way, and nothing more begins.
static void item_end(struct stream_own *own, struct stream_item *item)
{
    *(item->older ? &item->older->younger : &own->oldest) = item->younger;
    *(item->younger ? &item->younger->older : &own->youngest) = item->older;
    item->state = STREAM_ENDED;
    list_append(&own->ends, item);
    own->stats.requests[item->request.kind]++;
    own->stats.bytes[item->request.kind] += item->moved;
    own->stats.failed += item->error && item->error != ECANCELED;
    own->stats.cancelled += item->error == ECANCELED;
    if (own->held.first)
        release_held(own);
    pthread_cond_broadcast(&own->ended);
    wake(own); // what was held, or speculative
}

// ---- parts

static uint32_t parts_running(const struct stream_own *own)
{
    return own->running[STREAM_NEEDED] + own->running[STREAM_WRITE] +
           own->running[STREAM_SPECULATIVE];
}

// The queue whose turn it is, NULL where nothing may begin.
static struct stream_list *queue_next(struct stream_own *own)
{
    if (parts_running(own) >= own->stream.params.depth)
        return NULL;
    if (own->queue[STREAM_NEEDED].first)
        return &own->queue[STREAM_NEEDED];
    if (own->queue[STREAM_WRITE].first)
        return &own->queue[STREAM_WRITE];
    if (own->queue[STREAM_SPECULATIVE].first && !own->running[STREAM_NEEDED] &&
        own->running[STREAM_SPECULATIVE] < STREAM_SPECULATIVE_PARTS)
        return &own->queue[STREAM_SPECULATIVE];
    return NULL;
}

// The memory of `bytes` of a request, from `begin` on.
static void part_pieces(const struct stream_request *r, size_t begin, size_t bytes,
                        struct stream_part *out)
{
    const struct iovec whole = {r->memory, r->bytes}, *piece = r->memory ? &whole : r->piece;
    for (out->pieces = 0; bytes; piece++) {
        if (begin >= piece->iov_len) {
            begin -= piece->iov_len;
            continue;
        }
        const size_t rest = piece->iov_len - begin, own = rest < bytes ? rest : bytes;
        out->piece[out->pieces++] = (struct iovec){(uint8_t *)piece->iov_base + begin, own};
        bytes -= own;
        begin = 0;
    }
}

bool stream_take(struct stream_own *own, struct stream_part *out)
{
    struct stream_list *queue = queue_next(own);
    if (!queue)
        return false;
    struct stream_item          *item = queue->first;
    const struct stream_request *request = &item->request;
    const size_t rest = request->bytes - item->taken, most = own->stream.params.part_bytes;
    out->item = item;
    out->offset = request->offset + item->taken;
    out->bytes = rest < most ? rest : most;
    out->done = 0;
    out->used = 0;
    out->error = 0;
    part_pieces(request, item->taken, out->bytes, out);
    item->taken += out->bytes;
    item->running++;
    if (item->taken == request->bytes) {
        list_remove(queue, item);
        item->state = STREAM_RUNNING;
    }
    if (!parts_running(own))
        own->busy_since = os_time_ns();
    own->running[item->kind]++;
    return true;
}

void stream_give(struct stream_own *own, const struct stream_part *part)
{
    struct stream_item *item = part->item;
    own->running[item->kind]--;
    item->running--;
    item->moved += part->done;
    if (!parts_running(own))
        own->stats.busy_s += 1e-9 * (double)(os_time_ns() - own->busy_since);
    if (part->error && !item->error) {
        item->error = part->error;
        item->error_at = part->offset + part->done;
    }
    if (item->error && item->state == STREAM_WAITING) { // the rest is not begun
        list_remove(list_of(own, item), item);
        item->state = STREAM_RUNNING;
    }
    if (item->state == STREAM_RUNNING && !item->running)
        item_end(own, item);
    else
        wake(own);
}

// The plain backend: all that may begin, here and now.
static void run_plain(struct stream_own *own)
{
    struct stream_part part;
    while (stream_take(own, &part)) {
        const struct stream_request *r = &part.item->request;
        stream_do_part(own->file, r->kind == STREAM_WRITE, r->fd, &part);
        stream_give(own, &part);
    }
}

// ---- create, destroy

static bool backend_start(struct stream_own *own)
{
    struct stream_params *params = &own->stream.params;
    char                  why[128] = "";
    if (params->backend == STREAM_URING) {
        if (params->file)
            snprintf(why, sizeof why, "the calls on files are not the system's");
        else if (stream_uring_create(own, why, sizeof why))
            return true;
        log_info("stream: no io_uring (%s): threads instead", why);
        params->backend = STREAM_THREADS;
        own->ending = false; // the ring's, where it was its thread that did not start
    }
    const uint32_t threads = params->depth < THREADS_MOST ? params->depth : THREADS_MOST;
    return params->backend == STREAM_PLAIN ||
           stream_threads_start(own, threads, stream_threads_run);
}

struct stream *stream_create(const struct stream_params *params)
{
    struct stream_own    *own = os_alloc(sizeof *own);
    struct stream_params *kept = &own->stream.params;
    struct stream        *stream = &own->stream;
    *kept = *params;
    kept->depth = kept->depth ? kept->depth : STREAM_DEPTH;
    kept->part_bytes = kept->part_bytes ? kept->part_bytes : STREAM_PART_BYTES;
    own->file = os_file_or_system(params->file);
    pthread_mutex_init(&own->lock, NULL);
    pthread_cond_init(&own->work, NULL);
    pthread_cond_init(&own->ended, NULL);
    if (kept->part_bytes % OS_FILE_ALIGNMENT == 0 && backend_start(own))
        return stream;
    if (kept->part_bytes % OS_FILE_ALIGNMENT)
        log_error("stream: parts of %u bytes; a multiple of %d is wanted", kept->part_bytes,
                  OS_FILE_ALIGNMENT);
    stream_destroy(&stream);
    return NULL;
}

// Drops what no worker has begun; with the lock held.
static bool drop(struct stream_own *own, struct stream_item *item)
{
    if (item->state != STREAM_HELD && item->state != STREAM_WAITING)
        return false;
    list_remove(list_of(own, item), item);
    item->state = STREAM_RUNNING;
    item->error = item->error ? item->error : ECANCELED;
    if (!item->running)
        item_end(own, item);
    return true;
}

static void drop_all(struct stream_own *own)
{
    uint64_t writes = 0;
    for (struct stream_item *item = own->oldest, *next; item; item = next) {
        next = item->younger;
        const bool write = item->request.kind == STREAM_WRITE;
        writes += drop(own, item) && write;
    }
    if (writes)
        log_error("stream: ends with %" PRIu64 " writes that were not made; wait for them first",
                  writes);
}

void stream_destroy(struct stream **stream)
{
    if (!*stream)
        return;
    struct stream_own *own = stream_own(*stream);
    struct stream_done done;
    pthread_mutex_lock(&own->lock);
    drop_all(own);
    pthread_mutex_unlock(&own->lock);
    while (stream_next(*stream, &done)) // what is under way uses the caller's memory
        continue;
    if (own->uring)
        stream_uring_destroy(own);
    else if (own->thread)
        stream_threads_join(own);
    pthread_mutex_destroy(&own->lock);
    pthread_cond_destroy(&own->work);
    pthread_cond_destroy(&own->ended);
    free(own->slot);
    free(own);
    *stream = NULL;
}

// ---- submit

// Whether all pieces are what direct access wants; false with *bytes where they are no memory for
// the request.
static bool pieces_check(const struct stream_request *r, uint64_t *misaligned)
{
    uint64_t bytes = 0;
    if (r->memory) *misaligned |= (uint64_t)(uintptr_t)r->memory;
    if (r->memory) return true;
    for (uint32_t i = 0; i < r->pieces; i++) {
        *misaligned |= (uint64_t)(uintptr_t)r->piece[i].iov_base | r->piece[i].iov_len;
        bytes += r->piece[i].iov_len;
    }
    return r->kind != STREAM_WRITE && r->pieces <= STREAM_PIECES && bytes == r->bytes;
}

static bool request_check(const struct stream_request *r)
{
    uint64_t misaligned = r->offset | r->bytes;
    if (!pieces_check(r, &misaligned)) {
        log_error("stream: %u pieces of memory for a request of %zu bytes; wanted a read, as many "
                  "bytes, at most %d pieces", r->pieces, r->bytes, STREAM_PIECES);
        return false;
    }
    misaligned %= OS_FILE_ALIGNMENT;
    if (!r->bytes || r->bytes > INT64_MAX || r->offset > INT64_MAX - r->bytes) {
        log_error("stream: a request of %zu bytes at %" PRIu64, r->bytes, r->offset);
        return false;
    }
    const int flags = misaligned ? fcntl(r->fd, F_GETFL) : 0;
    if (flags < 0 || !(flags & O_DIRECT))
        return true; // a bad descriptor fails as a request
    log_error("stream: direct access to %zu bytes at %" PRIu64
              " with memory at %p; each must be a multiple of %d",
              r->bytes, r->offset, r->memory, OS_FILE_ALIGNMENT);
    return false;
}

uint64_t stream_submit(struct stream *stream, const struct stream_request *request)
{
    struct stream_own *own = stream_own(stream);
    struct stat        info = {0};
    if (!request_check(request))
        return 0;
    fstat(request->fd, &info);
    pthread_mutex_lock(&own->lock);
    struct stream_item *item = item_new(own);
    const uint64_t      ticket = item ? item->ticket : 0;
    if (item) {
        item->request = *request;
        item->kind = request->kind;
        item->device = info.st_dev;
        item->inode = info.st_ino;
        item->older = own->youngest;
        *(own->youngest ? &own->youngest->younger : &own->oldest) = item;
        own->youngest = item;
        enqueue(own, item);
        if (own->stream.params.backend == STREAM_PLAIN)
            run_plain(own);
        else
            wake(own);
    }
    pthread_mutex_unlock(&own->lock);
    if (!ticket)
        log_error("stream: %d requests wait to be taken; take them", STREAM_SLOTS);
    return ticket;
}

// Becomes needed, and the first of these or the last.
static void raise_one(struct stream_own *own, struct stream_item *item, bool first)
{
    if (item->state == STREAM_WAITING)
        list_remove(&own->queue[item->kind], item);
    own->running[item->kind] -= item->running;
    item->kind = STREAM_NEEDED;
    own->running[item->kind] += item->running;
    if (item->state == STREAM_WAITING)
        (first ? list_prepend : list_append)(&own->queue[item->kind], item);
}

static bool in_way(const struct stream_item *item, const struct stream_item *held)
{
    while (held && !conflict(held, item))
        held = held->chain;
    return held != NULL;
}

// The same for it and for all that it is held by, each once; with the lock held.
static void promote(struct stream_own *own, struct stream_item *item, bool first)
{
    struct stream_item *held = NULL; // of these, what waits for older ones
    if (item->state == STREAM_ENDED)
        return;
    for (struct stream_item *other = item; other; other = held ? other->older : NULL) {
        if (other != item && !in_way(other, held))
            continue;
        raise_one(own, other, first);
        if (other->state != STREAM_HELD)
            continue;
        other->chain = held;
        held = other;
    }
}

void stream_promote(struct stream *stream, uint64_t ticket)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    struct stream_item *item = item_of(own, ticket);
    if (item && item->kind != STREAM_NEEDED)
        promote(own, item, false);
    wake(own);
    pthread_mutex_unlock(&own->lock);
}

void stream_cancel(struct stream *stream, uint64_t ticket)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    struct stream_item *item = item_of(own, ticket);
    if (item) {
        item->cancelled = true;
        drop(own, item);
    }
    pthread_mutex_unlock(&own->lock);
}

bool stream_finished(struct stream *stream, uint64_t ticket)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    const struct stream_item *item = item_of(own, ticket);
    const bool finished = !item || item->state == STREAM_ENDED;
    pthread_mutex_unlock(&own->lock);
    return finished;
}

// ---- ends

static void log_failure(const struct stream_item *item)
{
    const struct stream_request *r = &item->request;
    char link[64], path[1024] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", r->fd);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        snprintf(path, sizeof path, "file descriptor %d", r->fd);
    log_error("%s: cannot %s %zu bytes at %" PRIu64 ": at %" PRIu64 ": %s", path,
              r->kind == STREAM_WRITE ? "write" : "read", r->bytes, r->offset, item->error_at,
              os_file_reason(item->error));
}

// Whether the failure of a write was logged already: a full disk fails all that was on its way
// there, and one line is enough. With the lock held.
static bool is_told(struct stream_own *own, const struct stream_item *item)
{
    const struct stream_request *r = &item->request;
    if (r->kind != STREAM_WRITE) return false;
    const bool told = own->told.error == item->error && own->told.fd == r->fd;
    own->told.error = item->error;
    own->told.fd = r->fd;
    return told;
}

// Takes the end: out of the list, told where it failed, gone. With the lock held, which is let go
// of while the line is logged.
static void take_end(struct stream_own *own, struct stream_item *item, struct stream_done *out)
{
    const struct stream_item kept = *item;
    list_remove(&own->ends, item);
    item_free(own, item);
    *out = (struct stream_done){.ticket = kept.ticket,
                                .user = kept.request.user,
                                .kind = kept.request.kind,
                                .bytes = kept.request.bytes,
                                .ok = !kept.error,
                                .error = kept.error};
    if (!kept.error || kept.error == ECANCELED || kept.cancelled || is_told(own, &kept))
        return;
    pthread_mutex_unlock(&own->lock);
    log_failure(&kept);
    pthread_mutex_lock(&own->lock);
}

bool stream_poll(struct stream *stream, struct stream_done *out)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    const bool found = own->ends.first != NULL;
    if (found)
        take_end(own, own->ends.first, out);
    pthread_mutex_unlock(&own->lock);
    return found;
}

bool stream_next(struct stream *stream, struct stream_done *out)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    const uint64_t began = own->ends.first ? 0 : os_time_ns();
    while (!own->ends.first && own->outstanding)
        pthread_cond_wait(&own->ended, &own->lock);
    if (began)
        own->stats.wait_s += 1e-9 * (double)(os_time_ns() - began);
    const bool found = own->ends.first != NULL;
    if (found)
        take_end(own, own->ends.first, out);
    pthread_mutex_unlock(&own->lock);
    return found;
}

bool stream_wait(struct stream *stream, uint64_t ticket)
{
    struct stream_own *own = stream_own(stream);
    struct stream_done done = {0};
    pthread_mutex_lock(&own->lock);
    struct stream_item *item = item_of(own, ticket);
    const uint64_t      began = item && item->state != STREAM_ENDED ? os_time_ns() : 0;
    if (began) {
        promote(own, item, true);
        wake(own);
    }
    while (item && item->state != STREAM_ENDED) {
        pthread_cond_wait(&own->ended, &own->lock);
        item = item_of(own, ticket); // another thread may have taken its end
    }
    if (began)
        own->stats.wait_s += 1e-9 * (double)(os_time_ns() - began);
    if (item)
        take_end(own, item, &done);
    pthread_mutex_unlock(&own->lock);
    return done.ok;
}

bool stream_wait_all(struct stream *stream)
{
    struct stream_done done;
    bool               ok = true;
    while (stream_next(stream, &done))
        ok &= done.ok;
    return ok;
}

struct stream_stats stream_stats(struct stream *stream)
{
    struct stream_own *own = stream_own(stream);
    pthread_mutex_lock(&own->lock);
    struct stream_stats stats = own->stats;
    if (parts_running(own))
        stats.busy_s += 1e-9 * (double)(os_time_ns() - own->busy_since);
    pthread_mutex_unlock(&own->lock);
    return stats;
}
