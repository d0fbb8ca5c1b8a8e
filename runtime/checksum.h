// SPDX-License-Identifier: MIT
// XXH64 (Yann Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), seed 0: the
// checksum of records and manifests. It finds damage, not malice.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t checksum_xxh64(const void *data, size_t bytes);

// The same of data in pieces: begin, add for each piece but the last (whole CHECKSUM_BLOCKs), end.
enum { CHECKSUM_BLOCK = 32 };
struct checksum { uint64_t lane[4], bytes; };
struct checksum checksum_begin(void);
void            checksum_add(struct checksum *sum, const void *data, size_t bytes);
uint64_t        checksum_end(struct checksum *sum, const void *data, size_t bytes);
