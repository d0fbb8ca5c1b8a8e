// SPDX-License-Identifier: MIT
// What the files of the loader share: places of the ring, and the threads' jobs on them.
// experts_loader.c belongs to the caller's thread, which alone touches the store, the device and
// what is not named below; experts_loader_way.c is its beginning; experts_loader_jobs.c is what
// threads do with a place that was given to them.
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include "runtime/stream.h"
#include "src/experts_loader.h"

enum loader_state {
    LOADER_FREE,
    LOADER_READING, // the stream, then a thread
    LOADER_COPYING, // the device copies to the slot
    LOADER_LEAVING, // the device copies out of the slot
    LOADER_STORING, // a thread, then the stream
    LOADER_KEPT,    // is where it belongs, but loads are served from it
};

struct loader_place {
    enum loader_state    state;
    uint32_t             key, slot;
    uint8_t             *memory;   // host, whole pages
    uint64_t             at;       // in the ring's buffer
    struct loader_piece  piece[LOADER_PIECES];
    uint32_t             pieces;
    struct store_place   place;    // of the store's record, the one that is read or gets written
    uint32_t             held;     // parts that are read
    // of the record, what is read and where it goes: into the slot, or into memory (one piece)
    uint64_t             begin, end;
    struct iovec         to[STREAM_PIECES];
    uint32_t             to_count;
    bool                 straight; // into the slot
    int                  fd;       // to read from, by a thread; -1: it is read, or not to be
    struct loader_place *from;     // has the record, or NULL: it is read
    uint32_t             users;    // loads that are served from it
    uint64_t             copy;     // gpu_copy's
    // under the lock
    bool                 out;      // goes back
    bool                 speculative, dropped;
    struct loader_place *after;    // leaves the slot first, or NULL
    uint64_t             ticket;   // the stream's, 0: none under way
    bool                 copied;   // out: has left the slot
    bool                 done;     // to be looked at by the caller's thread
    uint64_t             done_ns;
    struct loader_place *next;     // in a list of jobs
};

struct loader_jobs { struct loader_place *first, *last; };

struct loader_request { uint32_t key, slot; enum loader_kind kind; };

enum { LOADER_THREADS = 4 };

struct experts_loader {
    struct experts_loader_params params;
    struct loader_place   ring[LOADER_RING];
    uint32_t              places;
    uint8_t              *memory;      // of all places
    uint64_t              place_bytes;
    bool                  mapped;      // slots are seen by the host
    bool                  straight;    // records can be read into them
    uint32_t              straight_unit; // whose pieces are multiples of this
    struct gpu_buffer    *buffer;      // of all places; NULL: mapped
    bool                  imported;    // it is `memory`; else threads copy between the two
    struct stream        *stream;      // NULL: the source is no store
    bool                  direct;
    struct loader_request *queue;      // without a place yet: [slots]
    uint32_t              queued;
    bool                 *busy;        // [slots] its load has not ended
    uint64_t             *copy;        // [slots] of gpu_copy, before its first use
    uint32_t              loads;       // under way, speculative ones too
    uint64_t              since_ns;    // with at least one load under way
    uint64_t              last_ns;     // end of the last one
    struct loader_stats   stats;
    struct experts_peaks  peaks;
    // shared
    pthread_mutex_t       lock;
    pthread_cond_t        work, changed; // for the threads; for the caller and who waits for copies
    struct loader_jobs    needed, speculative;
    uint32_t              needed_running, speculative_running;
    uint32_t              streaming;   // requests whose end has not been taken
    bool                  ending, failed;
    bool                  led;         // a thread waits for the stream's next end
    pthread_t             thread[LOADER_THREADS];
    uint32_t              threads;
};

// The stream, and whether records go straight into slots; what is copied a second. False after one
// line.
bool loader_choose_way(struct experts_loader *loader);
bool loader_measure_copies(struct experts_loader *loader);
// By the device, from the place's record or the one it is served from; it is COPYING then.
bool loader_copy_to_slot(struct experts_loader *loader, struct loader_place *place);
bool loader_start(struct experts_loader *loader); // threads; false after one line
void loader_stop(struct experts_loader *loader);
// Where bytes [begin, end) of a record go: what the slot has goes there, the rest into the place's
// own memory. False: these are not all whole units.
bool loader_straight(struct loader_place *place, uint64_t begin, uint64_t end, uint64_t unit);
// A record into the slot where that is mapped, else into the ring's buffer.
void loader_copy_in(const struct experts_loader *loader, const struct loader_place *place,
                    const uint8_t *record);
// What threads do, for a caller who does it himself. False: failed, and said so.
bool loader_bring(struct experts_loader *loader, struct loader_place *place);
bool loader_send(struct experts_loader *loader, struct loader_place *place);
// With the lock held. A thread's turn; the caller's turn; out of a list (false: is not there).
void loader_give_job(struct experts_loader *loader, struct loader_place *place);
void loader_done(struct experts_loader *loader, struct loader_place *place);
bool loader_help(struct experts_loader *loader); // does a needed job that no thread has begun
bool loader_unlist(struct loader_jobs *jobs, struct loader_place *place);
// A place's record is read, or written, by the stream; false after one line.
bool loader_submit(struct experts_loader *loader, struct loader_place *place, bool write);
// True for the first to fail, who logs the line; the others end without one.
bool loader_fail(struct experts_loader *loader);
