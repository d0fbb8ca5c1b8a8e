// SPDX-License-Identifier: MIT
// Records of experts on their way between where they lie and the device's slots, beside the
// compute. A load goes: a place in a ring of staging memory -> the record is read into it (a store
// past the page cache: through runtime/stream; all else: by threads) -> checked and completed by
// threads -> copied into the slot, by the same threads where the slots are mapped, else by
// gpu_copy. Where slots are mapped and matrices are whole pages, the record is read straight into
// the slot and checked there: no copy. A record that goes back takes the way in the other
// direction; the slot may be loaded into as soon as the record has left it, and a key that is
// wanted again meanwhile is served from the ring.
//
// Needed loads go before speculative ones everywhere: in the stream, among the threads' jobs, and
// in the ring, of which speculative ones get a half. Results do not depend on any order.
//
// One thread at a time calls these; the store is only touched from within them. The first failure
// logs one line; from then on all calls say false, and what is under way comes to nothing.
#pragma once

#include "experts.h"

struct os_file;

enum { LOADER_RING = 32, LOADER_RING_BYTES = 64 << 20, LOADER_SPECULATIVE_MOST = LOADER_RING / 2 };
enum { LOADER_PIECES = RECORD_MATRICES * RECORD_ARRAYS + 1 };

// Bytes of a record, in the device's memory. What only goes out: the expert's count of steps as
// u32, which the record has in its own form.
struct loader_piece {
    struct gpu_buffer *buffer;
    uint64_t           offset, in_record, bytes;
    bool               is_steps; // in_record has no meaning
};

struct experts_loader_params {
    struct gpu                  *gpu;
    const struct experts_record *record;
    struct experts_source       *source; // stays the caller's
    bool                         whole;  // with state
    uint32_t                     slots;
    // Where a slot's contents and, where they go out, its key's steps are: how many pieces.
    uint32_t (*pieces)(void *user, uint32_t slot, uint32_t key,
                       struct loader_piece out[LOADER_PIECES]);
    void                        *user;
    const char                  *way;  // stream_choose's; NULL: what is fastest
    const struct os_file        *file; // of the stream; NULL: the system's
};

struct experts_loader;
// HERE: needed, and the caller has nothing to do but wait: a record that is one read, or lies in
// the page cache, is read by him, which saves the ways between threads.
enum loader_kind { LOADER_NEEDED, LOADER_HERE, LOADER_SPECULATIVE };

// Says (info) which way records are read. NULL after one line.
struct experts_loader *experts_loader_create(const struct experts_loader_params *params);
// What is under way comes to nothing.
void experts_loader_destroy(struct experts_loader **loader);
// Another number of slots. Nothing may be under way.
void experts_loader_resize(struct experts_loader *loader, uint32_t slots);

// Begins a load. What was submitted before and uses the slot is over, or its record leaves through
// experts_loader_store.
bool experts_loader_load(struct experts_loader *loader, uint32_t key, uint32_t slot,
                         enum loader_kind kind);
// How many speculative loads may begin now without keeping a needed one waiting: no more may.
uint32_t experts_loader_room(const struct experts_loader *loader);
// A speculative load turned out to be needed.
void experts_loader_promote(struct experts_loader *loader, uint32_t slot);
// Of a speculative load, what has not begun never does. It is to be waited for as any other; then
// the slot's contents are undefined.
void experts_loader_cancel(struct experts_loader *loader, uint32_t slot);
// A slot's load has not ended: see what the threads have done, without waiting.
bool experts_loader_busy(const struct experts_loader *loader, uint32_t slot);
bool experts_loader_poll(struct experts_loader *loader);
// Waits until anything comes forward, or for so long; nothing to wait for: at once.
#define LOADER_FOR_EVER UINT32_MAX
bool experts_loader_next(struct experts_loader *loader, uint32_t most_us);
bool experts_loader_wait(struct experts_loader *loader, uint32_t slot);
// Before commands that use the slot are submitted: they see what was loaded.
void experts_loader_use(struct experts_loader *loader, uint32_t slot);

// The slot's record goes back to the source; what was submitted before and changes it is over.
// The slot can be loaded into at once.
bool experts_loader_store(struct experts_loader *loader, uint32_t key, uint32_t slot);
// Waits for all loads and all records that go back: the source has them.
bool experts_loader_drain(struct experts_loader *loader);

// Whether the record of a key is in the ring on its way back, or still there.
bool experts_loader_holds(const struct experts_loader *loader, uint32_t key);

struct loader_stats {
    uint64_t loaded, speculative; // records that came; of these, loads that nobody had asked for
    uint64_t straight;            // of loaded: read into the slot, and not copied there
    uint64_t written;
    uint64_t bytes, bytes_written;
    double   seconds;             // with at least one load under way
};
struct loader_stats experts_loader_stats(const struct experts_loader *loader);

struct experts_peaks experts_loader_peaks(const struct experts_loader *loader);
