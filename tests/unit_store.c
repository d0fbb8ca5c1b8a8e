// SPDX-License-Identifier: MIT
// The record store: what is written is found again, versions of commits stay apart, places are
// reused only when nobody names them, damage is refused in one line that says where.
#include "tests/unit_store.h"

#include <errno.h>
#include <fcntl.h>

#include "runtime/checksum.h"
#ifdef HAVE_EXPORT
#include <xxhash.h>
#endif

static struct store *open_commit(const char *folder, bool writable)
{
    const struct store_params params = store_test_params();
    char path[9000];
    snprintf(path, sizeof path, "%s/experts.json", unit_path(folder));
    return store_open(path, &params, writable);
}

static struct store *make_store(void)
{
    const struct store_params params = store_test_params();
    struct store *store = store_create(&params);
    assert_non_null(store);
    return store;
}

static void test_checksum(void **state)
{
    (void)state;
    uint8_t data[200];
    assert_true(checksum_xxh64("", 0) == 0xEF46DB3751D8E999u); // the specification's
    assert_true(checksum_xxh64("abc", 3) == 0x44BC2CF5AD770999u);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 11);
#ifdef HAVE_EXPORT
    for (size_t n = 0; n < sizeof data; n++)
        assert_true(checksum_xxh64(data + n % 3, n - n % 3) == XXH64(data + n % 3, n - n % 3, 0));
#endif
}

static void test_round_trip(void **state)
{
    (void)state;
    struct store *store = make_store();
    struct store_place place;
    assert_int_equal(store_record_bytes(store), RECORD);
    assert_int_equal(store_part_offset(store, 1), 8192);
    assert_false(store_find(store, 5, &place));
    for (uint32_t key = 0; key < KEYS; key += 2) put_record(store, key, 1 + key);
    assert_true(store_commit(store, make_folder("commit")));
    put_record(store, 4, 99); // not committed: lost
    store_close(&store);
    for (int writable = 0; writable < 2; writable++) {
        store = open_commit("commit", writable);
        assert_non_null(store);
        assert_string_equal(store_identity(store), identity);
        for (uint32_t key = 0; key < KEYS; key++)
            assert_true(record_is(store, key, key % 2 ? 0 : 1 + key));
        assert_int_equal(store_stats(store).live, 12);
        assert_int_equal(store_stats(store).segments, 3);
        store_close(&store);
    }
    unit_assert_silent();
}

// Weights alone, then with state; a part that is not held leaves the caller's bytes.
static void test_parts(void **state)
{
    (void)state;
    uint8_t record[RECORD], found[RECORD];
    uint32_t held;
    struct store *store = make_store();
    record_fill(record, 3, 1);
    assert_true(store_write(store, 3, 1, record));
    memset(found, 0x5a, sizeof found);
    assert_true(store_read(store, 3, ALL, found, &held));
    assert_int_equal(held, 1);
    assert_memory_equal(found, record, WEIGHTS);
    for (uint32_t i = 8192; i < RECORD; i++) assert_int_equal(found[i], 0x5a);
    assert_true(store_commit(store, make_folder("commit")));
    store_close(&store);
    assert_non_null(store = open_commit("commit", true));
    assert_true(store_read(store, 3, ALL, found, &held));
    assert_int_equal(held, 1);
    put_record(store, 3, 2);
    assert_true(record_is(store, 3, 2));
    store_forget(store, 3);
    assert_true(record_is(store, 3, 0));
    store_close(&store);
}

// A commit's bytes stay as long as it is kept; then its places are used again and the files do not
// grow.
static void test_kept(void **state)
{
    (void)state;
    struct store *store = make_store();
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 1);
    assert_true(store_commit(store, make_folder("a")));
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 2);
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 3); // places of 2 are reused
    assert_true(store_stats(store).bytes <= (2 * KEYS + 1) * (uint64_t)RECORD);
    assert_true(store_commit(store, make_folder("b")));
    for (uint32_t key = 0; key < 5; key++) put_record(store, key, 4);

    struct store *old = open_commit("a", false), *next = open_commit("b", false);
    assert_true(old && next);
    for (uint32_t key = 0; key < KEYS; key++)
        assert_true(record_is(old, key, 1) && record_is(next, key, 3));
    const char *b = unit_path("b/experts.json");
    assert_true(store_protect(store, &b, 1)); // someone reads: nothing becomes free
    const uint64_t bytes = store_stats(store).bytes;
    assert_int_equal(store_stats(store).free, 0);
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 5);
    for (uint32_t key = 0; key < KEYS; key++)
        assert_true(record_is(old, key, 1) && record_is(next, key, 3));
    store_close(&old), store_close(&next);

    assert_true(store_protect(store, &b, 1)); // the places of a, and those of 4
    assert_true(store_stats(store).free >= KEYS);
    const uint64_t before = store_stats(store).bytes;
    assert_true(before > bytes);
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 6);
    assert_int_equal(store_stats(store).bytes, before);
    assert_non_null(next = open_commit("b", false));
    for (uint32_t key = 0; key < KEYS; key++)
        assert_true(record_is(next, key, 3) && record_is(store, key, 6));
    store_close(&next), store_close(&store);
    unit_assert_silent();
}

// A commit into the folder of an older one replaces it in one step.
static void test_commit_again(void **state)
{
    (void)state;
    struct store *store = make_store();
    for (uint32_t version = 1; version < 5; version++) {
        put_record(store, version, version);
        assert_true(store_commit(store, make_folder("commit")));
        struct store *reader = open_commit("commit", false);
        assert_non_null(reader);
        assert_int_equal(store_stats(reader).live, version);
        store_close(&reader);
        assert_int_equal(access(unit_path("commit/experts.index"), F_OK) == 0, version % 2);
        assert_int_equal(access(unit_path("commit/experts.1.index"), F_OK) == 0, !(version % 2));
    }
    store_close(&store);
}

static bool folders_fail, files_fail;

static int sync_files(void *user, int fd)
{
    struct stat info;
    (void)user;
    const bool fails = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) ? folders_fail : files_fail;
    if (!fails) return fsync(fd);
    errno = EIO;
    return -1;
}

// A store whose syncs may fail: record 1 is committed once and has changed since.
static struct store *make_between_commits(struct os_file *file)
{
    struct store_params params = store_test_params();
    *file = os_file_system;
    file->sync = sync_files;
    params.file = file;
    struct store *store = store_create(&params);
    assert_non_null(store);
    put_record(store, 1, 1);
    assert_true(store_commit(store, make_folder("commit")));
    put_record(store, 1, 2);
    return store;
}

// A commit that fails behind its rename may be the one that is found: its bytes stay too.
static void test_commit_unsynced(void **state)
{
    (void)state;
    struct os_file file;
    struct store *store = make_between_commits(&file);
    folders_fail = true;
    assert_false(store_commit(store, unit_path("commit")));
    unit_assert_line("commit", "sync the folder");
    folders_fail = false;
    for (uint32_t version = 3; version < 6; version++) put_record(store, 1, version);
    store_close(&store);
    assert_non_null(store = open_commit("commit", false));
    assert_true(record_is(store, 1, 2));
    store_close(&store);
}

// After a sync of a segment that failed no later one is believed: what was committed before stays.
static void test_commit_lost(void **state)
{
    (void)state;
    struct os_file file;
    struct store *store = make_between_commits(&file);
    files_fail = true;
    assert_false(store_commit(store, unit_path("commit")));
    unit_assert_line("segment", "sync");
    files_fail = false;
    for (uint32_t i = 0; i < 2; i++) {
        assert_false(store_commit(store, unit_path("commit")));
        unit_assert_line("segment", "a sync failed before");
    }
    store_close(&store);
    assert_non_null(store = open_commit("commit", false));
    assert_true(record_is(store, 1, 1));
    store_close(&store);
}

static void test_compact(void **state)
{
    (void)state;
    struct store *store = make_store();
    const char *const folder = make_folder("commit"),
               *const path = unit_path("commit/experts.json");
    for (uint32_t round = 1; round < 4; round++)
        for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, round);
    for (uint32_t key = 0; key < KEYS; key++)
        if (key % 5) store_forget(store, key);
    assert_true(store_commit(store, folder));
    uint32_t moved, all = 0;
    do {
        assert_true(store_compact(store, 2, &moved));
        assert_true(moved <= 2);
        all += moved;
    } while (moved);
    assert_true(all > 0);
    assert_true(store_commit(store, folder) && store_protect(store, &path, 1) &&
                store_trim(store));
    const struct store_stats stats = store_stats(store);
    assert_int_equal(stats.live, 5);
    assert_int_equal(stats.bytes, 5 * RECORD);
    assert_int_equal(stats.free, 0);
    for (uint32_t key = 0; key < KEYS; key++) assert_true(record_is(store, key, key % 5 ? 0 : 3));
    store_close(&store);
    assert_non_null(store = open_commit("commit", false));
    for (uint32_t key = 0; key < KEYS; key++) assert_true(record_is(store, key, key % 5 ? 0 : 3));
    store_close(&store);
    unit_assert_silent();
}

static void test_two_writers(void **state)
{
    (void)state;
    struct store *store = make_store();
    const struct store_params params = store_test_params();
    assert_null(store_create(&params));
    unit_assert_line("records", "process");
    store_close(&store);
}

// What a run left that was killed before its commit: places behind, and whole segments.
static void test_unfinished(void **state)
{
    (void)state;
    struct store *store = make_store();
    for (uint32_t key = 0; key < 6; key++) put_record(store, key, 1);
    assert_true(store_commit(store, make_folder("commit")));
    for (uint32_t key = 0; key < 9; key++) put_record(store, key, 2);
    store_close(&store);
    assert_int_equal(access(unit_path("records/segment-00000004.bin"), F_OK), 0);
    assert_non_null(store = open_commit("commit", true));
    assert_true(access(unit_path("records/segment-00000004.bin"), F_OK) != 0);
    assert_int_equal(store_stats(store).bytes, 6 * RECORD);
    for (uint32_t key = 0; key < KEYS; key++) assert_true(record_is(store, key, key < 6));
    store_close(&store);
    store = make_store(); // nothing is kept: nothing stays
    assert_int_equal(store_stats(store).segments, 0);
    store_close(&store);
}

// Left by a run of another size, whose segments would be too long for this one.
static void test_unfinished_of_another(void **state)
{
    (void)state;
    struct store *store = make_store();
    store_close(&store);
    for (int writable = 0; writable < 2; writable++) {
        unit_write_text("records/segment-00000002.bin", "x");
        assert_int_equal(truncate(unit_path("records/segment-00000002.bin"), 9 * RECORD + 7), 0);
        store = writable ? open_commit("commit", true) : make_store();
        assert_non_null(store);
        assert_true(access(unit_path("records/segment-00000002.bin"), F_OK) != 0);
        put_record(store, 1, 1);
        assert_true(store_commit(store, make_folder("commit")));
        assert_true(record_is(store, 1, 1));
        store_close(&store);
    }
    const struct store_params params = store_test_params();
    struct store_params kept = params;
    const char *const path = unit_path("commit/experts.json");
    kept.kept = &path, kept.kept_count = 1;
    assert_int_equal(truncate(unit_path("records/segment-00000001.bin"), 5 * RECORD), 0);
    assert_null(store_create(&kept)); // a manifest names what lies in it
    unit_assert_line("segment-00000001.bin", "oversized");
}

// ---- refusals

static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 4, file);
    fclose(file);
}

static void make_commit(void)
{
    struct store *store = make_store();
    for (uint32_t key = 0; key < 10; key++) put_record(store, key, 1);
    assert_true(store_commit(store, make_folder("commit")));
    store_close(&store);
}

// The manifest with a text replaced and its checksum put right.
static void edit_manifest(const char *old, const char *with)
{
    size_t bytes;
    char *text = unit_read(unit_path("commit/experts.json"), &bytes), *at = strstr(text, old);
    char out[8192];
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, with, at + strlen(old));
    char *line = strrchr(out, ',') + 2;
    assert_memory_equal(line, "  \"xxh64\"", 9);
    snprintf(line, 40, "  \"xxh64\": \"%016llx\"\n}\n",
             (unsigned long long)checksum_xxh64(out, (size_t)(line - out)));
    unit_write_text("commit/experts.json", out);
    free(text);
}

static void test_manifest(void **state)
{
    (void)state;
    static const struct { const char *old, *with, *says; } cases[] = {
        {"\"version\": 1", "\"version\": 2", "version 2"},
        {"vkmoe store", "safetensors", "format"},
        {"hidden_size 64", "hidden_size 65", "found \"hidden_size 65\", wanted \"hidden_size 64\""},
        {"\"keys\": 23", "\"keys\": 24", "24 keys, wanted 23"},
        {"\"keys\": 23", "\"keys\": 2.5", "keys"},
        {"\"bytes\": 9001", "\"bytes\": 9002", "state of 9002 bytes, wanted state of 9001"},
        {"\"bytes\": 9001", "\"bytes\": 90010", "record_bytes"},
        {"segment-00000002.bin", "segment-00000001.bin", "stands there twice: overlapping"},
        {"segment-00000002.bin", "../ment-00000002.bin", "no name of a segment"},
        {"segment-00000003.bin", "segment-00000007.bin", "segment 3 is not in the manifest"},
        {"\"records\": 4}", "\"records\": 5}", "oversized"},
        {"\"records\": 2}", "\"records\": 1}", "record 1 of segment 3, which has 1"},
        {"\"records\": 10,", "\"records\": 9,", "bytes"},
        {"experts.index", "/etc/passwd", "plain file name"},
        {"experts.index", "experts.indey", "experts.indey"},
        {"\"segments\": [", "\"segments\": 7, \"s\": [", "segments"},
        {"\"identity\": [", "\"identity\": [3, ", "identity"},
    };
    make_commit();
    size_t bytes;
    char *good = unit_read(unit_path("commit/experts.json"), &bytes);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int writable = 0; writable < 2; writable++) {
            unit_write("commit/experts.json", good, bytes);
            edit_manifest(cases[i].old, cases[i].with);
            assert_null(open_commit("commit", writable));
            unit_assert_line("experts.", cases[i].says);
        }
    for (size_t cut = 0; cut < bytes; cut += 13) {
        unit_write("commit/experts.json", good, cut);
        assert_null(open_commit("commit", false));
        unit_assert_line("experts.json", "cut short");
    }
    for (long at = 0; at < (long)bytes - 3; at += 7) {
        unit_write("commit/experts.json", good, bytes);
        flip(unit_path("commit/experts.json"), at);
        assert_null(open_commit("commit", false));
        unit_assert_line("experts.json", "");
    }
    free(good);
}

static void test_files(void **state)
{
    (void)state;
    struct store *store;
    uint8_t record[RECORD];
    make_commit();
    flip(unit_path("commit/experts.index"), 100);
    assert_null(open_commit("commit", false));
    unit_assert_line("experts.index", "damaged");
    flip(unit_path("commit/experts.index"), 100);
    assert_int_equal(truncate(unit_path("commit/experts.index"), 50), 0);
    assert_null(open_commit("commit", true));
    unit_assert_line("experts.index", "cut short");
    remove(unit_path("commit/experts.index"));
    assert_null(open_commit("commit", true));
    unit_assert_line("experts.index", "no such file");

    make_commit();
    flip(unit_path("records/segment-00000002.bin"), 1 * RECORD + 8192 + 77);
    assert_non_null(store = open_commit("commit", false));
    assert_true(record_is(store, 4, 1));
    assert_false(store_read(store, 5, ALL, record, NULL));
    unit_assert_line("segment-00000002.bin: key 5 at byte 28672: its state", "damaged");
    assert_true(store_read(store, 5, 1, record, NULL)); // its weights are good
    store_close(&store);
    for (int writable = 0; writable < 2; writable++) {
        make_commit();
        assert_int_equal(truncate(unit_path("records/segment-00000003.bin"), 2 * RECORD - 1), 0);
        assert_null(open_commit("commit", writable));
        unit_assert_line("segment-00000003.bin", "cut short");
        assert_int_equal(truncate(unit_path("records/segment-00000003.bin"), 5 * RECORD), 0);
        assert_null(open_commit("commit", writable));
        unit_assert_line("segment-00000003.bin", "oversized");
        remove(unit_path("records/segment-00000003.bin"));
        assert_null(open_commit("commit", writable));
        unit_assert_line("segment-00000003.bin", "missing");
    }
    assert_null(open_commit("nowhere", false));
    unit_assert_line("nowhere/experts.json", "no such file");
    unit_write_text("file", "x");
    struct store_params params = store_test_params();
    params.folder = unit_path("file");
    assert_null(store_create(&params));
    unit_assert_line("file", "folder");
}

// A kept manifest that cannot be read stops the writer: it must not write over what it names.
static void test_kept_is_read(void **state)
{
    (void)state;
    make_commit();
    struct store_params params = store_test_params();
    const char *const kept = unit_path("commit/experts.json");
    params.kept = &kept;
    params.kept_count = 1;
    flip(unit_path("commit/experts.index"), 100);
    assert_null(store_create(&params));
    unit_assert_line("experts.index", "damaged");
    flip(unit_path("commit/experts.index"), 100);
    struct store *store = store_create(&params), *reader;
    assert_non_null(store);
    assert_int_equal(store_stats(store).kept, 10);
    for (uint32_t key = 0; key < KEYS; key++) put_record(store, key, 2);
    assert_non_null(reader = open_commit("commit", false));
    for (uint32_t key = 0; key < 10; key++) assert_true(record_is(reader, key, 1));
    store_close(&reader), store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(test_checksum), UNIT(test_round_trip), UNIT(test_parts), UNIT(test_kept),
        UNIT(test_commit_again), UNIT(test_commit_unsynced),
        UNIT(test_commit_lost), UNIT(test_compact),
        UNIT(test_two_writers), UNIT(test_unfinished), UNIT(test_unfinished_of_another),
        UNIT(test_manifest), UNIT(test_files), UNIT(test_kept_is_read)};
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
