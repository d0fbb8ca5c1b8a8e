// SPDX-License-Identifier: MIT
// XXH64 (Yann Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), seed 0: the
// checksum of records and manifests. It finds damage, not malice.
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t checksum_xxh64(const void *data, size_t bytes);
