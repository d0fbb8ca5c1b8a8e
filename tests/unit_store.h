// SPDX-License-Identifier: MIT
// What the tests of the record store share: a small store in the test's folder, records whose bytes
// follow from key and version.
#pragma once

#include "tests/unit.h"

#include "runtime/os_file.h"
#include "runtime/store.h"

enum { KEYS = 23, WEIGHTS = 5000, STATE = 9001, RECORD = 8192 + 12288, ALL = 3 };

static const char identity[] = "hidden_size 64\nstorage f32\n";

UNIT_HELPER struct store_params store_test_params(void)
{
    return (struct store_params){.folder = unit_path("records"),
                                 .name = "experts",
                                 .identity = identity,
                                 .keys = KEYS,
                                 .part = {{"weights", WEIGHTS}, {"state", STATE}},
                                 .part_count = 2,
                                 .segment_records = 4};
}

UNIT_HELPER void record_fill(uint8_t *record, uint64_t key, uint64_t version)
{
    uint64_t word = key * 1000003 + version + 1;
    memset(record, 0, RECORD);
    for (uint32_t i = 0; i < WEIGHTS + STATE; i++) {
        word = word * 6364136223846793005u + 1442695040888963407u; // Knuth's MMIX
        record[i < WEIGHTS ? i : 8192 + i - WEIGHTS] = (uint8_t)(word >> 56);
    }
}

UNIT_HELPER void put_record(struct store *store, uint64_t key, uint64_t version)
{
    uint8_t record[RECORD];
    record_fill(record, key, version);
    assert_true(store_write(store, key, ALL, record));
}

// Version 0: there is none.
UNIT_HELPER bool record_is(struct store *store, uint64_t key, uint64_t version)
{
    uint8_t wanted[RECORD], found[RECORD] = {0};
    uint32_t held;
    record_fill(wanted, key, version);
    if (!store_read(store, key, ALL, found, &held)) return false;
    if (!version) return held == 0;
    return held == ALL && memcmp(found, wanted, WEIGHTS) == 0 &&
           memcmp(found + 8192, wanted + 8192, STATE) == 0;
}

UNIT_HELPER const char *make_folder(const char *name)
{
    const char *path = unit_path(name);
    assert_true(mkdir(path, 0777) == 0 || access(path, W_OK) == 0);
    return path;
}
