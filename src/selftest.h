// SPDX-License-Identifier: MIT
// The self-test of one kernel: a small case with ragged edges through the device and through its
// reference. Drivers miscompile: no kernel is used before it was right once on this device
// (src/kernel.c), and the tuner drops candidates that are wrong.
#pragma once

#include "kernel.h"

enum selftest_result {
    SELFTEST_RIGHT,
    SELFTEST_WRONG,
    SELFTEST_FAILED, // the device did not run it (lost, out of memory): logged
};

// `what`: where it is wrong, in words. Under a millisecond for most kernels.
enum selftest_result selftest_kernel(struct gpu *gpu, const struct kernel *kernel, char *what,
                                     size_t size);

// ---- between selftest.c and selftest_cases.c

enum { SELFTEST_STORE = -1 }; // as a type: the kernel's storage type

struct selftest_binding {
    int      type;  // enum dtype, after SELFTEST_STORE was resolved
    uint64_t count, bytes;
    uint8_t *data;
};

struct selftest_case {
    const struct kernel    *kernel;
    struct arena           *arena;
    struct selftest_binding binding[GPU_MAX_BINDINGS];
    uint8_t                 push[GPU_MAX_PUSH_BYTES];
    uint32_t                groups[3]; // all 0: the table's
};

// Fills push words and bindings for the case's kernel; every operation has one (tests/unit_kernel).
void selftest_fill(struct selftest_case *c);
bool selftest_covers(enum kernel_op op);
