// SPDX-License-Identifier: MIT
// Between bench_kernels.c and bench_update.c: one row of the kernel table at the shape of a model.
#pragma once

#include "tools/bench.h"

struct at {
    struct bench       *bench;
    const struct bench_model *shape;
    enum dtype          store;
    enum bench_level    level;
    uint32_t            tokens;
};

// False where the case is not wanted.
bool at_begin(struct bench_case *c, const struct at *at, const char *family, enum kernel_op op,
              uint32_t rows, const void *push, const char *shape, ...)
    __attribute__((format(printf, 7, 8)));
uint32_t at_words(struct bench_case *c, const struct step_words *words);
uint32_t at_constant(struct bench_case *c, uint64_t count, float value);

// Runs its cases; false ends the benchmark.
typedef bool bench_kernel(const struct at *at);
bench_kernel bench_grad_norm, bench_grad_clip, bench_adamw, bench_adamw_8bit,
    bench_adamw_stochastic, bench_adamw_8bit_stochastic, bench_average, bench_cast;
