// SPDX-License-Identifier: MIT
// Arenas, growing byte buffers and the counter-based random generator.
#include "src/base.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- arenas: a list of blocks, each at least ARENA_BLOCK bytes

enum { ARENA_BLOCK = 1 << 16, ARENA_ALIGN = 16 };

struct block {
    struct block *next;
    size_t used, capacity;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

struct arena {
    const char *name;
    struct block *head;
    uint64_t bytes;
};

static _Noreturn void out_of_memory(const char *name, size_t bytes)
{
    fprintf(stderr, "vkmoe: out of host memory: %s wants %zu bytes more\n", name, bytes);
    abort();
}

static void *must_calloc(const char *name, size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (!memory) out_of_memory(name, bytes);
    return memory;
}

struct arena *arena_create(const char *name)
{
    struct arena *arena = must_calloc(name, sizeof *arena);
    arena->name = name;
    return arena;
}

void arena_destroy(struct arena **arena)
{
    if (!*arena) return;
    for (struct block *block = (*arena)->head, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(*arena);
    *arena = NULL;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    bytes = align_up(bytes ? bytes : 1, ARENA_ALIGN);
    struct block *block = arena->head;
    if (!block || block->capacity - block->used < bytes) {
        const size_t capacity = bytes > ARENA_BLOCK ? bytes : ARENA_BLOCK;
        block = must_calloc(arena->name, sizeof *block + capacity);
        block->capacity = capacity;
        block->next = arena->head;
        arena->head = block;
        arena->bytes += capacity;
    }
    void *memory = block->data + block->used;
    block->used += bytes;
    return memory;
}

void *arena_array(struct arena *arena, size_t count, size_t bytes)
{
    uint64_t total;
    if (!checked_mul(count, bytes, &total)) out_of_memory(arena->name, SIZE_MAX);
    return arena_alloc(arena, total);
}

char *arena_strdup(struct arena *arena, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    return memcpy(arena_alloc(arena, bytes), text, bytes);
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    char *text = arena_alloc(arena, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

uint64_t arena_bytes(const struct arena *arena) { return arena->bytes; }

// ---- growing bytes

static void reserve(struct bytes *bytes, size_t more)
{
    if (bytes->capacity - bytes->count >= more) return;
    size_t capacity = bytes->capacity ? bytes->capacity * 2 : 256;
    while (capacity - bytes->count < more) capacity *= 2;
    uint8_t *data = realloc(bytes->data, capacity);
    if (!data) out_of_memory("bytes", capacity);
    bytes->data = data;
    bytes->capacity = capacity;
}

void bytes_append(struct bytes *bytes, const void *data, size_t count)
{
    reserve(bytes, count + 1);
    if (count) memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
    bytes->data[bytes->count] = 0; // so that text can be read as a C string
}

void bytes_printf(struct bytes *bytes, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    reserve(bytes, (size_t)length + 1);
    vsnprintf((char *)bytes->data + bytes->count, (size_t)length + 1, format, again);
    bytes->count += (size_t)length;
    va_end(again);
    va_end(args);
}

void bytes_json(struct bytes *bytes, struct cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);
    if (!text) out_of_memory("JSON as text", 1);
    bytes_append(bytes, text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(value);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

// ---- random numbers

struct rng_block rng_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    struct rng_block x = {{(uint32_t)counter_low, (uint32_t)(counter_low >> 32),
                           (uint32_t)counter_high, (uint32_t)(counter_high >> 32)}};
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * x.word[0], b = (uint64_t)0xCD9E8D57u * x.word[2];
        x = (struct rng_block){{(uint32_t)(b >> 32) ^ x.word[1] ^ k0, (uint32_t)b,
                                (uint32_t)(a >> 32) ^ x.word[3] ^ k1, (uint32_t)a}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return x;
}

static double unit(uint32_t high, uint32_t low)
{
    const uint64_t bits = ((uint64_t)high << 32 | low) >> 11; // 53 bits
    return ((double)bits + 0.5) * 0x1p-53;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    const struct rng_block x = rng_philox(seed, index, stream);
    return unit(x.word[0], x.word[1]);
}

double rng_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    const struct rng_block x = rng_philox(seed, index, stream);
    return sqrt(-2.0 * log(unit(x.word[0], x.word[1]))) *
           cos(6.283185307179586 * unit(x.word[2], x.word[3]));
}

uint64_t rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound)
{
    const struct rng_block x = rng_philox(seed, index, stream);
    const uint64_t word = (uint64_t)x.word[0] << 32 | x.word[1];
    __extension__ typedef unsigned __int128 wide; // -Wpedantic knows no 128-bit integers
    return (uint64_t)((wide)word * bound >> 64);
}

uint64_t hash_string(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}
