// SPDX-License-Identifier: MIT
// The record store: opening, and the records themselves. store.h has the contract and the format,
// store_commit.c what makes it last.
#include "runtime/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/checksum.h"
#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/store_internal.h"

enum { PATH_BYTES = 4200, SEGMENT_BYTES = 1 << 30, NOT_OPENED = -1, NOT_POSSIBLE = -2 };

static bool fail(const char *what, const char *path)
{
    log_error("%s: cannot %s: %s", path, what, os_file_reason(errno));
    return false;
}

// ---- segments

void store_segment_path(const struct store *store, uint32_t number, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s/segment-%08" PRIu32 ".bin", store->folder, number);
}

struct store_segment *store_segment_find(const struct store *store, uint32_t number)
{
    uint32_t low = 0, high = store->segment_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (store->segment[middle]->number < number) low = middle + 1;
        else high = middle;
    }
    const bool found = low < store->segment_count && store->segment[low]->number == number;
    return found ? store->segment[low] : NULL;
}

void store_segment_close(struct store *store, struct store_segment **segment)
{
    struct store_segment *s = *segment;
    if (!s) return;
    if (s->fd >= 0) store->file->close(store->file->user, s->fd);
    if (s->direct >= 0) store->file->close(store->file->user, s->direct);
    free(s->state);
    free(s->key);
    free(s);
    *segment = NULL;
}

// Sorted in; numbers mostly ascend.
static void insert_segment(struct store *store, struct store_segment *segment)
{
    const uint32_t n = store->segment_count++;
    if ((n & (n - 1)) == 0) // full at each power of two
        store->segment = os_grow(store->segment, n * sizeof(void *),
                                 (n ? 2 * (size_t)n : 1) * sizeof(void *));
    uint32_t at = n;
    for (; at > 0 && store->segment[at - 1]->number > segment->number; at--)
        store->segment[at] = store->segment[at - 1];
    store->segment[at] = segment;
}

static struct store_segment *open_segment(struct store *store, uint32_t number, int flags)
{
    const struct store_geometry *g = &store->geometry;
    char path[PATH_BYTES];
    struct stat info;
    struct store_segment *s = os_alloc(sizeof *s);
    store_segment_path(store, number, path, sizeof path);
    s->number = number;
    s->direct = NOT_OPENED;
    s->fd = store->file->open(store->file->user, path, flags);
    const bool ok = (s->fd >= 0 && fstat(s->fd, &info) == 0) || fail("open", path);
    const uint64_t records = ok ? (uint64_t)info.st_size / g->record_bytes : 0;
    if (!ok) {
        store_segment_close(store, &s);
        return NULL;
    }
    s->oversized = records > g->segment_records;
    s->records = s->oversized ? g->segment_records : (uint32_t)records;
    s->state = os_alloc(g->segment_records * sizeof *s->state);
    s->key = os_alloc(g->segment_records * sizeof *s->key);
    insert_segment(store, s);
    return s;
}

bool store_segment_fits(const struct store *store, const struct store_segment *segment)
{
    const struct store_geometry *g = &store->geometry;
    char path[PATH_BYTES];
    if (!segment->oversized) return true;
    store_segment_path(store, segment->number, path, sizeof path);
    log_error("%s: oversized: at most %" PRIu64 " bytes belong to a segment of this store", path,
              g->segment_records * g->record_bytes);
    return false;
}

void store_set_state(struct store *store, struct store_segment *segment, uint32_t record,
                     uint8_t state)
{
    (void)store;
    uint8_t *const now = &segment->state[record];
    segment->used += (state != 0) - (*now != 0);
    *now = state;
    if (state == 0 && record < segment->hint) segment->hint = record;
}

// ---- opening

static struct store *make(const struct store_params *params, bool writable)
{
    struct store *store = os_alloc(sizeof *store);
    store->folder = os_strdup(params->folder);
    store->name = os_strdup(params->name);
    store->file = os_file_or_system(params->file);
    store->writable = writable;
    store->describe = params->describe;
    store->user = params->user;
    store->folder_fd = -1;
    return store;
}

// Writers hold the lock file, readers a shared lock of the folder itself, which needs no right to
// write there.
static bool lock(struct store *store)
{
    if (store->writable) {
        store->made_folder = !file_exists(store->folder);
        if (!file_make_folders(store->folder) || !(store->lock = folder_lock(store->folder)))
            return false;
    }
    store->folder_fd = open(store->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->folder_fd < 0) return fail("open the folder", store->folder);
    if (!store->writable && flock(store->folder_fd, LOCK_SH) != 0)
        log_debug("%s: not locked for reading: %s", store->folder, strerror(errno));
    return true;
}

bool store_has_readers(const struct store *store)
{
    if (flock(store->folder_fd, LOCK_EX | LOCK_NB) != 0) return errno == EWOULDBLOCK;
    flock(store->folder_fd, LOCK_UN);
    return false;
}

static void describe_key(const struct store *store, uint64_t key, char *out, size_t bytes)
{
    if (store->describe) store->describe(store->user, key, out, bytes);
    else snprintf(out, bytes, "key %" PRIu64, key);
}

static bool wanted_geometry(const struct store_params *params, struct store_geometry *out)
{
    uint64_t offset[STORE_PARTS + 1];
    *out = (struct store_geometry){.keys = params->keys, .part_count = params->part_count};
    for (uint32_t p = 0; p < params->part_count; p++) {
        out->part_bytes[p] = params->part[p].bytes;
        snprintf(out->part_name[p], sizeof out->part_name[p], "%s", params->part[p].name);
    }
    if (params->keys > STORE_MOST_KEYS || params->part_count > STORE_PARTS ||
        !store_part_offsets(out, offset)) {
        log_error("%s: %" PRIu64 " records of %" PRIu64 " bytes and more: too large for a store",
                  params->folder, params->keys, params->part[0].bytes);
        return false;
    }
    out->record_bytes = offset[STORE_PARTS];
    if (!out->record_bytes) return true; // the manifest's
    const uint64_t most = SEGMENT_BYTES / out->record_bytes;
    out->segment_records = params->segment_records ? params->segment_records
                           : most < 1              ? 1
                           : most > 65536          ? 65536
                                                   : (uint32_t)most;
    return true;
}

// The first line of `a` that `b` does not have at the same place.
static void first_difference(const char *a, const char *b, char *out, size_t bytes)
{
    while (*a || *b) {
        const char *a_end = strchrnul(a, '\n'), *b_end = strchrnul(b, '\n');
        const int a_length = (int)(a_end - a), b_length = (int)(b_end - b);
        if (a_length != b_length || memcmp(a, b, (size_t)a_length) != 0) {
            snprintf(out, bytes, "\"%.*s\", wanted \"%.*s\"", a_length, a, b_length, b);
            return;
        }
        a = a_end + (*a_end != 0);
        b = b_end + (*b_end != 0);
    }
    *out = 0;
}

bool store_same(const struct store_manifest *manifest, const char *path, const char *identity,
                const struct store_geometry *wanted)
{
    const struct store_geometry *g = &manifest->geometry;
    char difference[300] = "";
    if (identity) first_difference(manifest->identity, identity, difference, sizeof difference);
    if (!*difference && wanted->keys && wanted->keys != g->keys)
        snprintf(difference, sizeof difference, "%" PRIu64 " keys, wanted %" PRIu64, g->keys,
                 wanted->keys);
    if (!*difference && wanted->part_count > g->part_count)
        snprintf(difference, sizeof difference, "%" PRIu32 " parts, wanted %" PRIu32,
                 g->part_count, wanted->part_count);
    for (uint32_t p = 0; !*difference && p < wanted->part_count; p++) // or fewer of its parts
        if (wanted->part_bytes[p] != g->part_bytes[p] ||
            strcmp(wanted->part_name[p], g->part_name[p]) != 0)
            snprintf(difference, sizeof difference,
                     "%s of %" PRIu64 " bytes, wanted %s of %" PRIu64, g->part_name[p],
                     g->part_bytes[p], wanted->part_name[p], wanted->part_bytes[p]);
    if (!*difference) return true;
    log_error("%s: made for another config: found %s", path, difference);
    return false;
}

static void take_geometry(struct store *store, const struct store_geometry *geometry,
                          const char *identity)
{
    store->geometry = *geometry;
    store->identity = os_strdup(identity);
    store_part_offsets(geometry, store->part_offset);
    store->entry = os_alloc(geometry->keys * sizeof *store->entry);
}

static bool parse_segment_name(const char *name, uint32_t *number)
{
    char again[32];
    if (strncmp(name, "segment-", 8) != 0) return false;
    *number = (uint32_t)strtoul(name + 8, NULL, 10);
    snprintf(again, sizeof again, "segment-%08" PRIu32 ".bin", *number);
    return *number && strcmp(name, again) == 0;
}

// Writers own all that lies there.
static bool open_all_segments(struct store *store)
{
    struct folder folder;
    uint32_t number;
    if (!folder_list(store->folder, &folder)) return false;
    bool ok = true;
    for (uint32_t i = 0; ok && i < folder.count; i++)
        if (!folder.entry[i].is_folder && parse_segment_name(folder.entry[i].name, &number))
            ok = open_segment(store, number, O_RDWR) != NULL;
    folder_free(&folder);
    return ok;
}

// Each segment of the manifest is there and long enough.
static bool check_segments(struct store *store, const char *path,
                           const struct store_manifest *manifest)
{
    for (uint32_t i = 0; i < manifest->segment_count; i++) {
        const struct store_manifest_segment *wanted = &manifest->segment[i];
        const struct store_segment *s = store_segment_find(store, wanted->number);
        char file[PATH_BYTES];
        store_segment_path(store, wanted->number, file, sizeof file);
        if (!s && !store->writable && file_exists(file))
            s = open_segment(store, wanted->number, O_RDONLY);
        else if (!s) log_error("%s: missing; %s names it", file, path);
        if (!s || !store_segment_fits(store, s)) return false;
        if (s->records >= wanted->records) continue;
        log_error("%s: %" PRIu32 " whole records, %s names %" PRIu32 "; was it cut short?", file,
                  s->records, path, wanted->records);
        return false;
    }
    return true;
}

static void take_entries(struct store *store, const struct store_named *named, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct store_named *n = &named[i];
        struct store_segment *s = store_segment_find(store, n->segment);
        struct store_entry *e = &store->entry[n->key];
        *e = (struct store_entry){n->segment, n->record, n->parts, {0}};
        memcpy(e->sum, n->sum, sizeof e->sum);
        const bool shared = s->state[n->record] & PLACE_KEPT;
        store_set_state(store, s, n->record,
                        PLACE_LIVE | PLACE_KEPT | (shared ? PLACE_SHARED : 0));
        s->key[n->record] = n->key;
    }
    store->live = count;
}

// Someone reads a manifest that may be dropped by now: all that is there stays.
static void keep_all(struct store *store)
{
    for (uint32_t i = 0; i < store->segment_count; i++)
        for (uint32_t r = 0; r < store->segment[i]->records; r++)
            store_set_state(store, store->segment[i], r,
                            store->segment[i]->state[r] | PLACE_KEPT);
}

// What no manifest names was left by a run that did not come to its commit.
static bool reclaim(struct store *store)
{
    const uint64_t before = store_stats(store).bytes;
    if (store_has_readers(store)) {
        keep_all(store);
        return true;
    }
    if (!store_trim(store)) return false;
    const struct store_stats now = store_stats(store);
    if (now.bytes < before || now.free)
        log_info("%s: %" PRIu64 " records, %" PRIu64 " places kept for older checkpoints, %" PRIu64
                 " free; %.1f MiB of an unfinished run reclaimed", store->folder, now.live,
                 now.kept, now.free, (double)(before - now.bytes) / (1 << 20));
    return true;
}

struct store *store_create(const struct store_params *params)
{
    struct store *store = make(params, true);
    struct store_geometry geometry;
    if (!wanted_geometry(params, &geometry) || !lock(store)) goto fail;
    take_geometry(store, &geometry, params->identity);
    if (open_all_segments(store) && store_mark_kept(store, params->kept, params->kept_count) &&
        reclaim(store))
        return store;
fail:
    store_close(&store);
    return NULL;
}

struct store *store_open(const char *path, const struct store_params *params, bool writable)
{
    struct store *store = make(params, writable);
    struct store_manifest manifest = {0};
    struct store_named *named = NULL;
    struct store_geometry wanted;
    bool ok = wanted_geometry(params, &wanted) && lock(store) &&
              (named = store_load(store->file, path, &manifest)) &&
              store_same(&manifest, path, params->identity, &wanted);
    if (ok) {
        take_geometry(store, &manifest.geometry, manifest.identity);
        ok = (!writable || open_all_segments(store)) && check_segments(store, path, &manifest);
    }
    ok = ok && (!writable || store_mark_kept(store, params->kept, params->kept_count));
    if (ok) take_entries(store, named, manifest.index_records);
    ok = ok && (!writable || reclaim(store));
    store_manifest_free(&manifest);
    free(named);
    if (!ok) store_close(&store);
    return store;
}

void store_close(struct store **store)
{
    struct store *s = *store;
    if (!s) return;
    for (uint32_t i = 0; i < s->segment_count; i++) store_segment_close(s, &s->segment[i]);
    if (s->folder_fd >= 0) close(s->folder_fd);
    folder_unlock(&s->lock);
    free(s->segment), free(s->entry);
    free(s->folder), free(s->name), free(s->identity);
    free(s);
    *store = NULL;
}

// ---- geometry

uint64_t store_keys(const struct store *store) { return store->geometry.keys; }
uint32_t store_part_count(const struct store *store) { return store->geometry.part_count; }
uint64_t store_record_bytes(const struct store *store) { return store->geometry.record_bytes; }
const char *store_identity(const struct store *store) { return store->identity; }

uint64_t store_part_bytes(const struct store *store, uint32_t part)
{
    return store->geometry.part_bytes[part];
}

uint64_t store_part_offset(const struct store *store, uint32_t part)
{
    return store->part_offset[part];
}

// ---- records

bool store_find(struct store *store, uint64_t key, struct store_place *out)
{
    const struct store_entry *e = &store->entry[key];
    if (!e->segment) return false;
    *out = (struct store_place){.key = key,
                                .segment = e->segment,
                                .record = e->record,
                                .parts = e->parts,
                                .fd = store_segment_find(store, e->segment)->fd,
                                .offset = e->record * store->geometry.record_bytes};
    memcpy(out->sum, e->sum, sizeof out->sum);
    return true;
}

int store_fd_direct(struct store *store, const struct store_place *place)
{
    struct store_segment *s = store_segment_find(store, place->segment);
    char path[PATH_BYTES];
    if (s->direct == NOT_OPENED) {
        store_segment_path(store, s->number, path, sizeof path);
        s->direct = store->file->open(store->file->user, path,
                                      (store->writable ? O_RDWR : O_RDONLY) | O_DIRECT);
        if (s->direct < 0) s->direct = NOT_POSSIBLE;
    }
    return s->direct < 0 ? -1 : s->direct;
}

struct store_segment *store_first_hole(struct store *store, uint32_t *record)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *s = store->segment[i];
        if (s->used == s->records) continue;
        while (s->state[s->hint]) s->hint++;
        *record = s->hint;
        return s;
    }
    return NULL;
}

// A hole; where there is none behind the end of a file that may grow, then in a new one.
static struct store_segment *choose(struct store *store, uint32_t *record)
{
    struct store_segment *hole = store_first_hole(store, record);
    if (hole) return hole;
    for (uint32_t i = 0; i < store->segment_count; i++)
        if (store->segment[i]->records < store->geometry.segment_records) {
            *record = store->segment[i]->records;
            return store->segment[i];
        }
    const uint32_t n = store->segment_count, last = n ? store->segment[n - 1]->number : 0;
    store->new_files = true;
    *record = 0;
    return open_segment(store, last + 1, O_RDWR | O_CREAT | O_EXCL);
}

// Room on the disk for the parts, where the file system can promise it; the file gets to hold the
// place whole.
static bool reserve(struct store *store, struct store_segment *s, uint32_t record, uint32_t parts)
{
    const struct os_file *file = store->file;
    const uint64_t size = store->geometry.record_bytes, offset = record * size;
    if (record >= s->records && file->resize(file->user, s->fd, offset + size) != 0) return false;
    for (uint32_t p = 0; p < store->geometry.part_count; p++) {
        const uint64_t begin = store->part_offset[p], bytes = store->part_offset[p + 1] - begin;
        if (!(parts >> p & 1)) continue;
        if (file->reserve(file->user, s->fd, offset + begin, bytes) == 0) continue;
        if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) break;
        const int error = errno;
        if (record >= s->records && file->resize(file->user, s->fd, s->records * size) != 0)
            log_debug("segment %" PRIu32 ": stays longer than it needs to be", s->number);
        errno = error;
        return false;
    }
    return true;
}

bool store_place(struct store *store, uint64_t key, uint32_t parts, struct store_place *out)
{
    uint32_t record;
    char path[PATH_BYTES];
    struct store_segment *s = choose(store, &record);
    if (!s) return false;
    store_segment_path(store, s->number, path, sizeof path);
    if (!reserve(store, s, record, parts)) return fail("make room for a record", path);
    if (record >= s->records) s->records = record + 1;
    store_set_state(store, s, record, PLACE_BUSY);
    *out = (struct store_place){.key = key,
                                .segment = s->number,
                                .record = record,
                                .parts = parts,
                                .fd = s->fd,
                                .offset = record * store->geometry.record_bytes};
    return true;
}

void store_forget(struct store *store, uint64_t key)
{
    struct store_entry *e = &store->entry[key];
    if (!e->segment) return;
    struct store_segment *s = store_segment_find(store, e->segment);
    store_set_state(store, s, e->record, s->state[e->record] & ~PLACE_LIVE);
    *e = (struct store_entry){0};
    store->live--;
}

void store_written(struct store *store, const struct store_place *place)
{
    struct store_segment *s = store_segment_find(store, place->segment);
    struct store_entry *e = &store->entry[place->key];
    store_forget(store, place->key);
    *e = (struct store_entry){place->segment, place->record, place->parts, {0}};
    memcpy(e->sum, place->sum, sizeof e->sum);
    store_set_state(store, s, place->record, PLACE_LIVE);
    s->key[place->record] = (uint32_t)place->key;
    s->dirty = true;
    store->live++;
}

void store_drop(struct store *store, const struct store_place *place)
{
    store_set_state(store, store_segment_find(store, place->segment), place->record, 0);
}

uint64_t store_checksum(const void *data, uint64_t bytes) { return checksum_xxh64(data, bytes); }

bool store_verify(const struct store *store, const struct store_place *place, uint32_t part,
                  const void *data)
{
    const uint64_t sum = store_checksum(data, store->geometry.part_bytes[part]);
    char path[PATH_BYTES], key[100];
    if (sum == place->sum[part]) return true;
    store_segment_path(store, place->segment, path, sizeof path);
    describe_key(store, place->key, key, sizeof key);
    log_error("%s: %s at byte %" PRIu64 ": its %s have the checksum %016" PRIx64 ", the index says "
              "%016" PRIx64 "; the file was damaged", path, key,
              place->offset + store->part_offset[part], store->geometry.part_name[part], sum,
              place->sum[part]);
    return false;
}

static bool fail_at(const struct store *store, const char *what, const struct store_place *place)
{
    const char *reason = os_file_reason(errno);
    char path[PATH_BYTES], key[100];
    store_segment_path(store, place->segment, path, sizeof path);
    describe_key(store, place->key, key, sizeof key);
    log_error("%s: cannot %s %s at byte %" PRIu64 ": %s", path, what, key, place->offset, reason);
    return false;
}

bool store_read(struct store *store, uint64_t key, uint32_t parts, void *record, uint32_t *held)
{
    struct store_place place;
    const bool found = store_find(store, key, &place);
    if (held) *held = found ? place.parts & parts : 0;
    for (uint32_t p = 0; found && p < store->geometry.part_count; p++) {
        uint8_t *at = (uint8_t *)record + store->part_offset[p];
        if (!(place.parts & parts & 1u << p)) continue;
        if (!os_file_read_all(store->file, place.fd, at, store->geometry.part_bytes[p],
                              place.offset + store->part_offset[p], NULL))
            return fail_at(store, "read", &place);
        if (!store_verify(store, &place, p, at)) return false;
    }
    return true;
}

bool store_write(struct store *store, uint64_t key, uint32_t parts, const void *record)
{
    struct store_place place;
    if (!store_place(store, key, parts, &place)) return false;
    for (uint32_t p = 0; p < store->geometry.part_count; p++) {
        const uint8_t *at = (const uint8_t *)record + store->part_offset[p];
        if (!(parts >> p & 1)) continue;
        place.sum[p] = store_checksum(at, store->geometry.part_bytes[p]);
        if (os_file_write_all(store->file, place.fd, at, store->geometry.part_bytes[p],
                              place.offset + store->part_offset[p], NULL))
            continue;
        fail_at(store, "write", &place);
        store_drop(store, &place);
        return false;
    }
    store_written(store, &place);
    return true;
}
