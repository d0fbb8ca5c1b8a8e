// SPDX-License-Identifier: MIT
// Records of experts on their way, the caller's side: see experts_loader.h. Who has which place of
// the ring, what the threads have brought forward, and all that touches the store and the device.
#include "src/experts_loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/os.h"
#include "src/experts_loader_own.h"

enum { COPY_LOOK_US = 100 }; // how long one does not look whether the device has copied

// ---- creation

// Where slots are not mapped, the device copies between them and a buffer: the ring's own pages
// where it takes them, else threads copy once more.
static bool make_buffer(struct experts_loader *l)
{
    struct gpu *gpu = l->params.gpu;
    const uint64_t bytes = l->places * l->place_bytes;
    l->imported = gpu->caps.mask & GPU_CAP_HOSTMEM && bytes % gpu->caps.import_alignment == 0;
    if (l->imported) l->buffer = gpu_buffer_import(gpu, "experts on their way", l->memory, bytes);
    else
        l->buffer = gpu_buffer_create(gpu, &(struct gpu_buffer_params){
            .name = "experts on their way", .bytes = bytes,
            .memory = l->params.whole ? GPU_MEMORY_READBACK : GPU_MEMORY_UPLOAD});
    return l->buffer != NULL;
}

static bool make_ring(struct experts_loader *l)
{
    struct loader_piece piece[LOADER_PIECES];
    l->params.pieces(l->params.user, 0, 0, piece);
    l->mapped = piece[0].buffer->data != NULL;
    l->place_bytes = l->params.record->bytes + STORE_ALIGN; // and a count of steps
    l->places = (uint32_t)min_u64(LOADER_RING, LOADER_RING_BYTES / l->place_bytes);
    l->places = max_u32(l->places, 2);
    const uint64_t step = l->mapped ? 1 : l->params.gpu->caps.import_alignment / STORE_ALIGN;
    if (step > 1) l->places = (uint32_t)align_up(l->places, step); // powers of two
    l->places = min_u32(l->places, LOADER_RING);
    l->memory = os_pages(l->places * l->place_bytes);
    for (uint32_t i = 0; l->memory && i < l->places; i++) {
        l->ring[i].memory = l->memory + i * l->place_bytes;
        l->ring[i].at = i * l->place_bytes;
    }
    return l->memory && (l->mapped || make_buffer(l));
}

struct experts_loader *experts_loader_create(const struct experts_loader_params *params)
{
    struct experts_loader *l = os_alloc(sizeof *l);
    l->params = *params;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->changed, NULL);
    experts_loader_resize(l, params->slots);
    const bool threads = params->source->store || params->source->threads;
    if (!make_ring(l) || !loader_choose_way(l) || !loader_measure_copies(l) ||
        (threads && !loader_start(l)))
        experts_loader_destroy(&l);
    return l;
}

void experts_loader_resize(struct experts_loader *l, uint32_t slots)
{
    free(l->queue), free(l->busy), free(l->copy);
    l->params.slots = slots;
    l->queue = os_alloc(slots * sizeof *l->queue);
    l->busy = os_alloc(slots * sizeof *l->busy);
    l->copy = os_alloc(slots * sizeof *l->copy);
}

void experts_loader_destroy(struct experts_loader **loader)
{
    struct experts_loader *l = *loader;
    if (!l) return;
    loader_stop(l);
    stream_destroy(&l->stream);
    for (uint32_t i = 0; i < l->places; i++) // the device may be at it
        if (l->ring[i].copy) gpu_copy_wait(l->params.gpu, l->ring[i].copy);
    gpu_buffer_destroy(l->params.gpu, &l->buffer);
    os_pages_free(l->memory, l->places * l->place_bytes);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->changed);
    free(l->queue), free(l->busy), free(l->copy);
    free(l);
    *loader = NULL;
}

bool experts_loader_holds(const struct experts_loader *l, uint32_t key)
{
    for (uint32_t i = 0; i < l->places; i++) {
        const enum loader_state state = l->ring[i].state;
        if (l->ring[i].key == key && (state == LOADER_LEAVING || state == LOADER_STORING ||
                                      state == LOADER_KEPT))
            return true;
    }
    return false;
}

struct experts_peaks experts_loader_peaks(const struct experts_loader *l)
{
    return l->peaks;
}

struct loader_stats experts_loader_stats(const struct experts_loader *l)
{
    return l->stats;
}

// ---- places

static struct loader_place *free_place(struct experts_loader *l)
{
    for (uint32_t i = 0; i < l->places; i++)
        if (l->ring[i].state == LOADER_FREE) return &l->ring[i];
    return NULL;
}

// The record of the key that is on its way back.
static struct loader_place *find_out(struct experts_loader *l, uint32_t key)
{
    for (uint32_t i = 0; i < l->places; i++)
        if (l->ring[i].state != LOADER_FREE && l->ring[i].out && l->ring[i].key == key)
            return &l->ring[i];
    return NULL;
}

static struct loader_place *find_load(struct experts_loader *l, uint32_t slot)
{
    for (uint32_t i = 0; i < l->places; i++)
        if (l->ring[i].state == LOADER_READING && l->ring[i].slot == slot) return &l->ring[i];
    return NULL;
}

static void take_place(struct experts_loader *l, struct loader_place *p, uint32_t key,
                       uint32_t slot, bool out, bool speculative)
{
    p->key = key, p->slot = slot;
    p->held = p->users = 0;
    p->copy = 0;
    p->pieces = l->params.pieces(l->params.user, slot, key, p->piece);
    pthread_mutex_lock(&l->lock);
    p->speculative = speculative;
    p->out = out;
    p->dropped = p->copied = p->done = false;
    p->ticket = 0;
    p->after = p->from = NULL;
    pthread_mutex_unlock(&l->lock);
}

static void free_place_of(struct experts_loader *l, struct loader_place *p)
{
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < l->places; i++)
        if (l->ring[i].after == p) l->ring[i].after = NULL;
    p->state = LOADER_FREE;
    pthread_mutex_unlock(&l->lock);
}

// A load ends: nobody reads what it was served from any more.
static void free_load(struct experts_loader *l, struct loader_place *p)
{
    struct loader_place *from = p->from;
    free_place_of(l, p);
    if (from && --from->users == 0 && from->state == LOADER_KEPT) free_place_of(l, from);
}

// ---- loads

static void arrive(struct experts_loader *l, const struct loader_place *p, uint64_t now)
{
    l->busy[p->slot] = false;
    l->last_ns = now > l->last_ns ? now : l->last_ns;
    if (--l->loads == 0) l->stats.seconds += 1e-9 * (double)(l->last_ns - l->since_ns);
    if (p->dropped) return;
    l->stats.loaded++;
    l->stats.straight += p->straight;
    l->stats.bytes += l->params.whole ? l->params.record->bytes : l->params.record->weights_bytes;
}

bool loader_copy_to_slot(struct experts_loader *l, struct loader_place *p)
{
    struct gpu_copy copies[LOADER_PIECES];
    const uint64_t record = p->from ? p->from->at : p->at;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->pieces; i++) {
        const struct loader_piece *piece = &p->piece[i];
        if (piece->is_steps) continue;
        copies[count++] = (struct gpu_copy){
            .from = {l->buffer, record + piece->in_record, piece->bytes},
            .to = {piece->buffer, piece->offset, piece->bytes}};
    }
    p->copy = l->copy[p->slot] = gpu_copy(l->params.gpu, copies, count, 0);
    p->state = LOADER_COPYING;
    return p->copy != 0;
}

// Its record is in the ring, and in the slot where that is mapped.
static bool come(struct experts_loader *l, struct loader_place *p, uint64_t now)
{
    const bool copies = !l->mapped && !p->dropped;
    if (copies && !loader_copy_to_slot(l, p)) return false;
    arrive(l, p, now);
    if (!copies) free_load(l, p);
    return true;
}

// What of the record is read, from where, and whether straight into the slot: not where that still
// has another record, or parts have to be made first.
static void find_stored(struct experts_loader *l, struct loader_place *p)
{
    struct store *store = l->params.source->store;
    const uint32_t wanted = l->params.whole ? 1u << RECORD_WEIGHTS | 1u << RECORD_STATE
                                            : 1u << RECORD_WEIGHTS;
    p->begin = UINT64_MAX, p->end = 0;
    p->held = store_find(store, p->key, &p->place) ? p->place.parts & wanted : 0;
    for (uint32_t part = 0; part < STORE_PARTS; part++) {
        if (!(p->held >> part & 1)) continue;
        p->begin = min_u64(p->begin, store_part_offset(store, part));
        p->end = align_up(store_part_offset(store, part) + store_part_bytes(store, part),
                          STORE_ALIGN);
    }
    const int direct = p->held && l->direct ? store_fd_direct(store, &p->place) : -1;
    p->fd = direct >= 0 ? direct : p->held ? p->place.fd : -1;
    p->straight = l->straight && p->held == wanted && !p->after &&
                  loader_straight(p, p->begin, p->end, l->straight_unit);
    if (p->straight) return;
    p->to[0] = (struct iovec){p->memory + p->begin, p->end - p->begin};
    p->to_count = 1;
}

// Past the page cache the stream reads, else the thread that has the job, or the caller.
static bool read_stored(struct experts_loader *l, struct loader_place *p, bool here)
{
    find_stored(l, p);
    const bool streamed = p->fd >= 0 && l->direct;
    if (here && p->fd >= 0 && (!streamed || p->end - p->begin <= STREAM_PART_BYTES))
        return loader_bring(l, p) && come(l, p, os_time_ns());
    pthread_mutex_lock(&l->lock);
    bool ok = true;
    if (streamed) ok = loader_submit(l, p, false);
    else loader_give_job(l, p);
    pthread_mutex_unlock(&l->lock);
    return ok;
}

static bool begin_load(struct experts_loader *l, const struct loader_request *request,
                       struct loader_place *p)
{
    struct loader_place *from = find_out(l, request->key);
    take_place(l, p, request->key, request->slot, false, request->kind == LOADER_SPECULATIVE);
    p->state = LOADER_READING;
    p->fd = -1;
    p->straight = false;
    if (from) p->from = from, from->users++;
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < l->places; i++) {
        struct loader_place *other = &l->ring[i];
        const bool leaves = other->state == LOADER_STORING && other->slot == p->slot;
        if (leaves && !other->copied) p->after = other;
    }
    if (from && l->mapped) loader_give_job(l, p);
    pthread_mutex_unlock(&l->lock);
    if (from) return l->mapped || come(l, p, os_time_ns()); // the device copies in order
    if (l->params.source->store) return read_stored(l, p, request->kind == LOADER_HERE);
    if (!l->params.source->threads)
        return loader_bring(l, p) && come(l, p, os_time_ns());
    pthread_mutex_lock(&l->lock);
    loader_give_job(l, p);
    pthread_mutex_unlock(&l->lock);
    return true;
}

static bool begin_queued(struct experts_loader *l)
{
    struct loader_place *p;
    bool ok = true;
    while (ok && l->queued && (p = free_place(l))) {
        const struct loader_request request = l->queue[0];
        memmove(l->queue, l->queue + 1, --l->queued * sizeof *l->queue);
        ok = begin_load(l, &request, p);
    }
    return ok;
}

// ---- records that go back

static bool written(struct experts_loader *l, struct loader_place *p)
{
    if (l->params.source->store) store_written(l->params.source->store, &p->place);
    l->stats.written++;
    l->stats.bytes_written += l->params.record->bytes;
    if (p->users) p->state = LOADER_KEPT;
    else free_place_of(l, p);
    return true;
}

static bool copy_from_slot(struct experts_loader *l, struct loader_place *p)
{
    struct gpu_copy copies[LOADER_PIECES];
    for (uint32_t i = 0; i < p->pieces; i++) {
        const struct loader_piece *piece = &p->piece[i];
        const uint64_t at = piece->is_steps ? l->params.record->bytes : piece->in_record;
        copies[i] = (struct gpu_copy){.from = {piece->buffer, piece->offset, piece->bytes},
                                      .to = {l->buffer, p->at + at, piece->bytes}};
    }
    if (l->imported) memset(p->memory, 0, l->params.record->bytes); // gaps
    p->copy = gpu_copy(l->params.gpu, copies, p->pieces, 0);
    p->state = LOADER_LEAVING;
    return p->copy != 0;
}

// It has left the slot, or is about to where that is mapped.
static bool send(struct experts_loader *l, struct loader_place *p)
{
    p->state = LOADER_STORING;
    if (!l->params.source->store && !l->params.source->threads)
        return loader_send(l, p) && written(l, p);
    pthread_mutex_lock(&l->lock);
    loader_give_job(l, p);
    pthread_mutex_unlock(&l->lock);
    return true;
}

bool experts_loader_store(struct experts_loader *l, uint32_t key, uint32_t slot)
{
    struct loader_place *p;
    while (find_out(l, key) || !(p = free_place(l))) // versions of a record go one by one
        if (!experts_loader_next(l, LOADER_FOR_EVER)) return false;
    take_place(l, p, key, slot, true, false);
    if (l->params.source->store &&
        !store_place(l->params.source->store, key, 1u << RECORD_WEIGHTS | 1u << RECORD_STATE,
                     &p->place))
        return false;
    const int direct = l->params.source->store && l->direct
                           ? store_fd_direct(l->params.source->store, &p->place) : -1;
    if (direct >= 0) p->place.fd = direct;
    if (l->mapped) return send(l, p);
    if (!copy_from_slot(l, p)) return false;
    if (l->params.source->store || l->params.source->threads) return true;
    return gpu_copy_wait(l->params.gpu, p->copy) && send(l, p);
}

// ---- progress

static bool look_at_copies(struct experts_loader *l)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i < l->places; i++) {
        struct loader_place *p = &l->ring[i];
        if (p->state != LOADER_COPYING && p->state != LOADER_LEAVING) continue;
        if (!gpu_copy_done(l->params.gpu, p->copy)) continue;
        gpu_copy_wait(l->params.gpu, p->copy);
        if (p->state == LOADER_LEAVING) ok = send(l, p);
        else free_load(l, p);
    }
    return ok;
}

static bool look_at_done(struct experts_loader *l)
{
    uint64_t now[LOADER_RING];
    bool done[LOADER_RING];
    pthread_mutex_lock(&l->lock);
    bool ok = !l->failed;
    for (uint32_t i = 0; i < l->places; i++) {
        done[i] = l->ring[i].done;
        now[i] = l->ring[i].done_ns;
        l->ring[i].done = false;
    }
    pthread_mutex_unlock(&l->lock);
    for (uint32_t i = 0; ok && i < l->places; i++)
        if (done[i]) ok = l->ring[i].out ? written(l, &l->ring[i]) : come(l, &l->ring[i], now[i]);
    return ok;
}

bool experts_loader_poll(struct experts_loader *l)
{
    if (look_at_done(l) && look_at_copies(l) && begin_queued(l)) return true;
    pthread_mutex_lock(&l->lock);
    loader_fail(l);
    pthread_mutex_unlock(&l->lock);
    return false;
}

// Whether a thread or the stream will have something to say.
static bool awaits(const struct experts_loader *l, bool *copies)
{
    bool threads = false;
    *copies = false;
    for (uint32_t i = 0; i < l->places; i++) {
        const enum loader_state state = l->ring[i].state;
        threads |= state == LOADER_READING || state == LOADER_STORING;
        *copies |= state == LOADER_COPYING || state == LOADER_LEAVING;
    }
    return threads || *copies;
}

static bool any_done(const struct experts_loader *l)
{
    for (uint32_t i = 0; i < l->places; i++)
        if (l->ring[i].done) return true;
    return l->failed;
}

bool experts_loader_next(struct experts_loader *l, uint32_t most_us)
{
    struct timespec until;
    bool copies;
    if (!awaits(l, &copies)) return experts_loader_poll(l);
    if (copies) most_us = min_u32(most_us, COPY_LOOK_US);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(most_us % 1000000) * 1000;
    until.tv_sec += most_us / 1000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&l->lock);
    int timed = 0;
    while (!any_done(l) && timed != ETIMEDOUT) {
        if (loader_help(l)) continue;
        if (most_us == LOADER_FOR_EVER) pthread_cond_wait(&l->changed, &l->lock);
        else timed = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    }
    pthread_mutex_unlock(&l->lock);
    return experts_loader_poll(l);
}

bool experts_loader_wait(struct experts_loader *l, uint32_t slot)
{
    while (l->busy[slot])
        if (!experts_loader_next(l, LOADER_FOR_EVER)) return false;
    return true;
}

bool experts_loader_drain(struct experts_loader *l)
{
    bool copies, ok = true;
    while (ok && (awaits(l, &copies) || l->queued)) ok = experts_loader_next(l, LOADER_FOR_EVER);
    return ok;
}

// ---- requests

bool experts_loader_load(struct experts_loader *l, uint32_t key, uint32_t slot,
                         enum loader_kind kind)
{
    if (l->loads++ == 0) l->since_ns = l->last_ns = os_time_ns();
    l->busy[slot] = true;
    l->copy[slot] = 0;
    l->stats.speculative += kind == LOADER_SPECULATIVE;
    l->queue[l->queued++] = (struct loader_request){key, slot, kind};
    return experts_loader_poll(l);
}

uint32_t experts_loader_room(const struct experts_loader *l)
{
    uint32_t used = 0;
    if (l->queued) return 0;
    for (uint32_t i = 0; i < l->places; i++) used += l->ring[i].state != LOADER_FREE;
    return used < l->places / 2 ? l->places / 2 - used : 0;
}

bool experts_loader_busy(const struct experts_loader *l, uint32_t slot)
{
    return l->busy[slot];
}

void experts_loader_promote(struct experts_loader *l, uint32_t slot)
{
    struct loader_place *p = find_load(l, slot);
    if (!p || !p->speculative) return;
    pthread_mutex_lock(&l->lock);
    const bool waits = loader_unlist(&l->speculative, p);
    p->speculative = false;
    if (waits) loader_give_job(l, p);
    if (p->ticket) stream_promote(l->stream, p->ticket);
    pthread_mutex_unlock(&l->lock);
}

void experts_loader_cancel(struct experts_loader *l, uint32_t slot)
{
    struct loader_place *p = find_load(l, slot);
    if (!p || !p->speculative) return;
    pthread_mutex_lock(&l->lock);
    p->dropped = true;
    if (loader_unlist(&l->speculative, p)) loader_done(l, p);
    if (p->ticket) stream_cancel(l->stream, p->ticket);
    pthread_mutex_unlock(&l->lock);
}

void experts_loader_use(struct experts_loader *l, uint32_t slot)
{
    if (l->copy[slot]) gpu_after_copy(l->params.gpu, l->copy[slot]);
    l->copy[slot] = 0;
}
