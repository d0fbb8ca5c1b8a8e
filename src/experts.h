// SPDX-License-Identifier: MIT
// Experts that come and go: a model whose experts are more than the device's memory takes keeps
// some of them in slots and loads the others when a router asks for them. A slot holds the matrices
// of one expert of any MoE layer, in the storage type. Slots lie in windows, each at most what one
// binding covers. The plan (plan_stream.c) has a host point behind each router: `experts_visit`
// reads which experts have rows, gives a turn to those that are resident, loads as many of the
// others as there are slots that no turn in flight uses, gives them the next turn, and so on.
// Every row is computed once, by the same kernels in the same order as in a resident model, so the
// results are the same bytes whatever the number of slots and the policy.
#pragma once

#include "model.h"
#include "plan.h"

// Where experts come from.
struct experts_source {
    // Matrix `role` of an expert, [rows][cols] as `store`. False after one line.
    bool (*read)(void *user, uint32_t moe_layer, uint32_t expert, enum model_role role,
                 enum dtype store, void *out);
    void (*close)(void *user);
    void *user;
};
// The files of a checkpoint, as weights_load takes them (experts_files.c); they stay mapped.
bool experts_source_files(struct experts_source *source, const struct model *model,
                          const char *path);
// What they are before any training, made when they are asked for.
void experts_source_initial(struct experts_source *source, const struct model *model);
// The stack of a MoE layer that holds this role.
const struct model_tensor *experts_stack(const struct model *model, uint32_t moe_layer,
                                         enum model_role role);

enum { EXPERTS_ROLES = 5 }; // gate, up, down, and their biases, as far as the model has them

struct experts_counts {
    uint64_t hits, misses;        // experts that had rows: resident, loaded
    uint64_t bytes;               // loaded
    double   load_seconds;        // in which experts were loaded
    double   wait_seconds;        // of these, while the device had nothing to do
    uint64_t turns;
};

struct experts {
    struct gpu           *gpu;
    const struct model   *model;
    enum dtype            store;
    struct experts_source source;
    uint64_t              budget;  // bytes of device memory in all; 0: the slots are given
    uint32_t              slots, window_slots, windows;
    enum model_role       role[EXPERTS_ROLES];
    uint64_t              bytes[EXPERTS_ROLES]; // of one matrix
    uint32_t              role_count;
    struct gpu_buffer   **pool[EXPERTS_ROLES];  // [window]: STORE [window_slots][rows][cols]
    struct gpu_buffer    *ranges;  // readback: of the layer at hand, as moe_scan writes them
    struct gpu_buffer    *places;  // upload: u32 [ranges], the slot of each in this turn
    struct experts_counts counts;
    struct experts_table *table;   // which lie where
};

// The bytes on the device that a slot takes.
uint64_t experts_slot_bytes(const struct model *model, enum dtype store);
// Takes the source over, also where it fails. At least one slot, at most all experts.
struct experts *experts_create(struct gpu *gpu, const struct model *model, enum dtype store,
                               const struct experts_source *source, uint32_t slots);
void            experts_destroy(struct experts **experts);
// Another number of slots, all of them empty; no plan may bind the old ones.
bool            experts_resize(struct experts *experts, uint32_t slots);
// Whether the device's memory is used as the budget says, now that all else that is needed exists:
// else how many slots there should be (0 after one line: the budget is too small for any), for
// which all plans that bind slots have to be made again. experts NULL: it fits.
bool            experts_fit(const struct experts *experts, uint32_t *slots);

// One line for people: slots, hits, what was loaded, what of that was waited for. Nothing for NULL.
void            experts_tell(const struct experts *experts);

// ---- for plans
struct plan_range experts_pool(const struct experts *experts, struct plan *plan,
                               enum model_role role, uint32_t window);
struct plan_range experts_ranges(const struct experts *experts, struct plan *plan,
                                 uint64_t bytes);
struct plan_range experts_places(const struct experts *experts, struct plan *plan,
                                 uint32_t ranges);
plan_visit_fn experts_visit; // user: struct experts; id: which of the MoE layers
