// SPDX-License-Identifier: MIT
// Arenas with a named lifetime, checked sizes, the counter-based random generator, small helpers.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline uint32_t ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }
static inline uint64_t align_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

// false when the product or sum does not fit; sizes from files go through these.
static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

// An arena: memory that is freed all at once. Allocation ends the program with one line when the
// machine has no memory left, so callers need no check.
struct arena;
struct arena *arena_create(const char *name);
void          arena_destroy(struct arena **arena);
void *arena_alloc(struct arena *arena, size_t bytes); // zeroed, 16-byte aligned
void         *arena_array(struct arena *arena, size_t count, size_t bytes);   // checked product
char         *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t      arena_bytes(const struct arena *arena);

// A growing byte buffer on the heap.
struct bytes { uint8_t *data; size_t count, capacity; };
void bytes_append(struct bytes *bytes, const void *data, size_t count);
void bytes_printf(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct cJSON;
void bytes_json(struct bytes *bytes, struct cJSON *value); // as text of one line; takes the value
void bytes_free(struct bytes *bytes);

// Philox 4x32-10 (Salmon et al. 2011): four random words for (key, counter), the same on the
// device (shaders/lib/rng.glsl), in any order, so initial weights exist before they are written.
struct rng_block { uint32_t word[4]; };
struct rng_block rng_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high);
double   rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);  // (0, 1)
double rng_normal(uint64_t seed, uint64_t stream, uint64_t index); // Box-Muller on the same block
uint64_t rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound); // [0, bound)
uint64_t hash_string(const char *text);                                // FNV-1a 64, for RNG streams
