// SPDX-License-Identifier: MIT
// What makes the store last and keeps it small: commit (sync, then index, then manifest), protect
// (which manifests are kept), compact and trim.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/checksum.h"
#include "runtime/file.h"
#include "runtime/folder_own.h"
#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/store_internal.h"

enum { PATH_BYTES = 4200 };

static bool fail(const char *what, const char *path)
{
    log_error("%s: cannot %s: %s", path, what, os_file_reason(errno));
    return false;
}

// ---- small files, through the table

void *store_read_file(const struct os_file *file, const char *path, uint64_t most,
                      uint64_t *bytes)
{
    struct stat info;
    const int fd = file->open(file->user, path, O_RDONLY);
    uint8_t *data = NULL;
    if (fd < 0 || fstat(fd, &info) != 0) {
        fail("open", path);
    } else if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size > most) {
        log_error("%s: %lld bytes, at most %" PRIu64 " are read; is it the right file?", path,
                  (long long)info.st_size, most);
    } else {
        *bytes = (uint64_t)info.st_size;
        data = os_alloc(*bytes + 1);
        if (!os_file_read_all(file, fd, data, *bytes, 0, NULL)) {
            fail("read", path);
            free(data);
            data = NULL;
        }
    }
    if (fd >= 0) file->close(file->user, fd);
    return data;
}

static bool sync_folder(const struct os_file *file, const char *path)
{
    const int fd = file->open(file->user, path, O_RDONLY | O_DIRECTORY);
    // some file systems cannot sync a folder and say EINVAL: nothing more can be done there
    const bool ok = (fd >= 0 && (file->sync(file->user, fd) == 0 || errno == EINVAL)) ||
                    fail("sync the folder", path);
    if (fd >= 0) file->close(file->user, fd);
    return ok;
}

// Beside, synced, renamed.
static bool write_file(const struct os_file *file, const char *path, const void *data,
                       uint64_t bytes)
{
    char beside[PATH_BYTES + 8];
    snprintf(beside, sizeof beside, "%s.tmp", path);
    const int fd = file->open(file->user, beside, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0) return fail("write", path);
    bool ok = os_file_write_all(file, fd, data, bytes, 0, NULL) || fail("write", path);
    ok = ok && (file->sync(file->user, fd) == 0 || fail("sync", path));
    if (file->close(file->user, fd) != 0 && ok) ok = fail("close", path);
    if (ok) ok = file->rename(file->user, beside, path) == 0 || fail("rename the new", path);
    if (!ok) file->remove(file->user, beside);
    return ok;
}

static void beside_of(const char *path, const char *name, char *out, size_t bytes)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, bytes, "%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, name);
}

struct store_named *store_load(const struct os_file *file, const char *path,
                               struct store_manifest *manifest)
{
    char index[PATH_BYTES];
    uint64_t bytes = 0;
    void *text = store_read_file(file, path, STORE_MOST_MANIFEST, &bytes), *data = NULL;
    struct store_named *named = NULL;
    if (text && store_manifest_parse(path, text, bytes, manifest)) {
        beside_of(path, manifest->index_file, index, sizeof index);
        data = store_read_file(file, index, manifest->index_bytes + STORE_ALIGN, &bytes);
        if (data) named = store_index_parse(index, manifest, data, bytes);
        if (!named) store_manifest_free(manifest);
    }
    free(text), free(data);
    return named;
}

// ---- commit

// Linux tells of a page that could not be written once and then takes it for clean: a later sync
// that succeeds proves nothing.
static bool fail_lost(const char *path)
{
    log_error("%s: a sync failed before, so what was written to it since the last commit may be "
              "gone; end, and go on from the last checkpoint", path);
    return false;
}

static bool sync_segments(struct store *store)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *s = store->segment[i];
        char path[PATH_BYTES];
        if (!s->dirty) continue;
        store_segment_path(store, s->number, path, sizeof path);
        if (s->lost) return fail_lost(path);
        if (store->file->sync(store->file->user, s->fd) != 0) {
            s->lost = true;
            return fail("sync", path);
        }
        s->dirty = false;
    }
    if (store->new_files && !sync_folder(store->file, store->folder)) return false;
    store->new_files = false;
    return true;
}

// What the manifest says: live records, and of each segment the last of them.
static struct store_named *collect(const struct store *store, struct store_manifest *out)
{
    struct store_named *named = os_alloc((store->live + 1) * sizeof *named);
    uint64_t count = 0;
    *out = (struct store_manifest){.identity = store->identity, .geometry = store->geometry};
    out->segment = os_alloc((store->segment_count + 1) * sizeof *out->segment);
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct store_segment *s = store->segment[i];
        uint32_t records = s->records;
        while (records && !(s->state[records - 1] & PLACE_LIVE)) records--;
        if (records)
            out->segment[out->segment_count++] =
                (struct store_manifest_segment){s->number, records};
    }
    for (uint64_t key = 0; key < store->geometry.keys && count < store->live; key++) {
        const struct store_entry *e = &store->entry[key];
        if (!e->segment) continue;
        named[count] = (struct store_named){(uint32_t)key, e->segment, e->record, e->parts, {0}};
        memcpy(named[count++].sum, e->sum, sizeof e->sum);
    }
    out->index_records = count;
    return named;
}

// The older commit in this folder, if there is one, keeps its index until its manifest is replaced.
static void choose_index(const struct store *store, const char *manifest, char *now, char *before)
{
    struct store_manifest old = {0};
    uint64_t bytes;
    char *text = file_exists(manifest)
                     ? store_read_file(store->file, manifest, STORE_MOST_MANIFEST, &bytes) : NULL;
    *before = 0;
    if (text && store_manifest_parse(manifest, text, bytes, &old))
        snprintf(before, sizeof old.index_file, "%s", old.index_file);
    store_manifest_free(&old);
    free(text);
    snprintf(now, sizeof old.index_file, "%.40s.index", store->name);
    if (strcmp(now, before) == 0)
        snprintf(now, sizeof old.index_file, "%.40s.1.index", store->name);
}

static void keep_named(struct store *store, const struct store_named *named, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct store_segment *s = store_segment_find(store, named[i].segment);
        store_set_state(store, s, named[i].record, s->state[named[i].record] | PLACE_KEPT);
    }
}

// Once the manifest has its name its places are kept, even where the folder's sync fails: it may
// well be there when the folder is opened next.
static bool write_commit(struct store *store, const char *folder, struct store_manifest *manifest,
                         const struct store_named *named)
{
    char path[PATH_BYTES], index[PATH_BYTES], before[sizeof manifest->index_file];
    snprintf(path, sizeof path, "%s/%s.json", folder, store->name);
    choose_index(store, path, manifest->index_file, before);
    snprintf(index, sizeof index, "%s/%s", folder, manifest->index_file);
    void *data = store_index_print(&store->geometry, named, manifest->index_records,
                                   &manifest->index_bytes);
    manifest->index_sum = checksum_xxh64(data, manifest->index_bytes);
    char *text = store_manifest_print(manifest);
    const bool there = write_file(store->file, index, data, manifest->index_bytes) &&
                       write_file(store->file, path, text, strlen(text));
    if (there) keep_named(store, named, manifest->index_records);
    const bool ok = there && sync_folder(store->file, folder);
    if (ok && *before) {
        snprintf(index, sizeof index, "%s/%s", folder, before);
        store->file->remove(store->file->user, index);
    }
    free(data), free(text);
    return ok;
}

bool store_commit(struct store *store, const char *folder)
{
    struct store_manifest manifest;
    if (!sync_segments(store)) return false;
    struct store_named *named = collect(store, &manifest);
    const bool ok = write_commit(store, folder, &manifest, named);
    free(manifest.segment);
    free(named);
    return ok;
}

// ---- protect

static bool mark_one(struct store *store, const char *path)
{
    struct store_manifest manifest;
    struct store_named *named = store_load(store->file, path, &manifest);
    if (!named) return false;
    bool ok = store_same(&manifest, path, store->identity, &store->geometry);
    for (uint64_t i = 0; ok && i < manifest.index_records; i++) {
        struct store_segment *s = store_segment_find(store, named[i].segment);
        if (s && !store_segment_fits(store, s)) {
            ok = false;
            break;
        }
        if (s && named[i].record < s->records) {
            store_set_state(store, s, named[i].record, s->state[named[i].record] | PLACE_KEPT);
            continue;
        }
        log_error("%s: record %" PRIu32 " of segment %" PRIu32 " is missing in %s", path,
                  named[i].record, named[i].segment, store->folder);
        ok = false;
    }
    store_manifest_free(&manifest);
    free(named);
    return ok;
}

bool store_mark_kept(struct store *store, const char *const *manifest, uint32_t count)
{
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++) ok = mark_one(store, manifest[i]);
    return ok;
}

// Bits of all places: those of `from` become `to`.
static void move_bits(struct store *store, uint8_t from, uint8_t to)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *s = store->segment[i];
        for (uint32_t r = 0; r < s->records; r++)
            if (s->state[r] & from) store_set_state(store, s, r, (s->state[r] & ~from) | to);
    }
}

bool store_protect(struct store *store, const char *const *manifest, uint32_t count)
{
    move_bits(store, PLACE_KEPT, PLACE_WAS_KEPT);
    move_bits(store, PLACE_SHARED, 0);
    const bool ok = store_mark_kept(store, manifest, count);
    // someone who reads may read what is dropped now
    move_bits(store, PLACE_WAS_KEPT, ok && !store_has_readers(store) ? 0 : PLACE_KEPT);
    return ok;
}

// ---- size

struct store_stats store_stats(const struct store *store)
{
    struct store_stats stats = {.live = store->live, .segments = store->segment_count};
    for (uint32_t i = 0; i < store->segment_count; i++) {
        const struct store_segment *s = store->segment[i];
        struct stat info = {0};
        for (uint32_t r = 0; r < s->records; r++)
            stats.kept += (s->state[r] & (PLACE_KEPT | PLACE_LIVE)) == PLACE_KEPT;
        stats.free += s->records - s->used;
        if (fstat(s->fd, &info) != 0) continue;
        stats.bytes += (uint64_t)info.st_size;
        stats.disk += (uint64_t)info.st_blocks * 512;
    }
    return stats;
}

uint64_t store_memory_bytes(const struct store *store)
{
    const struct store_geometry *g = &store->geometry;
    const uint64_t segments = 2 * (g->keys / g->segment_records + 1); // new and kept versions
    return g->keys * (sizeof *store->entry + sizeof(struct store_named) + store_index_entry(g)) +
           segments * g->segment_records * (sizeof(uint8_t) + sizeof(uint32_t));
}

static bool trim_segment(struct store *store, struct store_segment *s)
{
    struct stat info;
    char path[PATH_BYTES];
    store_segment_path(store, s->number, path, sizeof path);
    while (s->records && !s->state[s->records - 1]) s->records--;
    if (s->hint > s->records) s->hint = s->records;
    const uint64_t bytes = s->records * store->geometry.record_bytes;
    if (!s->records)
        return store->file->remove(store->file->user, path) == 0 || fail("remove", path);
    if (fstat(s->fd, &info) == 0 && (uint64_t)info.st_size <= bytes) return true;
    return store->file->resize(store->file->user, s->fd, bytes) == 0 || fail("shorten", path);
}

bool store_trim(struct store *store)
{
    uint32_t left = 0;
    bool ok = true;
    if (store_has_readers(store)) return true;
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *s = store->segment[i];
        ok = ok && trim_segment(store, s);
        if (ok && !s->records) store_segment_close(store, &s);
        else store->segment[left++] = s;
    }
    store->segment_count = left;
    return ok;
}

void store_discard(struct store **store, const char *const *manifest, uint32_t count)
{
    struct store *s = *store;
    if (!s) return;
    store_protect(s, manifest, count); // where one cannot be read all that was kept stays
    move_bits(s, PLACE_LIVE | PLACE_BUSY, 0);
    if (store_trim(s) && s->made_folder && s->segment_count == 0)
        folder_give_up(&s->lock, s->folder);
    store_close(store);
}

bool store_compact(struct store *store, uint32_t most, uint32_t *moved)
{
    uint8_t *record = os_alloc(store->geometry.record_bytes);
    bool ok = true;
    *moved = 0;
    for (uint32_t i = store->segment_count; ok && i-- > 0;)
        for (uint32_t r = store->segment[i]->records; ok && *moved < most && r-- > 0;) {
            const struct store_segment *s = store->segment[i];
            uint32_t hole, held;
            if ((s->state[r] & (PLACE_LIVE | PLACE_SHARED)) != PLACE_LIVE) continue;
            const struct store_segment *to = store_first_hole(store, &hole);
            if (!to || to->number > s->number || (to == s && hole > r)) goto done;
            ok = store_read(store, s->key[r], UINT32_MAX, record, &held) &&
                 store_write(store, s->key[r], held, record);
            *moved += ok;
        }
done:
    free(record);
    return ok;
}
