// SPDX-License-Identifier: MIT
// How cases (kernel_case*.c) fill their bindings: inputs from the counter-based generator, outputs
// poisoned.
#pragma once

#include <string.h>

#include "src/base.h"
#include "src/kernel_case.h"

static inline void *bind(struct kernel_case *c, uint32_t b, int type, uint64_t count)
{
    struct kernel_case_binding *binding = &c->binding[b];
    binding->type = type == KERNEL_CASE_STORE ? (int)c->kernel->store : type;
    binding->count = count;
    binding->bytes = count * dtype_bytes((enum dtype)binding->type);
    binding->data = arena_alloc(c->arena, align_up(binding->bytes, 4));
    return binding->data;
}

enum { FRESH = 4096 }; // numbers that are drawn; long bindings repeat them

// Uniform in `middle` +- `width`.
static inline void fill(struct kernel_case *c, uint32_t b, int type, uint64_t count,
                        double middle, double width)
{
    uint8_t *data = bind(c, b, type, count);
    const size_t size = dtype_bytes((enum dtype)c->binding[b].type);
    for (uint64_t i = 0; i < min_u64(count, FRESH); i++)
        dtype_store(data, i, (enum dtype)c->binding[b].type,
                    middle + width * (2 * rng_uniform(7, b, i) - 1));
    for (uint64_t i = FRESH; i < count; i += FRESH)
        memcpy(data + i * size, data, min_u64(count - i, FRESH) * size);
}

static inline void numbers(struct kernel_case *c, uint32_t b, int type, uint64_t count)
{
    fill(c, b, type, count, 0, 1);
}

static inline void positive(struct kernel_case *c, uint32_t b, int type, uint64_t count)
{
    fill(c, b, type, count, 0.6, 0.4);
}

// Poison: NaN in every type.
static inline void output(struct kernel_case *c, uint32_t b, int type, uint64_t count)
{
    void *data = bind(c, b, type, count);
    memset(data, 0xff, c->binding[b].bytes);
}

static inline uint32_t *words(struct kernel_case *c, uint32_t b, uint64_t count)
{
    return bind(c, b, DTYPE_U32, count);
}

static inline void words_below(struct kernel_case *c, uint32_t b, uint64_t count, uint32_t bound)
{
    uint32_t *w = words(c, b, count);
    for (uint64_t i = 0; i < count; i++) w[i] = (uint32_t)rng_below(7, b, i, bound);
}

static inline void step(struct kernel_case *c, uint32_t b, const struct step_words *values)
{
    memcpy(bind(c, b, DTYPE_U32, sizeof *values / 4), values, sizeof *values);
}

#define PUSH(c, type, ...) memcpy((c)->push, &(const struct type){__VA_ARGS__}, sizeof(struct type))

typedef void kernel_case_fn(struct kernel_case *c);
// NULL: the file of that family has no case of this operation
kernel_case_fn *kernel_case_matmul(enum kernel_op op);
kernel_case_fn *kernel_case_router(enum kernel_op op);
kernel_case_fn *kernel_case_optimizer(enum kernel_op op);
