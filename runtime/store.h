// SPDX-License-Identifier: MIT
// The record store: `keys` records of one size in segment files, log-structured, so that the last
// commit is whole at any moment. What a record means is the caller's; a key that was never written
// has no record and costs nothing.
//
// The format. FOLDER/segment-00000001.bin, -00000002.bin, ...: places of `record_bytes`, one
// behind the other from byte 0 on, at most `segment_records` a file, nothing else. A record's parts
// lie one behind the other, each from a multiple of 4096 bytes on; what fills a part up to there
// has no meaning. A record may hold only some of its parts.
//
// A commit writes two files into a folder of the caller's choice (a checkpoint). NAME.json is the
// manifest, NAME.index (or NAME.1.index: see "index") where the records lie:
//
//     {
//       "format": "vkmoe store",           "version": 1,
//       "identity": ["hidden_size 64", ...],     lines of the caller's; compared when it is opened
//       "keys": 20480,                     most keys; records have keys from 0 on
//       "parts": [{"name": "weights", "bytes": 98304}, {"name": "state", "bytes": 393224}],
//       "record_bytes": 495616,            of the parts, each rounded up to 4096
//       "segment_records": 2166,
//       "segments": [{"file": "segment-00000001.bin", "records": 812}, ...],  ascending; the file
//                                      holds at least so many places
//       "index": {"file": "NAME.index", "records": 800, "bytes": 25624, "xxh64": "0123..."},
//       "xxh64": "89ab..."                 of all lines before this one
//     }
//
// The index is little-endian: "VKMOEIDX", u32 version 1, u32 parts P, u64 records, then of each
// record, keys ascending: u32 key, u32 number of the segment (as in its file's name), u32 place in
// it, u32 which parts it holds (bit p: part p), u64 [P] XXH64 of the bytes of each part (0: not
// held).
//
// Safety. A new version of a record goes to a free place: one that neither the store as it stands
// nor a kept manifest names. A commit syncs the segments, then writes index and manifest; the
// manifest's rename (or that of the folder it lies in) makes it the newest. What is killed in
// between leaves places that nobody names: the next writer finds and reuses them.
//
// One process writes (FOLDER/.lock), others read: as long as anyone reads, nothing that a manifest
// ever named is written over. The calls of one store come from one thread at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os_file;
struct store;

enum { STORE_ALIGN = 4096, STORE_PARTS = 2, STORE_VERSION = 1 };

struct store_part {
    const char *name;  // in messages: "weights"
    uint64_t    bytes;
};

struct store_params {
    const char       *folder;   // of the segments; made where there is none
    const char       *name;     // of a commit: NAME.json, NAME.index
    const char       *identity; // lines "name value"; NULL (open): any
    uint64_t          keys;     // 0 (open): the manifest's
    struct store_part part[STORE_PARTS];
    uint32_t          part_count;      // open: may be fewer than the manifest's, which stay
    uint32_t          segment_records; // 0: as many as make about 1 GiB
    // Manifests whose places stay as they are, besides the one that is opened; writers only
    const char *const *kept;
    uint32_t           kept_count;
    const struct os_file *file; // NULL: the system's
    // What a key stands for, in messages; NULL: "key 17"
    void (*describe)(void *user, uint64_t key, char *out, size_t bytes);
    void *user;
};

// Where a version of a record is, or goes.
struct store_place {
    uint64_t key;
    uint32_t segment, record; // the segment's number, the place in it
    uint32_t parts;           // which it holds: bit p
    int      fd;              // through the page cache; store_fd has the other
    uint64_t offset;          // of the record
    uint64_t sum[STORE_PARTS];
};

// An empty store for writing. Segments that no kept manifest names are removed: they were left by a
// run that never committed.
struct store *store_create(const struct store_params *params);
// As the manifest says. NULL after one line: which file, which field, what was found, what was
// wanted. A writer logs (info) what it reclaimed from an unfinished run.
struct store *store_open(const char *manifest, const struct store_params *params, bool writable);
void          store_close(struct store **store); // what is not committed is lost
// The same for a store that was given up: of the segments only what these manifests name stays, of
// its folder nothing where it made that one and nobody else has put anything there.
void          store_discard(struct store **store, const char *const *manifest, uint32_t count);

// ---- geometry

uint64_t store_keys(const struct store *store);
uint32_t store_part_count(const struct store *store);
uint64_t store_part_bytes(const struct store *store, uint32_t part);  // the caller's
uint64_t store_part_offset(const struct store *store, uint32_t part); // in a record, aligned
uint64_t store_record_bytes(const struct store *store);
const char *store_identity(const struct store *store);

// ---- records

// False where the key has no record.
bool store_find(struct store *store, uint64_t key, struct store_place *out);
// The segment's file for direct access (O_DIRECT), -1 where the file system has none.
int  store_fd_direct(struct store *store, const struct store_place *place);
// A free place for a new version of a key that will hold `parts` (bits), with room reserved on the
// disk: a full disk is said here, in one line, and nothing is changed.
bool store_place(struct store *store, uint64_t key, uint32_t parts, struct store_place *out);
// All bytes are written: from now on this is the key's record. `place->sum` has the checksums.
void store_written(struct store *store, const struct store_place *place);
// It could not be written: the place is free again, the key's record what it was.
void store_drop(struct store *store, const struct store_place *place);
void store_forget(struct store *store, uint64_t key); // the key has no record any more
uint64_t store_checksum(const void *data, uint64_t bytes);
// Whether these bytes of a part are what was written. False after one line.
bool store_verify(const struct store *store, const struct store_place *place, uint32_t part,
                  const void *data);

// Plain calls that wait, through the page cache: what tools and tests use. `record` is a whole one
// (store_record_bytes); of `parts` those that the place holds are read, checked, and returned in
// *held (may be NULL); the others' bytes stay. A key without a record holds none.
bool store_read(struct store *store, uint64_t key, uint32_t parts, void *record, uint32_t *held);
bool store_write(struct store *store, uint64_t key, uint32_t parts, const void *record);

// ---- commits

// Syncs the segments and writes manifest and index into `folder`, in place of an older one of the
// same name if there is one: whoever opens the manifest sees the old one or the new one. False
// after one line; the store goes on, the older commit stays usable.
bool store_commit(struct store *store, const char *folder);
// From now on exactly these manifests are kept (and the store as it stands): what only others named
// becomes free, unless someone reads. Called once the folder of the commit has its final name and
// the dropped ones are gone.
bool store_protect(struct store *store, const char *const *manifest, uint32_t count);

struct store_stats {
    uint64_t live;     // records
    uint64_t kept;     // places that only kept manifests name (or, while someone reads, named)
    uint64_t free;     // places in the files that may be written
    uint64_t bytes;    // of the files
    uint64_t disk;     // of these, on the disk
    uint32_t segments;
};
// Host memory that the store and a commit take at most, with a record of each key.
uint64_t store_memory_bytes(const struct store *store);
struct store_stats store_stats(const struct store *store);

// Moves at most `most` records from the end of the store into free places in front of them; *moved
// 0: there is nothing to move. Their old places are free after the next commit and protect. What
// manifests kept at the opening name too stays where it is: moving would double it.
bool store_compact(struct store *store, uint32_t most, uint32_t *moved);
// Free places at the ends of segments, and segments that hold nothing, go back to the file system.
bool store_trim(struct store *store);
