// SPDX-License-Identifier: MIT
// Experts that come and go: a model whose experts are more than the device's memory takes keeps
// some of them in slots and loads the others when a router asks for them. A slot holds what an
// expert's record has (experts_record.h): its matrices in the storage type and, for training,
// masters and moments, with room for their gradients. Slots lie in windows, each at most what one
// binding covers.
//
// The plan (plan_stream.c) has a host point behind each router: experts_visit reads which experts
// have rows, gives a turn to those that are resident, loads as many of the others as there are
// slots that nothing in flight uses, gives them the next turn, and so on. Every row is computed
// once, by the same kernels in the same order as in a resident model, so the results are the same
// bytes whatever the number of slots and the policy.
//
// With prefetch the plan applies the next layer's router to what the tokens are now, the host loads
// whom it picks beside the compute (experts_guess.c), and in backward whom forward had.
//
// In training an expert's gradients stay in its slot until the optimizer has moved it (they are
// part of the norm that all are clipped by). Where a step has more experts than there are slots,
// gradients wait in host memory, and the optimizer takes the experts in turns. An expert goes back
// to where it came from when its slot is taken, or at a checkpoint.
#pragma once

#include "experts_record.h"
#include "plan.h"
#include "runtime/cache.h"

// Where experts come from, and where they go. False after one line.
struct experts_source {
    // The record of a key; `whole`: with its state. What the source does not have is completed.
    bool (*read)(void *user, const struct experts_record *record, uint64_t key, bool whole,
                 void *out);
    bool (*write)(void *user, const struct experts_record *record, uint64_t key,
                  const void *from); // whole; NULL: read only
    void (*close)(void *user);
    void *user;
    bool  threads;       // read and write may be called from several threads at once
    struct store *store; // where it is one: records may be read and written past the calls above
};
// The files of a checkpoint, as weights_load takes them (experts_source.c); they stay mapped.
bool experts_source_files(struct experts_source *source, const struct model *model,
                          const char *path);
// A store, which is closed with the source.
void experts_source_store(struct experts_source *source, struct store *store);
// The store of a run folder as a checkpoint (its folder) has it, read only.
bool experts_source_checkpoint(struct experts_source *source, const struct model *model,
                               const char *checkpoint);
// What they are before any training, made when they are asked for.
void experts_source_initial(struct experts_source *source);

struct experts_counts {
    uint64_t hits, misses;        // experts that had rows: resident, loaded
    uint64_t bytes, written;      // of records loaded, of records that went back
    uint64_t spilled;             // bytes of gradients that waited in host memory
    double   load_seconds;        // in which experts were loaded
    double   wait_seconds;        // of these, while the device had nothing to do
    uint64_t turns;
    uint64_t guessed, used;       // experts loaded before a router asked; of these, that had rows
};

enum { EXPERTS_GRAD = RECORD_ARRAYS, EXPERTS_ARRAYS }; // pools: the record's arrays, gradients

struct experts {
    struct gpu           *gpu;
    const struct model   *model;
    bool                  training;
    struct experts_record record;
    struct experts_source source;
    enum cache_policy     policy;
    bool                  prefetch; // who may be needed next is loaded before the router asks
    uint64_t              budget;  // bytes of device memory in all; 0: the slots are given
    uint32_t              slots, window_slots, windows, window_most;
    // [window]: [window_slots][rows][cols], STORE of RECORD_COMPUTE, records of RECORD_CODES, else
    // f32; NULL: there is none
    struct gpu_buffer   **pool[EXPERTS_ARRAYS][RECORD_MATRICES];
    struct gpu_buffer    *ranges;  // readback: of the layer at hand, as moe_scan writes them
    struct gpu_buffer    *guesses; // readback: u32 [EXPERTS_GUESSES], for the layer to come
    struct gpu_buffer    *places;  // upload: u32 [ranges], the slot of each in this turn
    // upload: u32 [1 + 2 matrices][slots]: where the moves of a slot's expert stand, and where the
    // partial sums of its gradients' squares go; KERNEL_NONE_ID: it is not in this turn. Then where
    // the random numbers of its matrices begin (KERNEL_ADAMW_STOCHASTIC)
    struct gpu_buffer    *tables;
    struct gpu_buffer    *squares; // partial sums of all gradients' squares; training only
    uint32_t             *norm_place[RECORD_MATRICES]; // [MoE layers]
    uint32_t              norm_block;
    // of struct params, for the records: u32 [MoE layers][steps_stride]; NULL: not trained
    struct gpu_buffer    *steps;
    uint32_t              steps_stride;
    struct experts_counts counts;
    struct cache         *cache;
    struct experts_turns *turns;   // what is in flight
    struct experts_loader *loader; // of records; made with the first turn
    const struct os_file *file;    // of the loader; NULL: the system's
};

struct experts_params {
    struct gpu           *gpu;
    const struct model   *model;  // of model_create_streamed
    bool                  training;
    struct experts_source source; // taken over, also where it fails
    enum cache_policy     policy;
    bool                  prefetch; // where the source can be read beside the compute
    const struct os_file *file;   // of loads and write-backs; NULL: the system's
    uint64_t              budget;
    bool                  state_out; // training: what the optimizer keeps of the rest lies in
                                     // memory of the host, whatever the budget
    uint32_t              slots;  // at least one, at most all experts
    uint32_t              window; // most slots of one; 0: as many as a binding covers
};
// "on" or "off"; NULL: off. False after one line.
bool            experts_prefetch_parse(const char *word, bool *out);
struct experts *experts_create(const struct experts_params *params);
void            experts_destroy(struct experts **experts); // what was not flushed is lost
// Another number of slots, all of them empty; no plan may bind the old ones.
bool            experts_resize(struct experts *experts, uint32_t slots);
// Bytes on the device that a slot takes.
uint64_t        experts_slot_bytes(const struct experts *experts);
// Whether the device's memory is used as the budget says, now that all else that is needed exists:
// else how many slots there should be (0 after one line: the budget is too small for any), for
// which all plans that bind slots have to be made again. experts NULL: it fits.
bool            experts_fit(const struct experts *experts, uint32_t *slots);
// Host memory for records on their way, and, at most, for gradients that wait for the optimizer: of
// all experts that may have rows in a step, those without a slot.
uint64_t        experts_ring_bytes(const struct experts *experts);
uint64_t        experts_spill_bytes(const struct experts *experts);
// Writes back all that has moved. Nothing may be in flight.
bool            experts_flush(struct experts *experts);
// What was counted after `before`.
struct experts_counts experts_counts_since(const struct experts *experts,
                                           const struct experts_counts *before);
// Where the experts of a MoE layer (counted from 0) are: enum trace_place [experts] of trace.h.
void            experts_residency(const struct experts *experts, uint32_t moe_layer,
                                  uint8_t *place);
// What loads are measured by, GB/s: the rate at which records came when nothing else went on
// (stream_choose; 0: not measured, they fit into memory), and that of copies of records from host
// memory to a slot. 0 before the first load.
struct experts_peaks { double read_gbps, copy_gbps; };
struct experts_peaks experts_peaks(const struct experts *experts);
// Of counts of loads: GB/s while loads were under way; 0 where nothing was loaded.
double experts_load_gbps(const struct experts_counts *counts);
// One line for people: slots, hits, what was loaded, what of that was waited for. Nothing for NULL.
void            experts_tell(const struct experts *experts);

// ---- for plans
uint32_t          experts_matrix(const struct experts *experts, enum model_role role);
struct plan_range experts_pool(const struct experts *experts, struct plan *plan, int array,
                               uint32_t matrix, uint32_t window);
struct plan_range experts_ranges(const struct experts *experts, struct plan *plan,
                                 uint64_t bytes);
struct plan_range experts_places(const struct experts *experts, struct plan *plan,
                                 uint32_t ranges);
struct plan_range experts_table(const struct experts *experts, struct plan *plan, uint32_t row);
// Partial sums of the squares of all gradients, of which there are so many (the same in all calls).
struct plan_range experts_squares(struct experts *experts, struct plan *plan, uint32_t count);
// Where the partial sums of the squares of a stack's gradients begin, in blocks of so many
// elements.
void experts_norm_place(struct experts *experts, const struct model_tensor *stack, uint32_t place,
                        uint32_t block);
// What a plan says to the visitors: which of the MoE layers it is, and which comes after it.
enum { EXPERTS_NOBODY = 0x7fff };
struct experts_point {
    uint32_t layer, next; // below 0x7fff; next EXPERTS_NOBODY: not known, or not asked for
    bool     known;       // the next one's experts are those of its last visit; else guessed
};
static inline uint32_t experts_point_pack(struct experts_point point)
{
    return point.layer | point.next << 15 | (uint32_t)point.known << 30;
}
static inline struct experts_point experts_point_of(uint32_t id)
{
    return (struct experts_point){id & 0x7fff, id >> 15 & 0x7fff, id >> 30};
}
// u32: picks of the layer to come, as its router sees the tokens now; of the first of them, as many
// as there is room for.
struct plan_range experts_guesses(const struct experts *experts, struct plan *plan);
plan_visit_fn experts_visit;         // user: struct experts; id: struct experts_point
plan_visit_fn experts_visit_forward; // the same, in training: backward will come back to them
plan_visit_fn experts_visit_grads;   // the same, and who has rows gets gradients
plan_visit_fn experts_visit_update;  // before the optimizer, which takes them in turns as well
