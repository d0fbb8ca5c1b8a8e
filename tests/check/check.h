// SPDX-License-Identifier: MIT
// The check of one operation against its reference: fill the bindings, run the kernel on the device
// and the reference on the host from the same bytes, compare what was written. Outputs are poisoned
// with NaN and fenced by canaries, inputs are rounded to the storage type first, every run is done
// twice and must give the same bytes. A file tests/check/NAME.c has `void check_NAME(struct check
// *t)`, a row in main.c, and is called once for each storage type that the device has.
#pragma once

#include "src/base.h"
#include "src/kernel_device.h"

enum { CHECK_STORE = -1 }; // as a type: the storage type of this round

struct check_binding {
    int      type;       // enum dtype, after CHECK_STORE was resolved
    uint64_t count, bytes;
    uint8_t *initial;    // what the binding holds before the run
};

struct check {
    struct gpu     *gpu;
    struct kernels *kernels;
    enum dtype      store;
    uint64_t        seed;       // printed; reproduces the inputs
    const char     *filter;
    bool            brief;      // each shape once: check_chooses
    int             cases, failures;
    double          worst;      // largest error / tolerance of the current file
    struct check_count { uint32_t passed, failed; } count[KERNEL_COUNT][KERNEL_VARIANTS]; // cases
    // the case being built
    enum kernel_op       op;
    uint32_t             rows;  // for kernel_size_of
    struct kernel_shape  shape; // lanes 0: what the table takes for the size
    enum kernel_variant  variant;     // of the kernel that ran
    bool                 ran, failed; // this case
    char                 label[160];
    struct check_binding binding[GPU_MAX_BINDINGS];
    uint32_t             groups[3]; // override; all 0: the table's
    uint64_t             stream;
    // shapes that a brief run had
    struct check_seen { enum kernel_op op; enum dtype store; struct kernel_shape shape; } *seen;
    uint32_t             seen_count;
};

// Starts a case. `rows` as in kernel_size_of.
void check_begin(struct check *t, enum kernel_op op, uint32_t rows, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// This case runs the kernel of exactly this shape; its variant and tile join the label.
void check_with(struct check *t, const struct kernel_shape *shape);
// Whether a case in this shape is run. A brief run takes each shape once, and with 16-bit types one
// shape of each variant: how a type is loaded does not depend on what brief runs are for, another
// subgroup size or a sanitizer. List the sizes with the one that says most first.
bool check_chooses(struct check *t, enum kernel_op op, const struct kernel_shape *shape);
// The same where a shape may come again: in a brief run one that was chosen before, or is new.
bool check_has(struct check *t, enum kernel_op op, const struct kernel_shape *shape);
// The case that was begun is not run after all.
void check_drop(struct check *t);
// Fills binding b (input, or modified) with normal numbers of this scale, rounded to the type.
void check_normal(struct check *t, int b, int type, uint64_t count, double scale);
void check_values(struct check *t, int b, int type, const double *values, uint64_t count);
void check_words(struct check *t, int b, const uint32_t *words, uint64_t count);
// `inverse` of moe_scatter, u32[pairs]: a random permutation; every `drop`-th pair is in no expert.
void check_inverse(struct check *t, int b, uint32_t pairs, uint32_t drop);
void check_step(struct check *t, int b, const struct step_words *step);
// An output: poisoned with NaN (0xffffffff words).
void check_output(struct check *t, int b, int type, uint64_t count);
// Explicit grid, for kernels that are dispatched indirectly.
void check_groups(struct check *t, uint32_t x, uint32_t y, uint32_t z);
// Runs and compares: floats by normalised mean square error (sum (x-ref)^2 / sum ref^2) <=
// tolerance, words exactly. Where the outputs are 16-bit, tolerance is raised to what the rounding
// itself costs (bf16 1e-5, f16 1e-6).
bool check_run(struct check *t, const void *push, double tolerance);
// After check_run: the device's bytes of binding b (valid until the next check_begin).
const void *check_result(const struct check *t, int b);
// Like check_run, but without a comparison: the caller looks at check_result itself.
bool check_run_only(struct check *t, const void *push);
void check_fail(struct check *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t check_random(struct check *t, uint64_t bound); // seeded

// the files: name, needs a round for each storage type (0: f32 only)
#define CHECK_FILES(row) \
    row(embed, 1) row(embed_back, 1) row(norm, 1) row(norm_back, 1) row(matmul, 1) row(matvec, 1) \
    row(rope, 1) row(cache_write, 1) row(attention, 1) row(attention_back, 1) \
    row(attention_decode, 1) row(attention_long, 0) row(activate, 1) row(router, 1) \
    row(router_stats, 1) row(router_noise, 1) row(router_body, 1) row(router_join, 1) \
    row(router_columns, 0) row(gate_rows, 1) \
    row(moe_sort, 0) row(moe_place, 0) row(moe_matmul, 1) row(moe_combine, 1) row(loss, 1) \
    row(sum, 0) \
    row(grad_norm, 0) row(adamw, 1) row(adamw_8bit, 1) \
    row(adamw_stochastic, 1) row(average, 0) row(sgd, 1) \
    row(muon, 1) row(expert_steps, 0) \
    row(cast, 1) row(token, 1) row(mix, 1) row(smear, 1) \
    row(sample, 0)

#define CHECK_DECLARE(name, stores) void check_##name(struct check *t);
CHECK_FILES(CHECK_DECLARE)
#undef CHECK_DECLARE
