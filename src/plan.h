// SPDX-License-Identifier: MIT
// A plan is a list of steps, built once for a given model and batch shape and replayed ever after.
// A step = an operation + the ranges it binds + push words + a grid. Temporaries have no memory of
// their own until plan_finish: their lifetimes (first to last step that binds them) become offsets
// in one arena, and the ranges that steps read and write become barriers. Both are checked by
// plan_verify.
//
//     plan_create -> plan_temp, plan_external, plan_add, plan_fill ... -> plan_finish -> run_create
#pragma once

#include <stdio.h>

#include "kernel_device.h"

enum { PLAN_TEMP = 0 };

// A range of bytes of a plan's tensor: how steps name what they bind. {0} is no range.
struct plan_range {
    uint32_t tensor; // index + 1
    uint64_t offset, bytes;
};

struct plan_tensor {
    const char        *name;
    uint64_t           bytes;
    struct gpu_buffer *buffer;        // external: given; temporary: an arena, after plan_finish
    uint64_t           offset;        // of byte 0 in the buffer
    bool               external;
    uint32_t           first, last;   // steps that bind it; first > last: none
};

enum plan_kind { PLAN_DISPATCH, PLAN_FILL, PLAN_COPY };

struct plan_step {
    enum plan_kind       kind;
    enum kernel_op       op;
    const struct kernel *kernel;
    const char          *section;           // "layer 3 attention"
    struct plan_range    bind[GPU_MAX_BINDINGS]; // fill: bind[0]; copy: bind[0] -> bind[1]
    uint32_t             bind_count;
    uint8_t              push[GPU_MAX_PUSH_BYTES];
    uint32_t             groups[3];
    struct plan_range    indirect;          // where set, the grid is read from here
    bool                 barrier;           // before this step, by plan_finish
};

// Host points. A plan is one stretch of steps, or several: where plan_host begins the next one, the
// run stops, and `visit` does on the host what has to be done first; then the steps up to the next
// plan_host are submitted, and as long as it asks for it both happen again. What the stretch binds
// stays as it is between the turns.
struct plan_visit {
    uint32_t id;     // given to plan_host
    uint32_t turn;   // from 0
    uint64_t ticket; // of all that was submitted before, for gpu_wait and gpu_done; 0: nothing
    bool     again;  // set by the visitor: one more turn after this one
};
typedef bool plan_visit_fn(void *user, struct plan_visit *visit); // false: the run fails
struct plan_stretch {
    uint32_t       begin, end; // steps
    plan_visit_fn *visit;      // NULL: nothing to be done
    void          *user;
    uint32_t       id;
};

struct plan {
    const char         *name;
    struct gpu         *gpu;
    struct kernels     *kernels;
    enum dtype          store;
    struct plan_tensor *tensor;
    uint32_t            tensor_count;
    struct plan_step   *step;
    uint32_t            step_count;
    struct plan_stretch *stretch;           // in order, all steps; the first may be empty
    uint32_t            stretch_count;
    struct gpu_buffer **arena_buffer;       // temporaries, each at most caps.max_allocation
    uint32_t            arena_count;
    uint64_t            temp_bytes;         // sum over all temporaries, had they no shared memory
    uint64_t            arena_bytes;        // what plan_finish needed
    const char         *section;            // of the steps being added
    bool                failed;             // an add failed: plan_finish returns false
    struct arena       *arena;
    uint32_t            tensor_capacity, step_capacity, stretch_capacity;
};

struct plan *plan_create(struct gpu *gpu, struct kernels *kernels, const char *name,
                         enum dtype store);
void         plan_destroy(struct plan **plan);
void plan_section(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct plan_range plan_temp(struct plan *plan, uint64_t bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
struct plan_range plan_external(struct plan *plan, const char *name, struct gpu_buffer *buffer,
                                uint64_t offset, uint64_t bytes);
struct plan_range plan_slice(struct plan_range range, uint64_t offset, uint64_t bytes);

// Adds a dispatch; `rows` as in kernel_size_of; the grid comes from the kernel table.
void plan_add(struct plan *plan, enum kernel_op op, uint32_t rows, const void *push,
              const struct plan_range *bind, uint32_t bind_count);
void plan_add_indirect(struct plan *plan, enum kernel_op op, uint32_t rows, const void *push,
                       const struct plan_range *bind, uint32_t bind_count,
                       struct plan_range indirect);
void plan_fill(struct plan *plan, struct plan_range range, uint32_t word);
void plan_copy(struct plan *plan, struct plan_range from, struct plan_range to);
// Begins a stretch; visit NULL: one that waits for nothing.
void plan_host(struct plan *plan, plan_visit_fn *visit, void *user, uint32_t id);

#define PLAN_BIND(...) (const struct plan_range[]){__VA_ARGS__}, \
    (uint32_t)(sizeof((const struct plan_range[]){__VA_ARGS__}) / sizeof(struct plan_range))

bool plan_finish(
    struct plan *plan); // memory and barriers; false: out of memory or a failed add, logged
bool plan_verify(
    const struct plan *plan); // no two live temporaries overlap, no hazard lacks a barrier
void plan_print(const struct plan *plan, FILE *out); // plan_print.c: an EXPLAIN
// The step at which most bytes of temporaries live, and how many; 0 where there are none.
uint64_t plan_peak(const struct plan *plan, uint32_t *step);
void plan_print_peak(const struct plan *plan, FILE *out); // what lives there, by kind of tensor
const char     *plan_step_name(const struct plan_step *step); // "matmul_nt_bf16", "fill", "copy"
// Where a range lies, after plan_finish.
struct gpu_bind plan_bind(const struct plan *plan, const struct plan_range *range);
double plan_flops(const struct plan *plan);
// What a step does, by the kernel table: floating-point operations, bytes read and written.
void   plan_step_cost(const struct plan *plan, const struct plan_step *step, double *flops,
                      double *bytes);
