// SPDX-License-Identifier: MIT
// What threads do with records on their way: checksums, what is missing, copies between the ring
// and mapped slots; one that has nothing else to do takes the ends of the stream's requests. See
// experts_loader_own.h.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "runtime/checksum.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/os_file.h"
#include "src/experts_loader_own.h"

// ---- lists

static void append(struct loader_jobs *jobs, struct loader_place *place)
{
    place->next = NULL;
    *(jobs->last ? &jobs->last->next : &jobs->first) = place;
    jobs->last = place;
}

static struct loader_place *take_first(struct loader_jobs *jobs)
{
    struct loader_place *place = jobs->first;
    jobs->first = place->next;
    if (!jobs->first) jobs->last = NULL;
    return place;
}

bool loader_unlist(struct loader_jobs *jobs, struct loader_place *place)
{
    struct loader_jobs others = {0};
    bool found = false;
    while (jobs->first) {
        struct loader_place *first = take_first(jobs);
        if (first == place) found = true;
        else append(&others, first);
    }
    *jobs = others;
    return found;
}

void loader_give_job(struct experts_loader *l, struct loader_place *place)
{
    append(place->speculative ? &l->speculative : &l->needed, place);
    pthread_cond_signal(&l->work);
}

void loader_done(struct experts_loader *l, struct loader_place *place)
{
    place->done = true;
    place->done_ns = os_time_ns();
    pthread_cond_broadcast(&l->changed);
}

bool loader_fail(struct experts_loader *l)
{
    const bool first = !l->failed;
    l->failed = true;
    for (uint32_t i = 0; first && i < l->places; i++)
        if (l->ring[i].ticket) stream_cancel(l->stream, l->ring[i].ticket);
    pthread_cond_broadcast(&l->changed);
    return first;
}

bool loader_submit(struct experts_loader *l, struct loader_place *place, bool write)
{
    struct stream_request request = {.offset = place->place.offset,
                                     .user = (uint64_t)(place - l->ring)};
    if (write) {
        request.kind = STREAM_WRITE;
        request.fd = place->place.fd;
        request.bytes = store_record_bytes(l->params.source->store);
        request.memory = place->memory;
    } else {
        request.kind = place->speculative ? STREAM_SPECULATIVE : STREAM_NEEDED;
        request.fd = place->fd;
        request.offset += place->begin;
        request.bytes = place->end - place->begin;
        request.piece = place->to, request.pieces = place->to_count;
        place->fd = -1; // nobody else reads it
    }
    place->ticket = l->failed ? 0 : stream_submit(l->stream, &request);
    l->streaming += place->ticket != 0;
    if (!place->ticket) loader_fail(l);
    if (!l->led) pthread_cond_signal(&l->work);
    return place->ticket != 0;
}

// ---- a record that comes

static bool add_piece(struct loader_place *p, void *memory, uint64_t bytes, uint64_t unit)
{
    if (!bytes) return true;
    if (p->to_count == STREAM_PIECES || ((uintptr_t)memory | bytes) % unit) return false;
    p->to[p->to_count++] = (struct iovec){memory, bytes};
    return true;
}

bool loader_straight(struct loader_place *p, uint64_t begin, uint64_t end, uint64_t unit)
{
    bool ok = true;
    p->to_count = 0;
    for (uint32_t i = 0; ok && i < p->pieces; i++) { // in the record's order
        const struct loader_piece *piece = &p->piece[i];
        if (piece->is_steps || piece->in_record < begin || piece->in_record >= end) continue;
        ok = add_piece(p, p->memory + begin, piece->in_record - begin, unit) &&
             add_piece(p, (uint8_t *)piece->buffer->data + piece->offset, piece->bytes, unit);
        begin = piece->in_record + piece->bytes;
    }
    return ok && add_piece(p, p->memory + begin, end - begin, unit);
}

static bool give_up(struct experts_loader *l)
{
    pthread_mutex_lock(&l->lock);
    const bool first = loader_fail(l);
    pthread_mutex_unlock(&l->lock);
    return first;
}

// What *other holds has left its slot, which is free for others.
static bool wait_copied(struct experts_loader *l, struct loader_place *const *other)
{
    pthread_mutex_lock(&l->lock);
    while (*other && !(*other)->copied && !l->failed) pthread_cond_wait(&l->changed, &l->lock);
    const bool ok = !l->failed;
    pthread_mutex_unlock(&l->lock);
    return ok;
}

// By whoever has the job; false after one line.
static bool read_record(struct experts_loader *l, struct loader_place *p)
{
    struct iovec to[STREAM_PIECES];
    const uint64_t offset = p->place.offset + p->begin;
    memcpy(to, p->to, p->to_count * sizeof *to);
    const bool ok = os_file_read_pieces(l->params.file, p->fd, to, p->to_count, offset, NULL);
    const char *reason = ok ? NULL : os_file_reason(errno);
    p->fd = -1;
    if (!ok && give_up(l))
        log_error("segment %u of the experts: cannot read %llu bytes at %llu: %s",
                  p->place.segment, (unsigned long long)(p->end - p->begin),
                  (unsigned long long)offset, reason);
    return ok;
}

// Bytes [begin, begin + bytes) of the record, as far as one piece goes.
static struct iovec piece_at(const struct loader_place *p, uint64_t begin, uint64_t bytes)
{
    const struct iovec *to = p->to;
    uint64_t at = begin - p->begin;
    for (; at >= to->iov_len; to++) at -= to->iov_len;
    return (struct iovec){(uint8_t *)to->iov_base + at, min_u64(bytes, to->iov_len - at)};
}

// The checksum of a part, wherever its pieces are.
static uint64_t part_checksum(const struct loader_place *p, uint64_t begin, uint64_t bytes)
{
    struct checksum sum = checksum_begin();
    struct iovec piece = piece_at(p, begin, bytes);
    for (; piece.iov_len < bytes; piece = piece_at(p, begin, bytes)) {
        checksum_add(&sum, piece.iov_base, piece.iov_len);
        begin += piece.iov_len;
        bytes -= piece.iov_len;
    }
    return checksum_end(&sum, piece.iov_base, piece.iov_len);
}

// Says what is wrong with it.
static void tell_damage(const struct experts_loader *l, struct loader_place *p, uint32_t part)
{
    const struct store *store = l->params.source->store;
    const uint64_t begin = store_part_offset(store, part),
                   end = begin + store_part_bytes(store, part);
    for (uint64_t at = begin; p->straight && at < end;) {
        const struct iovec piece = piece_at(p, at, end - at);
        memmove(p->memory + at, piece.iov_base, piece.iov_len);
        at += piece.iov_len;
    }
    store_verify(store, &p->place, part, p->memory + begin);
}

static bool complete_stored(struct experts_loader *l, struct loader_place *p)
{
    const struct store *store = l->params.source->store;
    for (uint32_t part = 0; part < STORE_PARTS; part++) {
        if (!(p->held >> part & 1)) continue;
        if (part_checksum(p, store_part_offset(store, part), store_part_bytes(store, part)) ==
            p->place.sum[part])
            continue;
        if (give_up(l)) tell_damage(l, p, part);
        return false;
    }
    if (p->straight) return true; // it has all parts
    const uint32_t made = l->params.whole ? 0 : 1u << RECORD_STATE; // not asked for
    if (p->held) experts_record_complete(l->params.record, p->key, p->held | made, p->memory);
    else experts_record_initial(l->params.record, p->key, p->memory);
    return true;
}

void loader_copy_in(const struct experts_loader *l, const struct loader_place *p,
                    const uint8_t *record)
{
    for (uint32_t i = 0; i < p->pieces; i++) {
        const struct loader_piece *piece = &p->piece[i];
        if (piece->is_steps) continue;
        uint8_t *to = l->mapped ? (uint8_t *)piece->buffer->data + piece->offset
                                : (uint8_t *)l->buffer->data + p->at + piece->in_record;
        memcpy(to, record + piece->in_record, piece->bytes);
    }
}

bool loader_bring(struct experts_loader *l, struct loader_place *p)
{
    const struct experts_source *source = l->params.source;
    if (!wait_copied(l, &p->from) || (p->fd >= 0 && !read_record(l, p))) return false;
    if (!p->from && source->store && !complete_stored(l, p)) return false;
    if (!p->from && !source->store &&
        !source->read(source->user, l->params.record, p->key, l->params.whole, p->memory)) {
        give_up(l);
        return false;
    }
    if (p->straight || (!l->mapped && l->imported)) return true;
    if (l->mapped && !wait_copied(l, &p->after)) return false;
    loader_copy_in(l, p, p->from ? p->from->memory : p->memory);
    return true;
}

// ---- a record that goes

static void copy_out(struct experts_loader *l, struct loader_place *p)
{
    uint32_t steps = 0;
    for (uint32_t i = 0; i < p->pieces; i++) {
        const struct loader_piece *piece = &p->piece[i];
        const uint64_t at = piece->is_steps ? l->params.record->bytes : piece->in_record;
        const uint8_t *from = l->mapped     ? (uint8_t *)piece->buffer->data + piece->offset
                              : l->imported ? p->memory + at
                                            : (uint8_t *)l->buffer->data + p->at + at;
        if (piece->is_steps) memcpy(&steps, from, sizeof steps);
        else if (from != p->memory + at) memcpy(p->memory + at, from, piece->bytes);
    }
    experts_record_set_steps(l->params.record, p->memory, steps);
    pthread_mutex_lock(&l->lock);
    p->copied = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static bool write_stored(struct experts_loader *l, struct loader_place *p)
{
    const struct store *store = l->params.source->store;
    for (uint32_t part = 0; part < store_part_count(store); part++)
        if (p->place.parts >> part & 1)
            p->place.sum[part] = store_checksum(p->memory + store_part_offset(store, part),
                                                store_part_bytes(store, part));
    pthread_mutex_lock(&l->lock);
    const bool ok = loader_submit(l, p, true);
    pthread_mutex_unlock(&l->lock);
    return ok;
}

bool loader_send(struct experts_loader *l, struct loader_place *p)
{
    const struct experts_source *source = l->params.source;
    if (l->mapped || !l->imported) memset(p->memory, 0, l->params.record->bytes); // gaps
    copy_out(l, p);
    if (source->store) return write_stored(l, p);
    if (source->write(source->user, l->params.record, p->key, p->memory)) return true;
    give_up(l);
    return false;
}

// ---- threads

// With the lock held. A speculative record waits while needed ones want threads.
static struct loader_place *next_job(struct experts_loader *l)
{
    if (l->needed.first) return take_first(&l->needed);
    const bool may = !l->needed_running && l->speculative_running < (l->threads + 1) / 2;
    return may && l->speculative.first ? take_first(&l->speculative) : NULL;
}

// With the lock held, which is let go of meanwhile.
static void do_job(struct experts_loader *l, struct loader_place *p)
{
    uint32_t *running = p->speculative ? &l->speculative_running : &l->needed_running;
    const bool skip = l->failed || p->dropped, out = p->out;
    ++*running;
    pthread_mutex_unlock(&l->lock);
    const bool ok = !skip && (out ? loader_send : loader_bring)(l, p);
    pthread_mutex_lock(&l->lock);
    --*running;
    // what is written next is the stream's, or even others' by now
    if (!ok || !out || !l->params.source->store) loader_done(l, p);
    if (l->speculative.first) pthread_cond_signal(&l->work); // it may have waited for this one
}

bool loader_help(struct experts_loader *l)
{
    if (!l->needed.first) return false;
    do_job(l, take_first(&l->needed));
    return true;
}

// The end of a request of the stream: a record that was read has a thread's turn next.
static void take_end(struct experts_loader *l, const struct stream_done *done)
{
    struct loader_place *p = &l->ring[done->user];
    l->streaming--;
    p->ticket = 0;
    if (!done->ok && !p->dropped) loader_fail(l);
    if (done->ok && !p->out && !p->dropped) loader_give_job(l, p);
    else loader_done(l, p);
}

// With the lock held, which is let go of meanwhile. Who has an end does what comes next itself; the
// next end is another thread's.
static void lead(struct experts_loader *l)
{
    struct stream_done done;
    l->led = true;
    pthread_mutex_unlock(&l->lock);
    const bool found = stream_next(l->stream, &done);
    pthread_mutex_lock(&l->lock);
    l->led = false;
    if (found) take_end(l, &done);
    if (l->streaming) pthread_cond_signal(&l->work);
    else pthread_cond_broadcast(&l->work);
}

static void *run_jobs(void *loader)
{
    struct experts_loader *l = loader;
    pthread_mutex_lock(&l->lock);
    while (!l->ending || l->streaming) {
        struct loader_place *p = next_job(l);
        if (p) do_job(l, p);
        else if (l->streaming && !l->led) lead(l);
        else pthread_cond_wait(&l->work, &l->lock);
    }
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

// ---- start, stop

bool loader_start(struct experts_loader *l)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const uint32_t wanted = cores > LOADER_THREADS ? LOADER_THREADS
                                                           : cores < 2 ? 2 : (uint32_t)cores;
    sigset_t all, before;
    int error = 0;
    sigfillset(&all); // signals are the main thread's
    pthread_mutex_lock(&l->lock);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (uint32_t i = 0; i < wanted && !error; i++) {
        pthread_t thread;
        error = pthread_create(&thread, NULL, run_jobs, l);
        if (!error) l->thread[l->threads++] = thread;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_unlock(&l->lock);
    if (error)
        log_error("experts: no thread can be started to load them: %s; end other programs",
                  strerror(error));
    return !error;
}

void loader_stop(struct experts_loader *l)
{
    pthread_mutex_lock(&l->lock);
    loader_fail(l);
    l->ending = true;
    pthread_cond_broadcast(&l->work);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (uint32_t i = 0; i < l->threads; i++) pthread_join(l->thread[i], NULL);
}
