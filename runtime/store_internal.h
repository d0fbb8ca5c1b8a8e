// SPDX-License-Identifier: MIT
// What the files of the store share: store.c (open, records), store_manifest.c (text and index to
// struct and back; knows no folder), store_commit.c (commit, protect, trim, compact).
#pragma once

#include "runtime/os_file.h"
#include "runtime/store.h"

enum {
    STORE_MOST_KEYS = 1 << 26, STORE_MOST_SEGMENT_RECORDS = 1 << 20, STORE_MOST_SEGMENTS = 1 << 20,
    STORE_INDEX_HEADER = 24, STORE_MOST_MANIFEST = 256 << 20,
};

// ---- the manifest

struct store_geometry {
    uint64_t keys;
    uint64_t part_bytes[STORE_PARTS];
    char     part_name[STORE_PARTS][32];
    uint32_t part_count;
    uint64_t record_bytes;
    uint32_t segment_records;
};

struct store_manifest_segment { uint32_t number, records; };

struct store_manifest {
    char                          *identity; // lines, each with its '\n'
    struct store_geometry          geometry;
    struct store_manifest_segment *segment;  // numbers ascending
    uint32_t                       segment_count;
    char                           index_file[64];
    uint64_t                       index_records, index_bytes, index_sum;
};

// A record of the index.
struct store_named {
    uint32_t key, segment, record, parts;
    uint64_t sum[STORE_PARTS];
};

// Offsets of parts in a record; the last is the record's size. False where it overflows.
bool     store_part_offsets(const struct store_geometry *geometry, uint64_t out[STORE_PARTS + 1]);
uint64_t store_index_entry(const struct store_geometry *geometry); // bytes of a record of the index
char    *store_manifest_print(const struct store_manifest *manifest); // free()
// False after one line that begins with `name`.
bool store_manifest_parse(const char *name, const void *text, uint64_t bytes,
                          struct store_manifest *out);
void store_manifest_free(struct store_manifest *manifest);
// [index_records], malloc'ed; checked against the manifest and itself: every place is inside its
// segment and named once. NULL after one line.
struct store_named *store_index_parse(const char *name, const struct store_manifest *manifest,
                                      const void *data, uint64_t bytes);
void *store_index_print(const struct store_geometry *geometry, const struct store_named *named,
                        uint64_t count, uint64_t *bytes); // free()

// ---- the store

enum { // of a place
    PLACE_LIVE = 1, // the key's record
    PLACE_KEPT = 2, // a kept manifest names it
    PLACE_BUSY = 4, // handed out by store_place
    PLACE_WAS_KEPT = 8, // while store_protect works
    PLACE_SHARED = 16, // when the store was opened, another manifest named the record too
};

struct store_entry { // of a key; segment 0: no record
    uint32_t segment, record, parts;
    uint64_t sum[STORE_PARTS];
};

struct store_segment {
    uint32_t  number;
    int       fd, direct; // direct -1: not opened yet, -2: not possible
    bool      dirty;      // written since it was synced
    bool      lost;       // a sync failed: the system may have dropped what was written
    bool      oversized;  // longer than a segment of this store: another's, where none names it
    uint32_t  records;    // places that the file has
    uint32_t  used;       // of these with a state
    uint32_t  hint;       // no free place in front of it
    uint8_t  *state;      // [segment_records]
    uint32_t *key;        // [segment_records] of live places
};

struct store {
    struct store_geometry   geometry;
    uint64_t                part_offset[STORE_PARTS + 1];
    char                   *folder, *name, *identity;
    const struct os_file   *file;
    bool                    writable;
    bool                    made_folder;
    bool                    new_files; // segments were made since the folder was synced
    struct store_entry     *entry;     // [keys]
    uint64_t                live;
    struct store_segment  **segment;   // numbers ascending
    uint32_t                segment_count;
    struct folder_lock     *lock;
    int                     folder_fd; // holds the readers' lock
    void (*describe)(void *user, uint64_t key, char *out, size_t bytes);
    void *user;
};

struct store_segment *store_segment_find(const struct store *store, uint32_t number);
void store_segment_close(struct store *store, struct store_segment **segment);
void store_segment_path(const struct store *store, uint32_t number, char *out, size_t bytes);
bool store_segment_fits(const struct store *store, const struct store_segment *segment); // or line
void store_set_state(struct store *store, struct store_segment *segment, uint32_t record,
                     uint8_t state);
// The first place in order that is free in a file; NULL where there is none.
struct store_segment *store_first_hole(struct store *store, uint32_t *record);
bool store_has_readers(const struct store *store);
// A small file, read whole through the table. NULL after one line.
void *store_read_file(const struct os_file *file, const char *path, uint64_t most,
                      uint64_t *bytes);
// The manifest and its index beside it.
struct store_named *store_load(const struct os_file *file, const char *path,
                               struct store_manifest *manifest);
// Of another store than this one: one line.
bool store_same(const struct store_manifest *manifest, const char *path, const char *identity,
                const struct store_geometry *wanted);
// Sets PLACE_KEPT of what the manifests name.
bool store_mark_kept(struct store *store, const char *const *manifest, uint32_t count);
