// SPDX-License-Identifier: MIT
// The record store against the end of the process at any call and at any moment, full disks, bad
// sectors, short reads and writes, flipped and missing bytes. Steps write records and commit with
// checkpoints, as a training run does; what a record holds follows from its key and the step that
// wrote it, so each checkpoint can be compared whole.
#include "tests/unit_store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "runtime/os.h"
#include "src/checkpoint.h"

enum { KEEP = 2, EVERY = 3 }; // checkpoints kept; steps between them

// ---- a system that fails

enum mode {
    FAIL_NEVER,
    FAIL_FULL,  // from call `at` on what needs room says ENOSPC
    FAIL_ONCE,  // call `at` says EIO
    FAIL_SHORT, // reads and writes do a part, and are interrupted
    FAIL_DIE,   // call `at` is the last one, half done
};

static struct { enum mode mode; uint64_t calls, at; } faults;

static bool now(bool needs_room)
{
    const uint64_t call = faults.calls++;
    switch (faults.mode) {
    case FAIL_FULL: errno = ENOSPC; return needs_room && call >= faults.at;
    case FAIL_ONCE: errno = EIO; return call == faults.at;
    case FAIL_DIE: if (call == faults.at) _exit(9); return false;
    case FAIL_NEVER: case FAIL_SHORT: break;
    }
    return false;
}

static size_t part(size_t bytes)
{
    const bool dies = faults.mode == FAIL_DIE && faults.calls == faults.at;
    if (faults.mode != FAIL_SHORT && !dies) return bytes;
    return 1 + (size_t)rng_below(1, 2, faults.calls, bytes);
}

static ssize_t fault_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    const size_t some = part(bytes);
    if (now(false)) return -1;
    if (faults.mode == FAIL_SHORT && faults.calls % 5 == 0) return errno = EINTR, -1;
    return os_file_system.read(user, fd, data, some, offset);
}

static ssize_t fault_write(void *user, int fd, const void *data, size_t bytes, uint64_t offset)
{
    const size_t some = part(bytes);
    ssize_t put = -1;
    if (some < bytes) put = os_file_system.write(user, fd, data, some, offset); // then it dies
    if (now(true)) return -1;
    if (faults.mode == FAIL_SHORT && faults.calls % 5 == 0) return errno = EINTR, -1;
    return some < bytes ? put : os_file_system.write(user, fd, data, bytes, offset);
}

static int fault_open(void *user, const char *path, int flags)
{
    return now(flags & O_CREAT) ? -1 : os_file_system.open(user, path, flags);
}

static int fault_close(void *user, int fd)
{
    const int closed = os_file_system.close(user, fd); // as the system: closed even where it fails
    return now(false) ? -1 : closed;
}

static int fault_sync(void *user, int fd)
{
    return now(false) ? -1 : os_file_system.sync(user, fd);
}

static int fault_reserve(void *user, int fd, uint64_t offset, uint64_t bytes)
{
    return now(true) ? -1 : os_file_system.reserve(user, fd, offset, bytes);
}

static int fault_resize(void *user, int fd, uint64_t bytes)
{
    return now(false) ? -1 : os_file_system.resize(user, fd, bytes);
}

static int fault_rename(void *user, const char *from, const char *to)
{
    return now(true) ? -1 : os_file_system.rename(user, from, to);
}

static int fault_remove(void *user, const char *path)
{
    return now(false) ? -1 : os_file_system.remove(user, path);
}

static const struct os_file faulty = {
    .open = fault_open, .close = fault_close, .read = fault_read, .write = fault_write,
    .sync = fault_sync, .reserve = fault_reserve, .resize = fault_resize,
    .rename = fault_rename, .remove = fault_remove,
};

static void set_faults(enum mode mode, uint64_t at)
{
    faults.mode = mode;
    faults.at = at;
    faults.calls = 0;
}

// ---- a run

static bool is_written(uint64_t key, uint64_t step) { return (key * 7 + step * 5) % 11 < 3; }

static uint64_t version_at(uint64_t key, uint64_t step)
{
    while (step && !is_written(key, step)) step--;
    return step;
}

struct run {
    struct checkpoint *folder;
    struct store      *store;
    uint64_t           step;
};

static uint32_t manifests(char path[KEEP + 1][9000], const char *list[KEEP + 1])
{
    uint64_t step[KEEP + 1];
    const uint32_t count = checkpoint_list(unit_folder, step, KEEP + 1);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(path[i], sizeof path[i], "%s/checkpoint-%08llu/experts.json", unit_folder,
                 (unsigned long long)step[i]);
        list[i] = path[i];
    }
    return count;
}

static bool open_run(struct run *run)
{
    static char path[KEEP + 1][9000];
    const char *list[KEEP + 1];
    struct store_params params = store_test_params();
    *run = (struct run){.folder = checkpoint_open_keeping(unit_folder, KEEP)};
    params.file = &faulty;
    params.kept = list;
    if (!run->folder) return false;
    const uint32_t count = manifests(path, list);
    params.kept_count = count ? count - 1 : 0;
    struct checkpoint_found found = {0};
    checkpoint_find(unit_folder, &found);
    run->step = found.step;
    run->store = count ? store_open(list[count - 1], &params, true) : store_create(&params);
    return run->store != NULL;
}

static void close_run(struct run *run)
{
    store_close(&run->store);
    checkpoint_close(&run->folder);
}

static bool write_records(struct run *run)
{
    uint8_t record[RECORD];
    for (uint64_t key = 0; key < KEYS; key++) {
        if (!is_written(key, run->step)) continue;
        record_fill(record, key, run->step);
        if (!store_write(run->store, key, ALL, record)) return false;
    }
    return true;
}

static bool save(struct run *run)
{
    static char path[KEEP + 1][9000];
    const char *list[KEEP + 1];
    if (!checkpoint_begin(run->folder, run->step)) return false;
    char *folder = os_strdup(checkpoint_path(run->folder, "."));
    const bool written = store_commit(run->store, folder);
    free(folder);
    if (!written) {
        checkpoint_abort(run->folder);
        return false;
    }
    return checkpoint_commit(run->folder) &&
           store_protect(run->store, list, manifests(path, list)) && store_trim(run->store);
}

static bool run_step(struct run *run)
{
    uint32_t moved;
    run->step++;
    if (!write_records(run) || !store_compact(run->store, 2, &moved)) {
        run->step--; // its records are written again
        return false;
    }
    return run->step % EVERY != 0 || save(run);
}

static bool run_steps(struct run *run, uint32_t count)
{
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++) ok = run_step(run);
    return ok;
}

// Every kept checkpoint opens, and holds what it held. Returns the newest one's step.
static uint64_t check_all(void)
{
    uint64_t step[KEEP + 2] = {0};
    const struct store_params params = store_test_params();
    const uint32_t count = checkpoint_list(unit_folder, step, KEEP + 2);
    assert_true(count <= KEEP + 1); // one more until the next open cleans up
    for (uint32_t i = 0; i < count; i++) {
        char path[9000];
        snprintf(path, sizeof path, "%s/checkpoint-%08llu/experts.json", unit_folder,
                 (unsigned long long)step[i]);
        struct store *store = store_open(path, &params, false);
        if (!store) fail_msg("%s", unit_log.last);
        for (uint64_t key = 0; key < KEYS; key++)
            if (!record_is(store, key, version_at(key, step[i])))
                fail_msg("step %llu, key %llu: %s", (unsigned long long)step[i],
                         (unsigned long long)key, unit_log.last);
        store_close(&store);
    }
    return count ? step[count - 1] : 0;
}

// ---- tests

// The process ends in the middle of its n-th call, for all n of a run of seven steps.
static void test_die_at_call(void **state)
{
    (void)state;
    uint64_t n = 0, newest = 0;
    int status = 9;
    for (; status == 9; n++) {
        const pid_t child = fork();
        if (child == 0) {
            struct run run;
            log_set(NULL, NULL, LOG_ERROR);
            set_faults(FAIL_DIE, n % 150);
            const bool ok = open_run(&run) && run_steps(&run, 2 * EVERY + 1);
            _exit(ok ? 0 : 1);
        }
        int wait;
        assert_int_equal(waitpid(child, &wait, 0), child);
        assert_true(WIFEXITED(wait));
        status = n < 300 ? 9 : WEXITSTATUS(wait); // again and again, from where it was
        assert_true(WEXITSTATUS(wait) == 9 || WEXITSTATUS(wait) == 0);
        const uint64_t step = check_all();
        assert_true(step >= newest && step % EVERY == 0);
        newest = step;
        if (n >= 300) break;
    }
    assert_true(newest >= 6);
    unit_assert_silent();
}

static void run_until_killed(void)
{
    struct run run;
    log_set(NULL, NULL, LOG_ERROR);
    if (!open_run(&run)) _exit(1);
    while (run_step(&run)) {}
    _exit(2);
}

// kill -9 from outside, at 50 random moments; the time they lie in grows while nothing is committed
// and shrinks otherwise, so that a busy machine gets somewhere too.
static void test_kill(void **state)
{
    (void)state;
    struct run run;
    uint64_t newest = 9, ahead = 0;
    set_faults(FAIL_NEVER, 0);
    const double began = os_seconds();
    assert_true(open_run(&run) && run_steps(&run, 10));
    close_run(&run);
    double most = os_seconds() - began;
    for (uint32_t i = 0; i < 50 || ahead < 10; i++) {
        const pid_t child = fork();
        if (child == 0) run_until_killed();
        usleep((useconds_t)(2e6 * most * rng_uniform(3, 4, i)));
        kill(child, SIGKILL);
        int wait;
        assert_int_equal(waitpid(child, &wait, 0), child);
        assert_true(WIFSIGNALED(wait));
        const uint64_t step = check_all();
        assert_true(step >= newest && step % EVERY == 0);
        ahead += step > newest;
        most *= step > newest ? 0.9 : 1.1;
        newest = step;
    }
    unit_assert_silent();
}

// To the next but one checkpoint; where a sync failed before, from the last one on.
static void go_on(struct run *run)
{
    if (!run_steps(run, (uint32_t)(2 * EVERY - run->step % EVERY))) {
        unit_assert_line("segment", "a sync failed before");
        close_run(run);
        assert_true(open_run(run) && run_steps(run, 2 * EVERY));
    }
    assert_int_equal(check_all(), run->step);
}

// The n-th call fails: one line, the checkpoints stay, and the same store goes on when it can.
static void fail_each(enum mode mode)
{
    struct run run;
    bool reached = true; // the run came so far
    uint64_t failed = 0;
    set_faults(FAIL_NEVER, 0);
    assert_true(open_run(&run) && run_steps(&run, 2 * EVERY));
    for (uint64_t n = 0; reached; n++) {
        const uint64_t before = run.step;
        set_faults(mode, n);
        const bool ok = run_steps(&run, EVERY);
        reached = faults.calls > n;
        failed += !ok;
        if (!ok) assert_int_equal(unit_log.lines, 1);
        unit_log.lines = 0;
        set_faults(FAIL_NEVER, 0);
        assert_true(check_all() + 2 * EVERY >= before);
        go_on(&run);
        unit_assert_silent();
    }
    assert_true(failed > 20);
    // opening fails the same way
    close_run(&run);
    reached = true;
    for (uint64_t n = 0; reached; n++) {
        set_faults(mode, n);
        const bool ok = open_run(&run);
        reached = faults.calls > n;
        if (!ok) assert_int_equal(unit_log.lines, 1);
        unit_log.lines = 0;
        set_faults(FAIL_NEVER, 0);
        close_run(&run);
        check_all();
    }
}

static void test_full(void **state)
{
    (void)state;
    fail_each(FAIL_FULL);
}

static void test_bad_sector(void **state)
{
    (void)state;
    fail_each(FAIL_ONCE);
}

static void test_short(void **state)
{
    (void)state;
    struct run run;
    set_faults(FAIL_SHORT, 0);
    assert_true(open_run(&run) && run_steps(&run, 4 * EVERY));
    close_run(&run);
    assert_int_equal(check_all(), 4 * EVERY);
    assert_true(open_run(&run) && run_steps(&run, EVERY));
    close_run(&run);
    set_faults(FAIL_NEVER, 0);
    assert_int_equal(check_all(), 5 * EVERY);
    unit_assert_silent();
}

// One flipped byte anywhere in the segments: at most one record is refused, by name; the others are
// what they were. In the manifest or the index: refused.
static void test_flip(void **state)
{
    (void)state;
    struct run run;
    struct checkpoint_found found;
    const struct store_params params = store_test_params();
    char manifest[9000];
    uint32_t refused = 0, unharmed = 0;
    set_faults(FAIL_NEVER, 0);
    assert_true(open_run(&run) && run_steps(&run, 5 * EVERY));
    const uint32_t segments = store_stats(run.store).segments;
    close_run(&run);
    assert_true(checkpoint_find(unit_folder, &found) && segments > 2);
    snprintf(manifest, sizeof manifest, "%s/experts.json", found.path);
    for (uint32_t i = 0; i < 50; i++) {
        char path[9000];
        struct stat info;
        uint8_t byte, bad;
        snprintf(path, sizeof path, "%s/segment-%08u.bin", unit_path("records"),
                 1 + (uint32_t)rng_below(5, 6, i, segments));
        const int fd = open(path, O_RDWR);
        if (fd < 0 || fstat(fd, &info) != 0) continue; // numbers may have gone
        const off_t at = (off_t)rng_below(7, 8, i, (uint64_t)info.st_size);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        bad = byte ^ (uint8_t)(1u << i % 8);
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        struct store *store = store_open(manifest, &params, false);
        assert_non_null(store);
        uint32_t wrong = 0;
        for (uint64_t key = 0; key < KEYS; key++)
            wrong += !record_is(store, key, version_at(key, found.step));
        store_close(&store);
        assert_int_equal(wrong, unit_log.lines);
        assert_true(wrong <= 1);
        wrong ? refused++ : unharmed++;
        unit_log.lines = 0;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_true(refused > 5 && unharmed > 5); // padding, dead places and older checkpoints
    assert_int_equal(check_all(), 5 * EVERY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {UNIT(test_die_at_call), UNIT(test_kill),
                                       UNIT(test_full),        UNIT(test_bad_sector),
                                       UNIT(test_short),       UNIT(test_flip)};
    return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
