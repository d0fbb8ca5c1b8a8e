// SPDX-License-Identifier: MIT
// numpy's .npy, version 1.0: what `vkmoe logits` writes and other engines compare with.
#pragma once

#include "base.h"

// float32 [rows][cols], C order, little-endian; written beside and renamed. False after one line.
bool npy_write_f32(const char *path, const float *data, uint64_t rows, uint64_t cols);
