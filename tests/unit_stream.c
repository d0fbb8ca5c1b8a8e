// SPDX-License-Identifier: MIT
// The stream moves the right bytes on every backend, in the order it promises, and each fault of a
// file is one clear line; no thread is left when it ends.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "unit_stream.h"

#include "runtime/os.h"

// ---- the right bytes

static void reads_bring_the_file(enum stream_backend backend, int flags)
{
    enum { BYTES = 9 * MIB + 3 * PAGE };
    const int fd = make_file("file", BYTES, 1, flags);
    const int threads = thread_base();
    struct stream *stream = make_stream(backend);
    static const size_t sizes[] = {PAGE, 3 * PAGE, MIB, MIB + PAGE, 5 * MIB + PAGE, BYTES};
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        const uint64_t count = BYTES / sizes[s];
        uint8_t *data = os_pages(BYTES);
        for (uint64_t i = 0; i < count; i++)
            submit(stream, i % 3 ? STREAM_NEEDED : STREAM_SPECULATIVE, fd, i * sizes[s], sizes[s],
                   data + i * sizes[s]);
        uint64_t ended = 0, users = 0;
        struct stream_done done;
        while (stream_next(stream, &done)) {
            assert_true(done.ok);
            assert_int_equal(done.bytes, sizes[s]);
            ended++;
            users += done.user;
        }
        assert_int_equal(ended, count);
        assert_int_equal(users, count + sizes[s] * (count * (count - 1) / 2));
        assert_bytes(data, 0, count * sizes[s], 1);
        os_pages_free(data, BYTES);
    }
    assert_false(stream_poll(stream, &(struct stream_done){0}));
    stream_destroy(&stream);
    assert_null(stream);
    assert_threads(threads);
    close(fd);
    unit_assert_silent();
}

static void every_backend_reads(void **state)
{
    (void)state;
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        reads_bring_the_file(backends[b], 0);
        reads_bring_the_file(backends[b], O_DIRECT);
    }
}

// Bytes and places that no direct access would take.
static void odd_ranges(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 31, 33, 4095, 4097, MIB - 1, MIB + 1, 2 * MIB + 7};
    const int fd = make_file("file", 3 * MIB, 2, 0);
    uint8_t *data = malloc(2 * MIB + 8);
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        struct stream *stream = make_stream(backends[b]);
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            data[sizes[s]] = 0xa5;
            const uint64_t offset = 13 * s + 5;
            assert_true(stream_wait(
                stream, submit(stream, STREAM_NEEDED, fd, offset, sizes[s], data)));
            assert_bytes(data, offset, sizes[s], 2);
            assert_int_equal(data[sizes[s]], 0xa5);
        }
        stream_destroy(&stream);
    }
    free(data);
    close(fd);
    unit_assert_silent();
}


// ---- writes, and the order of what overlaps

// Random reads and writes that overlap, none waited for: each read sees what a program that does
// one after the other would see, and so does the file in the end.
static void overlaps_are_ordered(enum stream_backend backend, int flags, uint64_t seed)
{
    enum { PAGES = 24, BYTES = PAGES * PAGE, TURNS = 300, MOST = 6 };
    const int fd = make_file("file", BYTES, 3, flags);
    struct stream *stream = stream_create(
        &(struct stream_params){.backend = backend, .part_bytes = 2 * PAGE, .depth = 8});
    assert_non_null(stream);
    uint8_t *wanted = malloc(BYTES), *after = malloc(BYTES), *memory[TURNS], *seen[TURNS] = {0};
    size_t size[TURNS];
    for (uint64_t i = 0; i < BYTES; i++) wanted[i] = byte_at(3, i);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        const uint64_t page = rng_below(seed, 0, turn, PAGES);
        const uint64_t pages = 1 + rng_below(seed, 1, turn, min_u64(MOST, PAGES - page));
        const enum stream_kind kind = (enum stream_kind)rng_below(seed, 2, turn, STREAM_KINDS);
        size[turn] = pages * PAGE;
        memory[turn] = os_pages(size[turn]);
        if (kind == STREAM_WRITE) {
            memset(memory[turn], (int)(turn % 251), size[turn]);
            memcpy(wanted + page * PAGE, memory[turn], size[turn]);
        } else {
            seen[turn] = malloc(size[turn]);
            memcpy(seen[turn], wanted + page * PAGE, size[turn]);
        }
        const uint64_t ticket = submit(stream, kind, fd, page * PAGE, size[turn], memory[turn]);
        if (turn % 50 == 49) assert_true(stream_wait(stream, ticket)); // a held one may go first
    }
    assert_true(stream_wait_all(stream));
    for (int turn = 0; turn < TURNS; turn++) {
        if (seen[turn]) assert_memory_equal(memory[turn], seen[turn], size[turn]);
        free(seen[turn]);
        os_pages_free(memory[turn], size[turn]);
    }
    stream_destroy(&stream);
    assert_int_equal(pread(fd, after, BYTES, 0), BYTES); // malloc'ed: through the page cache
    assert_memory_equal(after, wanted, BYTES);
    free(wanted), free(after);
    close(fd);
    unit_assert_silent();
}

static void every_backend_keeps_the_order(void **state)
{
    (void)state;
    for (size_t b = 0; b < COUNT_OF(backends); b++)
        for (uint64_t seed = 1; seed <= 3; seed++) overlaps_are_ordered(backends[b], 0, seed);
}

static void direct_writes_arrive(void **state)
{
    (void)state;
    enum { BYTES = 5 * MIB + PAGE };
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        const int fd = make_file("file", BYTES, 4, O_DIRECT);
        struct stream *stream = make_stream(backends[b]);
        uint8_t *data = os_pages(BYTES);
        for (uint64_t i = 0; i < BYTES; i++) data[i] = byte_at(5, i);
        assert_true(stream_wait(stream, submit(stream, STREAM_WRITE, fd, 0, BYTES, data)));
        memset(data, 0, BYTES);
        assert_true(stream_wait(stream, submit(stream, STREAM_NEEDED, fd, 0, BYTES, data)));
        assert_bytes(data, 0, BYTES, 5);
        const struct stream_stats stats = stream_stats(stream);
        assert_int_equal(stats.requests[STREAM_WRITE], 1);
        assert_int_equal(stats.bytes[STREAM_WRITE], BYTES);
        assert_int_equal(stats.bytes[STREAM_NEEDED], BYTES);
        assert_true(stats.busy_s > 0 && stats.wait_s >= 0);
        stream_destroy(&stream);
        os_pages_free(data, BYTES);
        close(fd);
    }
    unit_assert_silent();
}

// ---- faults

struct faults {
    int         error;     // of a call that touches page 5; 0: it ends there
    atomic_uint calls;
};

// Interrupted now and then, never more than a page and a half at once.
static ssize_t fault_of(struct faults *f, size_t bytes, uint64_t offset)
{
    const uint32_t call = atomic_fetch_add(&f->calls, 1);
    if (call % 3 == 1) {
        errno = EINTR;
        return -1;
    }
    const size_t most = PAGE + PAGE / 2, part = bytes < most ? bytes : most;
    if (f->error < 0 || offset + part <= 5 * PAGE || offset >= 6 * PAGE) return (ssize_t)part;
    if (offset < 5 * PAGE) return (ssize_t)(5 * PAGE - offset);
    errno = f->error;
    return f->error ? -1 : 0;
}

static ssize_t faulty_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    const ssize_t part = fault_of(user, bytes, offset);
    return part > 0 ? pread(fd, data, (size_t)part, (off_t)offset) : part;
}

static ssize_t faulty_write(void *user, int fd, const void *data, size_t bytes, uint64_t offset)
{
    const ssize_t part = fault_of(user, bytes, offset);
    return part > 0 ? pwrite(fd, data, (size_t)part, (off_t)offset) : part;
}

static void assert_fault(enum stream_backend backend, enum stream_kind kind, int error,
                         const char *text)
{
    struct faults faults = {.error = error};
    const struct os_file file = {.read = faulty_read, .write = faulty_write, .user = &faults};
    const int fd = make_file("segment", 10 * PAGE, 7, 0);
    struct stream *stream = stream_create(&(struct stream_params){
        .backend = backend, .part_bytes = 4 * PAGE, .file = &file});
    uint8_t *memory = os_pages(10 * PAGE);
    const uint64_t ticket = submit(stream, kind, fd, PAGE, 9 * PAGE, memory);
    if (error < 0) { // no fault but the small ones
        assert_true(stream_wait(stream, ticket));
        if (kind != STREAM_WRITE) assert_bytes(memory, PAGE, 9 * PAGE, 7);
        unit_assert_silent();
    } else {
        struct stream_done done;
        assert_true(stream_next(stream, &done));
        assert_false(done.ok);
        assert_int_equal(done.error, error ? error : kind == STREAM_WRITE ? ENOSPC : ENODATA);
        assert_non_null(strstr(unit_log.last, "segment"));
        assert_non_null(strstr(unit_log.last, "36864 bytes at 4096"));
        unit_assert_line("at 20480", text);
        assert_int_equal(stream_stats(stream).failed, 1);
        // the next request is none the worse
        assert_true(stream_wait(stream, submit(stream, STREAM_NEEDED, fd, 0, 2 * PAGE, memory)));
        if (kind != STREAM_WRITE) assert_bytes(memory, 0, 2 * PAGE, 7);
        unit_assert_silent();
    }
    stream_destroy(&stream);
    os_pages_free(memory, 10 * PAGE);
    close(fd);
}

static void each_fault_is_one_line(void **state)
{
    (void)state;
    static const enum stream_backend both[] = {STREAM_PLAIN, STREAM_THREADS};
    for (size_t b = 0; b < COUNT_OF(both); b++)
        for (int kind = 0; kind < STREAM_KINDS; kind++) {
            assert_fault(both[b], (enum stream_kind)kind, -1, "");
            assert_fault(both[b], (enum stream_kind)kind, EIO, "Input/output error");
            assert_fault(both[b], (enum stream_kind)kind, 0,
                         kind == STREAM_WRITE ? "no space left" : "the file ends before");
        }
    assert_fault(STREAM_THREADS, STREAM_WRITE, ENOSPC, "no space left");
}

// The same where the system itself is at fault, so io_uring too.
static void the_systems_faults(void **state)
{
    (void)state;
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        struct stream *stream = make_stream(backends[b]);
        uint8_t *memory = os_pages(4 * MIB);
        // the end of the file, in whole pages and inside one
        for (int odd = 0; odd < 2; odd++)
            for (int direct = 0; direct < 2; direct++) {
                const int fd =
                    make_file("short", 2 * MIB + PAGE + odd * 700, 8, direct ? O_DIRECT : 0);
                assert_false(stream_wait(
                    stream, submit(stream, STREAM_NEEDED, fd, MIB, 2 * MIB, memory)));
                unit_assert_line("short", "the file ends before");
                assert_bytes(memory, MIB, MIB + PAGE, 8);
                close(fd);
            }
        const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
        assert_false(stream_wait(stream, submit(stream, STREAM_WRITE, full, 0, MIB, memory)));
        unit_assert_line("/dev/full", "no space left");
        for (int again = 0; again < 3; again++) // once said is enough
            assert_false(stream_wait(stream, submit(stream, STREAM_WRITE, full, 0, MIB, memory)));
        unit_assert_silent();
        close(full);
        const int broken = open("/proc/self/mem", O_RDONLY | O_CLOEXEC); // page 0 is not there
        assert_false(stream_wait(stream, submit(stream, STREAM_NEEDED, broken, 0, PAGE, memory)));
        unit_assert_line("mem", "Input/output error");
        close(broken);
        const int only = open(unit_write("only", memory, PAGE), O_WRONLY | O_CLOEXEC);
        assert_false(stream_wait(stream, submit(stream, STREAM_NEEDED, only, 0, PAGE, memory)));
        unit_assert_line("only", "Bad file descriptor");
        close(only);
        assert_false(stream_wait(stream, submit(stream, STREAM_NEEDED, 9999, 0, PAGE, memory)));
        unit_assert_line("9999", "Bad file descriptor");
        stream_destroy(&stream);
        os_pages_free(memory, 4 * MIB);
    }
}

static void crooked_requests_are_refused(void **state)
{
    (void)state;
    const int fd = make_file("file", 4 * PAGE, 9, O_DIRECT);
    struct stream *stream = make_stream(STREAM_THREADS);
    uint8_t *memory = os_pages(2 * PAGE);
    assert_int_equal(
        stream_submit(stream, &(struct stream_request){STREAM_NEEDED, fd, 0, PAGE, memory + 8, 0}),
        0);
    unit_assert_line("multiple of 4096", "");
    assert_int_equal(
        stream_submit(stream, &(struct stream_request){STREAM_NEEDED, fd, 512, PAGE, memory, 0}),
        0);
    unit_assert_line("multiple of 4096", "at 512");
    assert_int_equal(
        stream_submit(stream, &(struct stream_request){STREAM_NEEDED, fd, 0, 0, memory, 0}), 0);
    unit_assert_line("0 bytes", "");
    assert_false(stream_wait(stream, 77));
    assert_true(stream_finished(stream, 77));
    stream_promote(stream, 77);
    stream_cancel(stream, 77);
    stream_destroy(&stream);
    stream_destroy(&stream);
    assert_null(
        stream_create(&(struct stream_params){.backend = STREAM_THREADS, .part_bytes = 1000}));
    unit_assert_line("1000", "4096");
    os_pages_free(memory, 2 * PAGE);
    close(fd);
}

// ---- from several threads

struct user {
    struct stream *stream;
    int            fd;
    uint64_t       seed;
    bool           ok;
};

static void *use(void *state)
{
    struct user *u = state;
    uint8_t *memory = os_pages(8 * PAGE);
    u->ok = true;
    for (uint64_t turn = 0; turn < 200; turn++) {
        const uint64_t page = rng_below(u->seed, 0, turn, 200);
        const struct stream_request request = {
            turn % 3 ? STREAM_NEEDED : STREAM_SPECULATIVE, u->fd, page * PAGE, 8 * PAGE, memory, 0};
        const uint64_t ticket = stream_submit(u->stream, &request);
        if (turn % 7 == 0) stream_promote(u->stream, ticket);
        u->ok &= stream_wait(u->stream, ticket);
        for (uint64_t i = 0; i < 8 * PAGE; i += 509)
            u->ok &= memory[i] == byte_at(10, page * PAGE + i);
    }
    os_pages_free(memory, 8 * PAGE);
    return NULL;
}

static void several_threads_share_a_stream(void **state)
{
    (void)state;
    enum { USERS = 4 };
    const int fd = make_file("file", 208 * PAGE, 10, 0);
    const int threads = thread_base();
    for (size_t b = 0; b < COUNT_OF(backends); b++) {
        struct stream *stream = stream_create(&(struct stream_params){
            .backend = backends[b], .part_bytes = 3 * PAGE, .depth = 5});
        struct user user[USERS];
        pthread_t   thread[USERS];
        for (int i = 0; i < USERS; i++) {
            user[i] = (struct user){stream, fd, (uint64_t)i + 1, false};
            assert_int_equal(pthread_create(&thread[i], NULL, use, &user[i]), 0);
        }
        for (int i = 0; i < USERS; i++) {
            pthread_join(thread[i], NULL);
            assert_true(user[i].ok);
        }
        const struct stream_stats stats = stream_stats(stream);
        assert_int_equal(stats.requests[STREAM_NEEDED] + stats.requests[STREAM_SPECULATIVE],
                         200 * USERS);
        stream_destroy(&stream);
    }
    assert_threads(threads);
    close(fd);
    unit_assert_silent();
}

// ---- where io_uring is refused

#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}
#endif

// From here on io_uring_setup gives EPERM, as in containers.
static bool forbid_uring(void)
{
    const struct sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 425}, // io_uring_setup, on every machine
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    const struct sock_fprog program = {COUNT_OF(filter), (struct sock_filter *)filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static char info_line[4096];

static void keep_info(void *user, enum log_level level, const char *line)
{
    (void)user, (void)level;
    snprintf(info_line, sizeof info_line, "%s", line);
}

// In a child: 0 where the fall back is as it should be.
static int without_uring(int fd)
{
    uint8_t *memory = os_pages(MIB);
    struct stream_choice choice;
    log_set(keep_info, NULL, LOG_INFO);
    if (!forbid_uring()) return 77;
    struct stream *stream = stream_create(&(struct stream_params){.backend = STREAM_URING});
    if (!stream || stream->params.backend != STREAM_THREADS) return 1;
    if (!strstr(info_line, "io_uring") || !strstr(info_line, "threads")) return 2;
    const uint64_t ticket = stream_submit(
        stream, &(struct stream_request){STREAM_NEEDED, fd, 0, MIB, memory, 0});
    if (!stream_wait(stream, ticket) || memory[777] != byte_at(11, 777)) return 3;
    stream_destroy(&stream);
    if (!stream_choose(unit_path("file"), 0, 0, NULL, &choice) || choice.backend == STREAM_URING ||
        choice.gbps[STREAM_URING_DIRECT] > 0)
        return 4;
    if (stream_choose(unit_path("file"), 0, 0, "uring", &choice)) return 5;
    if (!strstr(info_line, "uring") || !strstr(info_line, "cannot be had")) return 6;
    os_pages_free(memory, MIB);
    return 0;
}

static void a_refused_io_uring_becomes_threads(void **state)
{
    (void)state;
    const int fd = make_file("file", 16 * MIB, 11, 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(without_uring(fd));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    close(fd);
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

// The linker puts this in the place of every call of pthread_create.
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static atomic_int threads_refused;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *user)
{
    if (atomic_fetch_sub(&threads_refused, 1) > 0) return EAGAIN;
    threads_refused = 0;
    return __real_pthread_create(thread, attributes, run, user);
}

// The ring's thread cannot be started, those of the pool can.
static void a_ring_without_a_thread_becomes_threads(void **state)
{
    (void)state;
    const int fd = make_file("file", MIB, 11, 0);
    uint8_t *memory = os_pages(MIB);
    threads_refused = 1;
    struct stream *stream = make_stream(STREAM_URING);
    if (stream->params.backend == STREAM_THREADS && unit_log.lines)
        unit_assert_line("no thread can be started", "");
    threads_refused = 0;
    usleep(20000); // workers that believe it ends have left
    const uint64_t ticket = submit(stream, STREAM_NEEDED, fd, 0, MIB, memory);
    const double began = os_seconds();
    while (!stream_finished(stream, ticket) && os_seconds() - began < 10) usleep(1000);
    assert_true(stream_finished(stream, ticket));
    assert_true(stream_wait(stream, ticket));
    assert_bytes(memory, 0, MIB, 11);
    stream_destroy(&stream);
    os_pages_free(memory, MIB);
    close(fd);
}

// ---- the choice

static void the_choice_is_measured(void **state)
{
    (void)state;
    struct stream_choice choice;
    close(make_file("file", 64 * MIB, 12, 0));
    const int threads = thread_base();
    const double began = os_seconds();
    assert_true(stream_choose(unit_path("file"), 256 * 1024, 0, NULL, &choice));
    const double seconds = os_seconds() - began;
    assert_true(seconds < 5); // about 0.1 where the machine is not busy
    assert_threads(threads);
    assert_true(choice.gbps[choice.way] > 0);
    for (int way = 0; way < STREAM_WAYS; way++)
        assert_true(choice.gbps[way] <= 1.1 * choice.gbps[choice.way] || way < (int)choice.way);
    assert_non_null(strstr(choice.text, "GB/s"));
    assert_int_equal(choice.direct, choice.way != STREAM_THREADS_CACHED);
    assert_true(stream_choose(unit_path("file"), 0, 0, "cache", &choice));
    assert_false(choice.direct);
    assert_int_equal(choice.backend, STREAM_THREADS);
    assert_non_null(strstr(choice.text, "not measured"));
    // all that is read again and again fits into memory; does not; that way is not wanted
    assert_true(stream_choose(unit_path("file"), 0, 64 * MIB, NULL, &choice));
    assert_int_equal(choice.way, STREAM_THREADS_CACHED);
    assert_false(choice.direct);
    assert_non_null(strstr(choice.text, "64.0 MiB, fits into"));
    assert_true(stream_choose(unit_path("file"), 0, os_memory_bytes(), NULL, &choice));
    assert_non_null(strstr(choice.text, "GB/s"));
    assert_true(stream_choose(unit_path("file"), 0, 64 * MIB, "threads", &choice));
    assert_true(choice.direct);
    assert_true(stream_choose(NULL, 0, 64 * MIB, NULL, &choice));
    assert_int_equal(choice.way, STREAM_THREADS_CACHED);
    assert_true(stream_choose(unit_folder, 0, 0, "auto", &choice)); // nothing to measure yet
    assert_true(stream_choose(NULL, 0, 0, NULL, &choice));
    errno = ENOSPC; // of something before
    assert_false(stream_choose("/dev/null", 0, 0, NULL, &choice));
    unit_assert_line("/dev/null", "it is no file");
    assert_true(stream_choose(unit_write("small", "x", 1), 0, 0, NULL, &choice));
    unit_assert_silent();
    assert_false(stream_choose(unit_path("file"), 0, 0, "fast", &choice));
    unit_assert_line("fast", "uring");
    assert_false(stream_choose(unit_path("nothing"), 0, 0, NULL, &choice));
    unit_assert_line("nothing", "no such file");
}

static int descriptor_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void nothing_is_left_open(void **state)
{
    (void)state;
    struct stream_choice choice;
    close(make_file("file", 16 * MIB, 12, 0));
    const int before = descriptor_count();
    for (int turn = 0; turn < 20; turn++)
        for (size_t b = 0; b < COUNT_OF(backends); b++) {
            struct stream *stream = make_stream(backends[b]);
            stream_destroy(&stream);
        }
    assert_true(stream_choose(unit_path("file"), 0, 0, NULL, &choice));
    assert_int_equal(descriptor_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_backend_reads),
        UNIT(odd_ranges),
        UNIT(every_backend_keeps_the_order),
        UNIT(direct_writes_arrive),
        UNIT(each_fault_is_one_line),
        UNIT(the_systems_faults),
        UNIT(crooked_requests_are_refused),
        UNIT(several_threads_share_a_stream),
        UNIT(a_refused_io_uring_becomes_threads),
        UNIT(a_ring_without_a_thread_becomes_threads),
        UNIT(the_choice_is_measured),
        UNIT(nothing_is_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
