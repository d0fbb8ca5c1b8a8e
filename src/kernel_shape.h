// SPDX-License-Identifier: MIT
// What the files of the kernel table share (kernel.c, kernel_table.c, kernel_shape.c): families of
// operations. All else is in kernel_device.h.
#pragma once

#include "src/kernel_device.h"

bool kernel_is_matvec(enum kernel_op op);
bool kernel_is_matmul(enum kernel_op op);    // dense and grouped, without matvec
// The bindings that a variant reads as texel buffers, a bit each.
uint32_t kernel_texels(enum kernel_op op, enum kernel_variant variant);
bool kernel_is_attention(enum kernel_op op); // shapes hang on head_dim
// What is measured in place of this operation, which takes the shapes that were chosen for it:
// attention for attention_within, ...; else itself.
enum kernel_op kernel_plain_of(enum kernel_op op);

// How the operands of a matmul lie: constant FORM of the modules that several operations share.
enum kernel_form { FORM_NT, FORM_NN, FORM_TN };
enum kernel_form kernel_form_of(enum kernel_op op);

// kernel_shape_tiles.c: candidates that are not flat, the best (untuned) first; their number.
uint32_t kernel_tile_candidates(const struct gpu_caps *caps, enum kernel_op op, enum dtype store,
                                const struct kernel_size *size, struct kernel_shape *shape,
                                uint32_t room);

// The cooperative matrix to use for inputs of a type: the largest product with f32 sums, of
// subgroup scope; NULL where there is none. The subgroup for it; 0: it may have any size.
const struct gpu_matrix *kernel_matrix_of(const struct gpu_caps *caps, enum gpu_scalar in);
uint32_t kernel_matrix_subgroup(const struct gpu_caps *caps, const struct gpu_matrix *matrix);
