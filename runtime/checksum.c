// SPDX-License-Identifier: MIT
// XXH64: see checksum.h. The names are the specification's.
#include "runtime/checksum.h"

#include <string.h>

static const uint64_t prime1 = 0x9E3779B185EBCA87u, prime2 = 0xC2B2AE3D27D4EB4Fu,
                      prime3 = 0x165667B19E3779F9u, prime4 = 0x85EBCA77C2B2AE63u,
                      prime5 = 0x27D4EB2F165667C5u;

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

// Little-endian words, of which the file format is made too; the machine is one.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a little-endian machine");
static inline uint64_t word64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t word32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t round64(uint64_t acc, uint64_t lane)
{
    return rotate(acc + lane * prime2, 31) * prime1;
}

static inline uint64_t merge(uint64_t acc, uint64_t lane)
{
    return (acc ^ round64(0, lane)) * prime1 + prime4;
}

struct checksum checksum_begin(void)
{
    return (struct checksum){.lane = {prime1 + prime2, prime2, 0, 0 - prime1}};
}

void checksum_add(struct checksum *sum, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t a = sum->lane[0], b = sum->lane[1], c = sum->lane[2], d = sum->lane[3];
    for (size_t count = bytes / CHECKSUM_BLOCK; count; count--, at += CHECKSUM_BLOCK) {
        a = round64(a, word64(at));
        b = round64(b, word64(at + 8));
        c = round64(c, word64(at + 16));
        d = round64(d, word64(at + 24));
    }
    *sum = (struct checksum){.lane = {a, b, c, d}, .bytes = sum->bytes + bytes};
}

static uint64_t lanes(const struct checksum *sum)
{
    static const int by[4] = {1, 7, 12, 18};
    uint64_t acc = 0;
    if (sum->bytes < CHECKSUM_BLOCK) return prime5;
    for (int i = 0; i < 4; i++) acc += rotate(sum->lane[i], by[i]);
    for (int i = 0; i < 4; i++) acc = merge(acc, sum->lane[i]);
    return acc;
}

uint64_t checksum_end(struct checksum *sum, const void *data, size_t bytes)
{
    const uint8_t *at = data, *const end = at + bytes;
    checksum_add(sum, at, bytes / CHECKSUM_BLOCK * CHECKSUM_BLOCK);
    at += bytes / CHECKSUM_BLOCK * CHECKSUM_BLOCK;
    uint64_t acc = lanes(sum) + sum->bytes + (uint64_t)(end - at);
    for (; end - at >= 8; at += 8)
        acc = rotate(acc ^ round64(0, word64(at)), 27) * prime1 + prime4;
    if (end - at >= 4) {
        acc = rotate(acc ^ word32(at) * prime1, 23) * prime2 + prime3;
        at += 4;
    }
    for (; at < end; at++) acc = rotate(acc ^ *at * prime5, 11) * prime1;
    acc = (acc ^ acc >> 33) * prime2;
    acc = (acc ^ acc >> 29) * prime3;
    return acc ^ acc >> 32;
}

uint64_t checksum_xxh64(const void *data, size_t bytes)
{
    struct checksum sum = checksum_begin();
    return checksum_end(&sum, data, bytes);
}
