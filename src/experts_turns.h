// SPDX-License-Identifier: MIT
// The inside of experts.h: what is in flight, what a training step holds, and the way between
// records and slots. experts.c makes the slots, experts_turns.c gives turns, experts_grads.c keeps
// gradients until the optimizer has used them.
#pragma once

#include "experts.h"
#include "experts_loader.h"

enum { RANGE_WORDS = 4 }; // of moe_scan's ranges
enum { EXPERTS_GUESSES = 4096 };
enum held { HELD_NOT, HELD_SLOT, HELD_HOST };
enum coming { COMING_NOT, COMING_NEEDED, COMING_GUESSED };
// Of an expert that has rows: it has no slot; none was free for it, and that is counted; its record
// is on the way to one; it had its turn.
enum expert_where { WHERE_AWAY, WHERE_MISSED, WHERE_COMING, WHERE_DONE };

// The slots of a turn are pinned until it is known to be over. An expert with gradients is held:
// its slot is pinned as well, until the optimizer is submitted, or until the slot is needed more:
// then its gradients wait in host memory.
struct experts_turns {
    uint32_t *flying, flying_count; // slots of turns that may be in flight
    uint32_t *turn, turn_count;     // slots of the turn at hand
    uint32_t *key, needed;  // of the experts that have rows, in the order of the ranges
    uint8_t  *where;        // enum expert_where
    uint32_t  left;         // that had no turn yet
    uint8_t  *coming;       // enum coming [slots]: a record is on the way to it; pinned for that
    uint32_t **had, *had_count; // [MoE layers]: keys that had rows at its last visit; prefetch only
    // training only
    uint32_t *held, held_count, held_next; // keys in the order of their gradients; spilled up to
    uint8_t  *held_where;   // enum held [keys]
    void    **spilled;      // [keys]: f32 gradients, matrices one behind the other
    uint64_t  spill_bytes;  // of one expert
    bool     *has_grads;    // [slots]: else its gradients are zero
    bool     *foreign;      // [slots]: loaded since; its gradients are whoever's was here before
};

// Of a matrix of a slot; 0: there is none.
static inline uint64_t experts_bytes(const struct experts *x, int array, uint32_t matrix)
{
    uint64_t bytes;
    if (array == EXPERTS_GRAD) return x->training ? 4 * x->record.matrix[matrix].count : 0;
    experts_record_place(&x->record, (enum record_array)array, matrix, &bytes);
    return bytes;
}

// Where a matrix of a slot lies.
struct experts_piece { struct gpu_buffer *buffer; uint64_t offset, bytes; };
struct experts_piece experts_piece_of(const struct experts *x, uint32_t slot, int array,
                                      uint32_t matrix);

// All that was submitted is over.
bool experts_wait(struct experts *x, uint64_t ticket);
// A slot for an expert that is not there, its contents saved where they have to be. Where all are
// in use by what is in flight, that is waited for; *full: they are all in this turn.
bool experts_take(struct experts *x, uint32_t key, uint64_t ticket, uint32_t *slot, bool *full);
// Its record begins to come (experts_loader.h).
bool experts_load(struct experts *x, uint32_t key, uint32_t slot, enum loader_kind kind);
// Whether the slot's record is there.
bool experts_came(struct experts *x, uint32_t slot);
// Waits for the first of those that come, at most so long. The device has nothing to do meanwhile.
bool experts_await(struct experts *x, uint32_t most_us);
// The loader is made when it is first asked for: what is made until then may be made again.
bool experts_open(struct experts *x);
// It has a part in this turn.
void experts_give(struct experts *x, uint32_t slot);
// The turn at hand is the one in flight.
void experts_begin_turn(struct experts *x);
void experts_end_turn(struct experts *x);
// False after one line: nobody has a part in the turn at hand, and some still wait for theirs.
bool experts_moved_on(const struct experts *x);

// ---- who may be needed next (experts_guess.c)

// The layer's keys, for when backward comes back to it.
void experts_remember(struct experts *x, uint32_t layer);
// All that the layer at hand needs has a slot: into what is left go those of the next.
bool experts_guess(struct experts *x, struct experts_point point);
void experts_guess_free(struct experts *x);

// ---- gradients

bool experts_grads_init(struct experts *x);
void experts_grads_resize(struct experts *x); // slots are others
void experts_grads_free(struct experts *x);
bool experts_hold(struct experts *x, uint32_t slot); // it gets gradients in this turn
// Gradients of one that is held, and not in this turn, go to the host. *freed: there was one.
bool experts_spill(struct experts *x, bool *freed);
// The gradients of a slot that was loaded since it last had a part in backward: those that wait for
// its expert, or zero.
bool experts_restore(struct experts *x, uint32_t key, uint32_t slot);
// Where the partial sums of the turn's gradients go.
void experts_fill_places(struct experts *x);
