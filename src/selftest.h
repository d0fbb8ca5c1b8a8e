// SPDX-License-Identifier: MIT
// The self-test of one kernel: a small case with ragged edges through the device and through its
// reference. Drivers miscompile: no kernel is used before it was right once on this device
// (src/kernel.c), and the tuner drops candidates that are wrong.
#pragma once

#include "kernel_device.h"

enum selftest_result {
    SELFTEST_RIGHT,
    SELFTEST_WRONG,
    SELFTEST_FAILED, // the device did not run it (lost, out of memory): logged
};

// `what`: where it is wrong, in words. Under a millisecond for most kernels.
enum selftest_result selftest_kernel(struct gpu *gpu, const struct kernel *kernel, char *what,
                                     size_t size);
