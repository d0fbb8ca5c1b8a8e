// SPDX-License-Identifier: MIT
// How operations are computed: the table with their references, grids and costs (kernel_table.c);
// variants and shapes (kernel_shape.c); the kernels of one device, which are made on first use,
// are right before they are taken, and go by what was measured (kernel.c).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dtype.h"
#include "kernel.h"
#include "runtime/gpu.h"

// How an operation is computed. `flat` exists for every operation: registers only, no shared memory
// and no barriers (CPU drivers, and the fallback everywhere). The others are of the matmul and
// attention families: `tile` through shared memory, `coop` on KHR cooperative matrices (16-bit
// inputs, f32 sums; bf16 goes through tiles in f16), `coop_bf16` on those of
// VK_KHR_shader_bfloat16, `coop2` on NV_cooperative_matrix2 (matrices of a workgroup, tensors), and
// `coop2_staged` the same for CPU drivers that lack those: it runs for the checks alone. `texel` is
// flat, but reads operands of a matmul through texel buffers: CPU drivers gather from them much
// faster (lib/operand.glsl).
enum kernel_variant {
    KERNEL_FLAT, KERNEL_TILE, KERNEL_COOP, KERNEL_COOP_BF16, KERNEL_COOP2, KERNEL_COOP2_STAGED,
    KERNEL_TEXEL, KERNEL_VARIANTS
};
const char *kernel_variant_name(enum kernel_variant variant);

// How a kernel is shaped for the device: specialization constants 0 .. 9 of every shader.
struct kernel_shape {
    uint32_t lanes;        // 0: local size
    uint32_t rows;         // 1: rows of C a workgroup holds (matmul family)
    uint32_t columns;      // 2: columns of C a lane (flat) or a workgroup (all others) holds
    uint32_t spread;       // 3: lanes that share out the loads of rows (flat; 1: each loads all);
                           //    lanes of a subgroup (coop)
    uint32_t depth;        // 4: head_dim of the attention family; k of a shared tile, or of a
                           // turn of a flat matmul's loop: 4 or 8; 1 where every row of the
                           // token_ family is a whole number of loads
    uint32_t part_rows;    // 5: rows of C that a lane (tile) or a subgroup (coop) holds
    uint32_t part_columns; // 6: columns likewise
    uint32_t coop[3];      // 7 8 9: m, n, k of one cooperative matrix
    uint32_t ragged;       // 12: 1: rows of operands may begin anywhere (flat, texel), else at
                           // multiples of four elements
    enum kernel_variant variant; // which shader; no constant
};
// 10: 1 where a workgroup is one subgroup for sure; 11: enum kernel_form of a matmul
enum { KERNEL_SPEC_COUNT = 13 };

// What a shape is chosen for. Rows of C (over tiles: typical rows an expert), columns of C and
// length of the sums (moe_matmul_tn: typical rows an expert); for the attention family head_dim,
// heads that share keys, sequence length.
struct kernel_size { uint32_t rows, columns, inner; };

enum { KERNEL_MAX_HEAD_DIM = 256 };

struct kernel_info {
    const char *name;
    gpu_ref_fn *ref;
    const char *access;     // one letter a binding: r, w, m
    uint32_t    push_bytes;
    // Workgroups for these push words; z = 1 unless said. NULL: indirect only.
    void   (*groups)(const void *push, const struct kernel_shape *shape, uint32_t groups[3]);
    double (*flops)(const void *push);                  // multiplications and additions
    double (*bytes)(const void *push, uint32_t store);  // least traffic; store = bytes of STORE
};
const struct kernel_info *kernel_info(enum kernel_op op);
int                       kernel_op_from_name(const char *name); // -1 if unknown

// The kernels of one device: made on first use, kept until destroyed.
struct kernels;
struct kernel {
    enum kernel_op     op;
    enum dtype         store;
    struct kernel_shape shape;
    const char        *name;   // "matmul_nt_bf16", "matmul_nt_bf16_coop"
    struct gpu_kernel *gpu;
};
struct kernels *kernels_create(struct gpu *gpu);
void            kernels_destroy(struct kernels **kernels);

// The size that a dispatch with these push words has; `rows` where the words do not tell: typical
// rows an expert for grouped matmuls, head_dim for attention, else 0. Strides that are no multiples
// of four make the size odd.
struct kernel_size kernel_size_of(enum kernel_op op, uint32_t rows, const void *push);

// The shape to use for a size: what was chosen by measurement (kernels_choose), else the first
// candidate. The grouped matmuls of one layer share a tile table, so they agree on `rows`: what
// moe_matmul_up takes for these rows, and for {columns, inner} in either order. Every kernel is
// tested before it is taken (selftest.h): one that is wrong is named in a warning and the next one
// takes its place; lanes is 0 where none is left.
struct kernel_shape kernels_shape(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                  const struct kernel_size *size);
const struct kernel *kernels_get(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                 const struct kernel_size *size);
// The kernel of exactly this shape, untested (tuner, checks, benchmark).
const struct kernel *kernels_make(struct kernels *kernels, enum kernel_op op, enum dtype store,
                                  const struct kernel_shape *shape);

// Whether it was right in the self-test, which is run the first time.
bool kernels_right(struct kernels *kernels, enum kernel_op op, enum dtype store,
                   const struct kernel_shape *shape);
struct kernels_report { uint32_t tested, wrong; double test_ms; };
struct kernels_report kernels_report(const struct kernels *kernels);
// For tests: kernels of `op` in this variant and tile are made from the SPIR-V of `instead`.
struct kernel_fault {
    bool                planted;
    enum kernel_op      op, instead;
    enum kernel_variant variant;
    uint32_t            rows;
};
void kernels_plant(struct kernels *kernels, const struct kernel_fault *fault);

// A measured choice; kernels_shape takes the nearest one (by the logarithms of its size) of the
// operation and storage type whose shape is a candidate for the size asked for, where one is near
// enough to tell (KERNEL_NEAR), else the first candidate.
struct kernel_choice {
    enum kernel_op      op;
    enum dtype          store;
    struct kernel_size  size;
    struct kernel_shape shape;
    uint32_t            parts;          // split-K of a dense matmul; 0 and 1: whole
    double              ms, default_ms; // at this size: of the choice, of the first candidate
};
// Of kernel_distance: rows twice or half as many, or columns or sums four times as many, are 1.
#define KERNEL_NEAR 1.0
double kernel_distance(const struct kernel_size *a, const struct kernel_size *b);
void kernels_choose(struct kernels *kernels, const struct kernel_choice *choice, uint32_t count);
const struct kernel_choice *kernels_choices(const struct kernels *kernels, uint32_t *count);
// Into how many parts the sums of a dense matmul of this size are split: what was measured at just
// this size, else 1.
uint32_t    kernels_parts(const struct kernels *kernels, enum kernel_op op, enum dtype store,
                          const struct kernel_size *size);
// What the plans that were built with these kernels do: of each size how often and how much.
struct kernel_use {
    enum kernel_op     op;
    enum dtype         store;
    struct kernel_size size;
    uint32_t           count;
    double             flops; // in all
};
void kernels_note(struct kernels *kernels, enum kernel_op op, enum dtype store,
                  const struct kernel_size *size, double flops);
const struct kernel_use *kernels_uses(const struct kernels *kernels, uint32_t *count);
uint64_t    kernels_fingerprint(void); // of the SPIR-V of all kernels
struct gpu *kernels_gpu(const struct kernels *kernels);

// The shapes worth trying for a size on a device, all right for any size; [0] is the default.
enum { KERNEL_MAX_CANDIDATES = 48 };
uint32_t kernel_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                           const struct kernel_size *size,
                           struct kernel_shape shape[KERNEL_MAX_CANDIDATES]);
bool kernel_exists(enum kernel_op op, enum dtype store, enum kernel_variant variant);
bool kernel_is_grouped(enum kernel_op op); // over a tile table
bool kernel_is_flat(const struct kernel_shape *shape); // flat or texel
// The words of the expert sort of P = tokens*top_k pairs, for the grids of a layer with experts
// [inner][hidden]. `rows`: typical rows an expert.
struct kernel_moe_size {
    uint32_t tokens, experts, top_k, hidden, inner, rows;
    bool     gated, logits; // logits: moe_matmul_ntf in place of _nt
};
struct push_moe_sort kernel_moe_sort(struct kernels *kernels, enum dtype store,
                                     const struct kernel_moe_size *size);
// The words of moe_place over what that sort leaves: slots [first, first + count).
struct push_moe_place kernel_moe_place(const struct push_moe_sort *sort, uint32_t first,
                                       uint32_t count);
// Columns of C that one workgroup covers (matmul family).
uint32_t kernel_group_columns(enum kernel_op op, const struct kernel_shape *shape);
// Workgroups along the columns of a grouped matmul.
uint32_t kernel_moe_columns(enum kernel_op op, const struct kernel_shape *shape, uint32_t cols);
// Every (op, store, candidate) that exists for these caps, for tests: calls back until false.
bool kernels_each(struct kernels *kernels, bool (*visit)(void *user, const struct kernel *kernel),
                  void *user);
