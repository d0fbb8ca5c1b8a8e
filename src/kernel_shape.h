// SPDX-License-Identifier: MIT
// What the files of the kernel table share (kernel.c, kernel_table.c, kernel_shape.c): families of
// operations. All else is in kernel.h.
#pragma once

#include "src/kernel.h"

bool kernel_is_matvec(enum kernel_op op);
bool kernel_is_matmul(enum kernel_op op);    // dense and grouped, without matvec
bool kernel_is_attention(enum kernel_op op); // shapes hang on head_dim
