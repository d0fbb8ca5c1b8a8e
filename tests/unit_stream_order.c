// SPDX-License-Identifier: MIT
// Which request of a stream begins first, and which never does: calls wait at a gate and are
// written down.
#include <errno.h>

#include "unit_stream.h"

#include "runtime/os.h"

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t  moved;
    uint32_t        open;        // calls that may pass
    uint64_t        begun[256];  // offsets, in order
    uint32_t        count, inside, speculative, speculative_most;
    bool            together;    // a speculative one began while a needed one was inside
    uint32_t        needed;      // inside
    uint64_t        promoted;    // its page: no more speculative
};

enum { SPECULATIVE_FROM = 100 }; // pages: those from here on are speculative

static ssize_t gate_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    struct gate *g = user;
    (void)fd;
    pthread_mutex_lock(&g->lock);
    const uint64_t page = offset / PAGE;
    const bool speculative = page >= SPECULATIVE_FROM && page != g->promoted;
    g->begun[g->count++] = page;
    g->inside++;
    g->needed += !speculative;
    g->speculative += speculative;
    g->together |= speculative && g->needed;
    if (g->speculative > g->speculative_most) g->speculative_most = g->speculative;
    pthread_cond_broadcast(&g->moved);
    while (!g->open) pthread_cond_wait(&g->moved, &g->lock);
    g->open--;
    g->inside--;
    g->needed -= !speculative;
    g->speculative -= speculative;
    pthread_mutex_unlock(&g->lock);
    memset(data, (int)(offset / PAGE), bytes);
    return (ssize_t)bytes;
}

static ssize_t gate_write(void *user, int fd, const void *data, size_t bytes, uint64_t offset)
{
    uint8_t *none = malloc(bytes);
    (void)data;
    const ssize_t put = gate_read(user, fd, none, bytes, offset);
    free(none);
    return put;
}

static void gate_open(struct gate *g, uint32_t calls)
{
    pthread_mutex_lock(&g->lock);
    g->open += calls;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

static void gate_await(struct gate *g, uint32_t count) // calls that have begun
{
    pthread_mutex_lock(&g->lock);
    while (g->count < count) pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

// Lets one call at a time through until so many have begun: threads that begin together are written
// down in any order. Each that ends has to let another begin.
static void gate_step(struct gate *g, uint32_t count)
{
    for (;;) {
        pthread_mutex_lock(&g->lock);
        const uint32_t begun = g->count;
        pthread_mutex_unlock(&g->lock);
        if (begun >= count) return;
        gate_open(g, 1);
        gate_await(g, begun + 1);
    }
}

// A stream whose reads go through the gate, and memory for them.
struct gated {
    struct gate    gate;
    struct os_file file;
    int            fd;
    struct stream *stream;
    uint64_t       bytes;
    uint8_t       *memory;
};

static void gated_open(struct gated *g, uint64_t pages)
{
    *g = (struct gated){.file = {.read = gate_read, .write = gate_write, .user = &g->gate},
                        .bytes = pages * PAGE};
    pthread_mutex_init(&g->gate.lock, NULL);
    pthread_cond_init(&g->gate.moved, NULL);
    g->fd = make_file("file", PAGE, 6, 0);
    g->memory = os_pages(g->bytes);
    g->stream = stream_create(&(struct stream_params){
        .backend = STREAM_URING, .depth = 8, .part_bytes = PAGE, .file = &g->file});
    assert_non_null(g->stream);
    assert_int_equal(g->stream->params.backend, STREAM_THREADS); // the calls are not the system's
}

// Pages of the file to or from pages of the memory, from number `at` on.
static uint64_t ask(struct gated *g, enum stream_kind kind, uint32_t page, uint32_t pages,
                    uint32_t at)
{
    return submit(g->stream, kind, g->fd, (uint64_t)page * PAGE, (size_t)pages * PAGE,
                  g->memory + (size_t)at * PAGE);
}

static void gated_close(struct gated *g)
{
    stream_destroy(&g->stream);
    os_pages_free(g->memory, g->bytes);
    close(g->fd);
    unit_assert_silent();
}

static void needed_reads_go_first(void **state)
{
    (void)state;
    enum { SPECULATIVE = 20, NEEDED = 12 };
    struct gated g;
    gated_open(&g, SPECULATIVE + NEEDED);
    uint64_t last = 0;
    for (uint32_t i = 0; i < SPECULATIVE; i++)
        last = ask(&g, STREAM_SPECULATIVE, SPECULATIVE_FROM + i, 1, i);
    gate_await(&g.gate, STREAM_SPECULATIVE_PARTS);
    for (uint32_t i = 0; i < NEEDED; i++)
        ask(&g, STREAM_NEEDED, i, 1, SPECULATIVE + i);
    gate_await(&g.gate, 8); // the depth is full: four and four
    pthread_mutex_lock(&g.gate.lock);
    g.gate.promoted = SPECULATIVE_FROM + SPECULATIVE - 1;
    pthread_mutex_unlock(&g.gate.lock);
    stream_promote(g.stream, last); // the last speculative becomes the last needed
    gate_step(&g.gate, STREAM_SPECULATIVE_PARTS + NEEDED + 1);
    gate_open(&g.gate, 1000);
    assert_true(stream_wait_all(g.stream));
    assert_int_equal(g.gate.count, SPECULATIVE + NEEDED);
    assert_int_equal(g.gate.speculative_most, STREAM_SPECULATIVE_PARTS);
    uint32_t behind = 0; // speculative ones that began before the last needed one did
    for (uint32_t i = 0; i < STREAM_SPECULATIVE_PARTS + NEEDED; i++)
        behind += g.gate.begun[i] >= SPECULATIVE_FROM;
    assert_int_equal(behind, STREAM_SPECULATIVE_PARTS);
    assert_int_equal(g.gate.begun[STREAM_SPECULATIVE_PARTS + NEEDED],
                     SPECULATIVE_FROM + SPECULATIVE - 1);
    for (int i = 0; i < SPECULATIVE; i++)
        assert_int_equal(g.memory[i * PAGE], (uint8_t)(SPECULATIVE_FROM + i));
    gated_close(&g);
}

// A needed read comes while many parts of one speculative read wait.
static void speculative_parts_wait(void **state)
{
    (void)state;
    struct gated g;
    gated_open(&g, 60);
    const uint64_t large = ask(&g, STREAM_SPECULATIVE, SPECULATIVE_FROM, 50, 0);
    gate_await(&g.gate, 4);
    const uint64_t needed = ask(&g, STREAM_NEEDED, 0, 2, 50);
    gate_await(&g.gate, 6);
    g.gate.together = false; // the four were inside before
    gate_open(&g.gate, 1000);
    assert_true(stream_wait(g.stream, needed));
    assert_true(stream_wait(g.stream, large)); // which promotes it
    assert_false(g.gate.together);
    assert_true(g.gate.begun[4] < 2 && g.gate.begun[5] < 2);
    assert_int_equal(g.gate.count, 52);
    gated_close(&g);
}

static void what_is_cancelled_never_begins(void **state)
{
    (void)state;
    struct gated g;
    gated_open(&g, 40);
    const uint64_t begun = ask(&g, STREAM_SPECULATIVE, 200, 30, 0),
                   waits = ask(&g, STREAM_SPECULATIVE, 300, 1, 30);
    gate_await(&g.gate, STREAM_SPECULATIVE_PARTS);
    stream_cancel(g.stream, waits);
    stream_cancel(g.stream, begun);
    assert_true(stream_finished(g.stream, waits));
    assert_false(stream_finished(g.stream, begun)); // four parts are under way
    struct stream_done done;
    assert_true(stream_poll(g.stream, &done));
    assert_int_equal(done.ticket, waits);
    assert_int_equal(done.error, ECANCELED);
    assert_false(done.ok);
    gate_open(&g.gate, 1000);
    assert_false(stream_wait(g.stream, begun));
    assert_false(stream_wait(g.stream, begun)); // its end was taken
    assert_int_equal(g.gate.count, STREAM_SPECULATIVE_PARTS);
    assert_int_equal(stream_stats(g.stream).cancelled, 2);
    assert_int_equal(stream_stats(g.stream).failed, 0);
    gated_close(&g);
}

// Each of many that overlap is held by all that are older: who is needed moves each of them once.
static void what_is_held_is_promoted(void **state)
{
    (void)state;
    enum { HELD = 28, OTHERS = 4 };
    struct gated g;
    gated_open(&g, HELD + OTHERS + 8);
    for (uint32_t i = 0; i < 8; i++) ask(&g, STREAM_NEEDED, 50 + i, 1, HELD + OTHERS + i);
    gate_await(&g.gate, 8); // the depth is full: nothing else begins
    for (uint32_t i = 0; i < OTHERS; i++) ask(&g, STREAM_WRITE, 10 + i, 1, HELD + i);
    uint64_t last = 0;
    for (uint32_t i = 0; i < HELD; i++) last = ask(&g, STREAM_WRITE, i == 0 ? 2 : 3, 1, i);
    for (uint32_t i = 0; i < HELD; i++) last = ask(&g, STREAM_WRITE, 2, 2, i);
    const double began = os_seconds();
    stream_promote(g.stream, last);
    assert_true(os_seconds() - began < 2);
    gate_step(&g.gate, 10);
    gate_open(&g.gate, 1000);
    assert_true(stream_wait(g.stream, last));
    assert_true(stream_wait_all(g.stream));
    assert_int_equal(g.gate.count, 8 + OTHERS + 3 * HELD);
    // both that the others are held by went before the writes that nobody waits for
    for (uint32_t i = 8; i < 10; i++) assert_true(g.gate.begun[i] == 2 || g.gate.begun[i] == 3);
    gated_close(&g);
}

static struct gate *gate_of_log;

// What is dropped is said before what is under way is waited for: then the gate opens.
static void line_opens_gate(void *user, enum log_level level, const char *line)
{
    unit_log_line(user, level, line);
    gate_open(gate_of_log, 8);
}

static void destroy_drops_what_waits(void **state)
{
    (void)state;
    const int threads = thread_base();
    struct gated g;
    gated_open(&g, 40);
    for (uint32_t i = 0; i < 8; i++) // the depth
        ask(&g, STREAM_NEEDED, i, 1, i);
    gate_await(&g.gate, 8);
    for (uint32_t i = 0; i < 3; i++)
        ask(&g, STREAM_WRITE, 10 + i, 1, 10 + i);
    ask(&g, STREAM_SPECULATIVE, 20, 1, 20);
    gate_of_log = &g.gate;
    log_set(line_opens_gate, NULL, LOG_DEBUG);
    // the gate lets eight calls through; were anything else begun, this would hang
    stream_destroy(&g.stream);
    unit_assert_line("3 writes", "not made");
    assert_threads(threads);
    assert_int_equal(g.gate.inside, 0);
    gated_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(needed_reads_go_first),
        UNIT(speculative_parts_wait),
        UNIT(what_is_cancelled_never_begins),
        UNIT(what_is_held_is_promoted),
        UNIT(destroy_drops_what_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
