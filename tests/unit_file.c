// SPDX-License-Identifier: MIT
// Files are replaced whole or not at all, and each failure is one line; what the system says of
// time and memory.
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "unit.h"

#include "runtime/checksum.h"
#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/os.h"

static int entries_in(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void assert_holds(const char *path, const void *wanted, size_t bytes)
{
    void *data = NULL;
    uint64_t size = 0;
    assert_true(file_read(path, 0, &data, &size));
    assert_int_equal(size, bytes);
    assert_memory_equal(data, wanted, bytes);
    assert_int_equal(((char *)data)[bytes], 0);
    free(data);
}

static void a_file_is_written_and_read(void **state)
{
    (void)state;
    const char *path = unit_path("data");
    const size_t sizes[] = {0, 1, 4095, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3000001};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t part = 1000; part <= 1000000; part *= 1000) {
            uint8_t *data = malloc(sizes[i] + 1);
            for (size_t j = 0; j < sizes[i]; j++) data[j] = (uint8_t)(j * 31 + j / 253);
            struct file_writer *writer = file_writer_open(path);
            assert_non_null(writer);
            for (size_t at = 0; at < sizes[i]; at += part)
                assert_true(file_writer_write(writer, data + at, min_u64(part, sizes[i] - at)));
            assert_int_equal(file_writer_bytes(writer), sizes[i]);
            assert_true(file_writer_commit(&writer));
            assert_null(writer);
            assert_holds(path, data, sizes[i]);
            struct file_map map;
            assert_true(file_map(path, &map));
            assert_int_equal(map.bytes, sizes[i]);
            assert_int_equal(map.data != NULL, sizes[i] != 0);
            if (map.data) assert_memory_equal(map.data, data, sizes[i]);
            file_unmap(&map);
            assert_null(map.data);
            uint64_t size = 0;
            assert_true(file_size(path, &size));
            assert_int_equal(size, sizes[i]);
            free(data);
        }
    assert_int_equal(entries_in(unit_folder), 1);
    unit_assert_silent();
}

static void the_old_file_stays_until_commit(void **state)
{
    (void)state;
    const char *path = unit_write_text("data", "old");
    struct file_writer *writer = file_writer_open(path);
    assert_non_null(writer);
    char *large = calloc(1, 1 << 20);
    assert_true(file_writer_write(writer, large, 1 << 20));
    assert_holds(path, "old", 3);
    file_writer_abort(&writer);
    assert_null(writer);
    file_writer_abort(&writer);
    assert_holds(path, "old", 3);
    assert_int_equal(entries_in(unit_folder), 1);
    free(large);
    unit_assert_silent();
}

// A full disk, played by a limit on the size of files; in a child, since limits do not go back.
static void child_without_space(const char *path)
{
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, 100000});
    struct file_writer *writer = file_writer_open(path);
    char *large = calloc(1, 1 << 20);
    bool failed = false;
    for (int i = 0; i < 5; i++) failed |= !file_writer_write(writer, large, 1 << 20);
    const bool committed = file_writer_commit(&writer);
    free(large);
    _exit(failed && !committed && unit_log.lines == 1 && strstr(unit_log.last, path) ? 42 : 1);
}

static void a_failed_write_leaves_nothing_behind(void **state)
{
    (void)state;
    const char *path = unit_write_text("data", "old");
    const pid_t child = fork();
    if (child == 0) child_without_space(path);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_holds(path, "old", 3);
    assert_int_equal(entries_in(unit_folder), 1);
}

static void failures_are_one_line(void **state)
{
    (void)state;
    void *data;
    uint64_t bytes;
    struct file_map map;
    const char *none = unit_path("none"), *folder = unit_folder;
    const char *text = unit_write_text("text", "0123456789");
    assert_false(file_read(none, 0, &data, &bytes));
    unit_assert_line(none, "no such file");
    assert_null(data);
    assert_false(file_map(none, &map));
    unit_assert_line(none, "no such file");
    assert_false(file_map(folder, &map));
    unit_assert_line(folder, "folder");
    assert_false(file_read(folder, 0, &data, &bytes));
    unit_assert_line(folder, "folder");
    assert_false(file_read("/dev/zero", 0, &data, &bytes)); // would never end
    unit_assert_line("/dev/zero", "");
    assert_false(file_read(text, 9, &data, &bytes));
    unit_assert_line(text, "10 bytes, at most 9");
    assert_true(file_read(text, 10, &data, &bytes));
    free(data);
    assert_false(file_size(none, &bytes));
    unit_assert_line(none, "no such file");
    assert_false(file_rename(none, text));
    unit_assert_line(none, text);
    assert_null(file_writer_open(unit_path("no/folder")));
    unit_assert_line("no/folder", "no such file or folder");
    assert_false(file_make_folders(unit_path("text/below")));
    unit_assert_line("text", "");
    assert_holds(text, "0123456789", 10);
}

static void folders_are_made_with_their_parents(void **state)
{
    (void)state;
    const char *deep = unit_path("a/b/c");
    assert_true(file_make_folders(deep));
    assert_true(file_make_folders(deep));
    assert_true(file_make_folders(unit_path("a/b/d/")));
    assert_true(file_exists(unit_path("a/b/d")));
    assert_false(file_exists(unit_path("a/c")));
    unit_write_text("a/b/from", "new");
    unit_write_text("a/b/c/to", "old");
    assert_true(file_rename(unit_path("a/b/from"), unit_path("a/b/c/to")));
    assert_holds(unit_path("a/b/c/to"), "new", 3);
    assert_true(file_sync_folder(unit_path("a/b/c/to")));
    unit_assert_silent();
}

static void the_system_is_asked(void **state)
{
    (void)state;
    const uint64_t begin = os_time_ns();
    usleep(2000);
    assert_true(os_time_ns() >= begin + 2000000);
    assert_true(os_memory_bytes() > 1 << 26);
    assert_true(os_memory_limit() > 0 && os_memory_limit() <= os_memory_bytes());
    const uint64_t before = os_resident_bytes(), size = 64 << 20;
    assert_true(before > 1 << 16 && before <= os_resident_peak() && before < os_memory_bytes());
    volatile uint8_t *memory = malloc(size);
    for (uint64_t i = 0; i < size; i += 512) memory[i] = 1;
    assert_true(os_resident_bytes() >= before + size / 2);
    free((void *)memory);
    assert_true(os_resident_peak() >= before + size / 2);
}

static void what_can_be_written_is_told_silently(void **state)
{
    (void)state;
    unit_write_text("file", "");
    assert_true(folder_can_write(unit_folder) && folder_can_write(unit_path("a/b/c")));
    assert_true(folder_can_write("no-such-name-here") && folder_can_write("/"));
    assert_false(folder_can_write(unit_path("file")) || folder_can_write(unit_path("file/a")));
    assert_false(file_exists(unit_path("a")));
    unit_assert_silent();
}

static void the_cache_folder_follows_the_environment(void **state)
{
    (void)state;
    char path[4096], small[8];
    unsetenv("VKMOE_CACHE");
    setenv("HOME", "/home/somebody", 1);
    setenv("XDG_CACHE_HOME", "/somewhere", 1);
    assert_true(os_cache_folder(path, sizeof path));
    assert_string_equal(path, "/somewhere/vkmoe");
    assert_false(os_cache_folder(small, sizeof small));
    setenv("XDG_CACHE_HOME", "not/absolute", 1);
    assert_true(os_cache_folder(path, sizeof path));
    assert_string_equal(path, "/home/somebody/.cache/vkmoe");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_false(os_cache_folder(path, sizeof path));
    setenv("VKMOE_CACHE", "own/folder", 1);
    assert_true(os_cache_folder(path, sizeof path));
    assert_string_equal(path, "own/folder");
    unsetenv("VKMOE_CACHE");
}

static void an_interrupt_sets_a_flag_and_the_second_ends(void **state)
{
    (void)state;
    const pid_t child = fork();
    if (child == 0) {
        os_interrupt_catch();
        if (os_interrupted()) _exit(1);
        raise(SIGINT);
        if (!os_interrupted()) _exit(2);
        raise(SIGINT);
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + SIGINT);
}

// The values of the specification's own implementation; pieces come to what the whole does.
static void checksums_are_xxh64(void **state)
{
    (void)state;
    enum { MOST = 300 };
    uint8_t data[MOST];
    for (int i = 0; i < MOST; i++) data[i] = (uint8_t)(i * 37 + i / 8);
    assert_true(checksum_xxh64("", 0) == 0xef46db3751d8e999u);
    assert_true(checksum_xxh64("a", 1) == 0xd24ec4f1a98c6e5bu);
    assert_true(checksum_xxh64("abc", 3) == 0x44bc2cf5ad770999u);
    for (size_t bytes = 0; bytes < MOST; bytes++)
        for (size_t first = 0; first <= bytes; first += CHECKSUM_BLOCK)
            for (size_t second = first; second <= bytes; second += 3 * CHECKSUM_BLOCK) {
                struct checksum sum = checksum_begin();
                checksum_add(&sum, data, first);
                checksum_add(&sum, data + first, second - first);
                const uint64_t found = checksum_end(&sum, data + second, bytes - second);
                assert_true(found == checksum_xxh64(data, bytes));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_file_is_written_and_read),
        UNIT(the_old_file_stays_until_commit),
        UNIT(a_failed_write_leaves_nothing_behind),
        UNIT(failures_are_one_line),
        UNIT(folders_are_made_with_their_parents),
        UNIT(the_system_is_asked),
        UNIT(what_can_be_written_is_told_silently),
        UNIT(the_cache_folder_follows_the_environment),
        UNIT(an_interrupt_sets_a_flag_and_the_second_ends),
        UNIT(checksums_are_xxh64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
