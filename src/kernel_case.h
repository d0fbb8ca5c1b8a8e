// SPDX-License-Identifier: MIT
// One call of one kernel with made-up inputs: small with ragged edges for the self-test, of a given
// size for the tuner.
#pragma once

#include "kernel_device.h"

enum { KERNEL_CASE_STORE = -1 }; // as a type: the kernel's storage type

struct kernel_case_binding {
    int      type; // enum dtype, after KERNEL_CASE_STORE was resolved
    uint64_t count, bytes;
    uint8_t *data;
    bool     records; // codes.h: their values are compared, not their bits
};

struct kernel_case {
    const struct kernel       *kernel;
    struct arena              *arena;
    struct kernel_size         size;      // rows 0: small, with ragged edges
    uint32_t                   parts;     // of a dense matmul with a size: split-K
    struct kernel_case_binding binding[GPU_MAX_BINDINGS];
    uint8_t                    push[GPU_MAX_PUSH_BYTES];
    uint32_t                   groups[3]; // all 0: the table's
};

// Fills push words and bindings from kernel, arena and size. Every operation has a small case
// (tests/unit_kernel.c); only matmuls, their sums, and attention but for decoding follow the size.
void kernel_case_fill(struct kernel_case *c);
bool kernel_case_exists(enum kernel_op op);
uint32_t kernel_case_experts(uint32_t rows); // of a grouped case with so many rows an expert
// The case as a dispatch on one buffer, which holds the bindings at these offsets.
uint64_t            kernel_case_layout(const struct kernel_case *c, uint32_t alignment,
                                       uint64_t offset[GPU_MAX_BINDINGS]); // bytes in all
struct gpu_dispatch kernel_case_dispatch(const struct kernel_case *c, struct gpu_buffer *buffer,
                                         const uint64_t offset[GPU_MAX_BINDINGS]);
