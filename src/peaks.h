// SPDX-License-Identifier: MIT
// What the device itself can do, measured in a few tenths of a second beside a run: the driver's
// copies, and multiply-adds of f32 in registers. `vkmoe bench` measures more of it, and longer.
#pragma once

#include "runtime/gpu.h"

struct peaks { double copy_gbps, fma_gflops; }; // 0: unknown

// On a handle of its own, so that no run's account of memory knows of it. What the device has no
// timestamps for stays 0.
void peaks_measure(const struct gpu_params *device, struct peaks *out);

// Multiply-adds in registers and nothing else, spec[0] lanes a workgroup, a f32 of each written;
// longer with more loops. One loop of a lane: PEAKS_FMA_FLOPS.
struct peaks_fma_push { uint32_t loops; float factor, addend; };
enum { PEAKS_FMA_UNROLL = 16, PEAKS_FMA_CHAINS = 12, // of shaders/bench_fma.comp
       PEAKS_FMA_FLOPS = 2 * PEAKS_FMA_UNROLL * PEAKS_FMA_CHAINS };
struct gpu_kernel_params peaks_fma_kernel(const struct gpu_caps *caps);
void     peaks_fma_ref(const struct gpu_ref_call *call); // the same on the CPU
uint32_t peaks_fma_groups(const struct gpu_caps *caps);  // enough to fill it
