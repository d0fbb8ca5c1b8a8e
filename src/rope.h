// SPDX-License-Identifier: MIT
// The rotary position table on the device: made on the host in double, because sines of large
// arguments in f32 differ between drivers.
#pragma once

#include "config.h"
#include "runtime/gpu.h"

// f32 [positions][head_dim/2][2]: cos and sin of position * theta^(-2i/head_dim) (Su et al. 2021,
// eq. 15). NULL on failure.
struct gpu_buffer *rope_table(struct gpu *gpu, const struct config *config, uint32_t positions);
