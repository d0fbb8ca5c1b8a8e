// SPDX-License-Identifier: MIT
// Records on their way to slots and back (src/experts_loader.h): the right bytes whatever the way,
// also of a record that is wanted while it goes back; needed loads do not wait for speculative
// ones; a fault is one line, and the end.
#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "runtime/os.h"
#include "runtime/os_file.h"
#include "runtime/stream.h"
#include "src/experts_loader.h"

enum { SLOTS = 12, KEYS = 40 };

// Matrices of whole pages, of whole blocks of a checksum but no pages, and with gaps between them.
static const char *const widths[] = {"64", "48", "45"};
enum { WIDTH_PAGES, WIDTH_BLOCKS, WIDTH_GAPS };
static const char config_text[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 61, \"hidden_size\": 64, "
    "\"intermediate_size\": 40, \"moe_intermediate_size\": %s, \"num_hidden_layers\": 2, "
    "\"num_attention_heads\": 2, \"max_position_embeddings\": 64, \"num_experts\": 20, "
    "\"num_experts_per_tok\": 2, \"torch_dtype\": \"bfloat16\", \"seed\": 5}";

// A store, and slots for its records: a buffer each, with all arrays behind one another.
struct host {
    struct config          config;
    struct model          *model;
    struct gpu            *gpu;
    struct experts_record  record;
    struct experts_source  source;
    struct store          *store;
    struct gpu_buffer     *slot[SLOTS], *steps;
    struct experts_loader *loader;
    uint8_t               *scratch;
};

static uint32_t pieces(void *user, uint32_t slot, uint32_t key,
                       struct loader_piece out[LOADER_PIECES])
{
    const struct host *h = user;
    uint32_t count = 0;
    for (int a = 0; a < RECORD_ARRAYS; a++)
        for (uint32_t i = 0; i < h->record.matrix_count; i++) {
            const struct record_matrix *m = &h->record.matrix[i];
            const uint64_t size = a == RECORD_COMPUTE ? 2 : 4;
            const uint64_t at = h->record.array[a] + m->begin * size;
            if (a > 0 && !h->record.array[a]) continue;
            out[count++] = (struct loader_piece){h->slot[slot], at, at, m->count * size, false};
        }
    if (h->steps) out[count++] = (struct loader_piece){h->steps, 4ull * key, 0, 4, true};
    return count;
}

// Bytes that follow from key and version, where matrices are; zeros between them.
static void fill(const struct host *h, uint32_t key, uint32_t version, uint8_t *record)
{
    struct loader_piece piece[LOADER_PIECES];
    const uint32_t count = pieces((void *)(uintptr_t)h, 0, key, piece);
    memset(record, 0, h->record.bytes);
    for (uint32_t i = 0; i < count; i++)
        for (uint64_t b = 0; !piece[i].is_steps && b < piece[i].bytes; b++)
            record[piece[i].in_record + b] =
                (uint8_t)(((b + 1) * (key * 131 + version + 1) * 0x9e3779b97f4a7c15u) >> 41);
    experts_record_set_steps(&h->record, record, version);
}

static void host_open(struct host *h, int width, const char *caps, const char *way,
                      const struct os_file *file)
{
    const bool whole = true;
    char text[sizeof config_text + 8];
    *h = (struct host){0};
    snprintf(text, sizeof text, config_text, widths[width]);
    assert_true(config_parse(&h->config, "config", text, NULL, 0));
    h->model = model_create_streamed(&h->config, 1 << 30);
    h->gpu = gpu_create(&(struct gpu_params){.device = "ref", .cache_dir = "", .caps = caps});
    assert_non_null(h->gpu);
    assert_true(experts_record_init(&h->record, h->model, RECORD_STATE_WHOLE));
    assert_int_equal(h->record.keys, KEYS);
    struct store_params params;
    char *identity = experts_record_params(&h->record, &params);
    params.folder = unit_path("records");
    params.segment_records = 7;
    h->store = store_create(&params);
    free(identity);
    assert_non_null(h->store);
    experts_source_store(&h->source, h->store);
    h->scratch = malloc(h->record.bytes);
    for (uint32_t i = 0; i < SLOTS; i++)
        h->slot[i] = gpu_buffer_create(
            h->gpu, &(struct gpu_buffer_params){
                        .name = "slot", .bytes = h->record.bytes, .pages = true});
    h->steps = gpu_buffer_create(
        h->gpu, &(struct gpu_buffer_params){.name = "steps", .bytes = 4 * KEYS});
    for (uint32_t key = 0; key < KEYS; key += 2) { // every other one was touched
        fill(h, key, 1, h->scratch);
        assert_true(store_write(h->store, key, 3, h->scratch));
    }
    h->loader = experts_loader_create(&(struct experts_loader_params){
        .gpu = h->gpu, .record = &h->record, .source = &h->source, .whole = whole,
        .slots = SLOTS, .pieces = pieces, .user = h, .way = way, .file = file});
    assert_non_null(h->loader);
}

static void host_close(struct host *h)
{
    experts_loader_destroy(&h->loader);
    for (uint32_t i = 0; i < SLOTS; i++) gpu_buffer_destroy(h->gpu, &h->slot[i]);
    gpu_buffer_destroy(h->gpu, &h->steps);
    h->source.close(h->source.user);
    free(h->scratch);
    gpu_destroy(&h->gpu);
    model_destroy(&h->model);
    nftw(unit_path("records"), unit_remove, 16, FTW_DEPTH | FTW_PHYS);
}

// Version 0 of what the store does not have: initial values.
static void wanted_record(struct host *h, uint32_t key, uint32_t version, uint8_t *out)
{
    if (version) fill(h, key, version, out);
    else experts_record_initial(&h->record, key, out);
}

static void assert_slot(struct host *h, uint32_t slot, uint32_t key, uint32_t version)
{
    struct loader_piece piece[LOADER_PIECES];
    const uint32_t count = pieces(h, slot, key, piece);
    uint8_t *found = malloc(h->record.bytes);
    wanted_record(h, key, version, h->scratch);
    for (uint32_t i = 0; i < count; i++) {
        if (piece[i].is_steps) continue;
        assert_true(gpu_buffer_read(h->gpu, piece[i].buffer, piece[i].offset, found,
                                    piece[i].bytes));
        assert_memory_equal(found, h->scratch + piece[i].in_record, piece[i].bytes);
    }
    free(found);
}

// As if the optimizer had moved it.
static void write_slot(struct host *h, uint32_t slot, uint32_t key, uint32_t version)
{
    struct loader_piece piece[LOADER_PIECES];
    const uint32_t count = pieces(h, slot, key, piece);
    fill(h, key, version, h->scratch);
    for (uint32_t i = 0; i < count; i++)
        assert_true(gpu_buffer_write(
            h->gpu, piece[i].buffer, piece[i].offset,
            piece[i].is_steps ? (const void *)&version : h->scratch + piece[i].in_record,
            piece[i].bytes));
}

static void assert_stored(struct host *h, uint32_t key, uint32_t version)
{
    uint8_t *found = malloc(h->record.bytes);
    uint32_t held;
    assert_true(store_read(h->store, key, 3, found, &held));
    assert_int_equal(held, version ? 3 : 0);
    if (version) {
        fill(h, key, version, h->scratch);
        assert_memory_equal(found, h->scratch, h->record.weights_bytes);
        assert_memory_equal(found + h->record.array[RECORD_MASTER],
                            h->scratch + h->record.array[RECORD_MASTER], h->record.state_bytes);
    }
    free(found);
}

static const char *const caps_of[] = {NULL, "-mapped", "-mapped,-hostmem"};
static const char *const ways[] = {"uring", "threads", "cache"};

// Any order of loads, changes, and write-backs comes to what one after the other would.
static void traffic(struct host *h, uint64_t seed)
{
    uint32_t key_of[SLOTS], version[KEYS];
    bool dirty[SLOTS] = {0}, used[KEYS] = {0};
    for (uint32_t key = 0; key < KEYS; key++) version[key] = key % 2 == 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) key_of[slot] = KEYS;
    for (uint32_t i = 0; i < 300; i++) {
        const uint32_t slot = (uint32_t)rng_below(seed, 0, i, SLOTS),
                       key = (uint32_t)rng_below(seed, 1, i, KEYS);
        const uint32_t what = (uint32_t)rng_below(seed, 2, i, 4);
        if (key_of[slot] < KEYS && what < 2) { // a use, maybe a change
            assert_true(experts_loader_wait(h->loader, slot));
            experts_loader_use(h->loader, slot);
            assert_slot(h, slot, key_of[slot], version[key_of[slot]]);
            if (what) write_slot(h, slot, key_of[slot], version[key_of[slot]] = i + 2);
            dirty[slot] |= what > 0;
        } else if (!used[key]) {
            if (key_of[slot] < KEYS) {
                assert_true(experts_loader_wait(h->loader, slot));
                if (dirty[slot])
                    assert_true(experts_loader_store(h->loader, key_of[slot], slot));
                used[key_of[slot]] = false;
            }
            dirty[slot] = false;
            const bool speculative = what == 3 && experts_loader_room(h->loader) > 0;
            const enum loader_kind needed = what == 2 ? LOADER_HERE : LOADER_NEEDED,
                                   kind = speculative ? LOADER_SPECULATIVE : needed;
            assert_true(experts_loader_load(h->loader, key, slot, kind));
            if (speculative && i % 2) experts_loader_promote(h->loader, slot);
            key_of[slot] = key;
            used[key] = true;
        }
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (key_of[slot] < KEYS && dirty[slot]) {
            assert_true(experts_loader_wait(h->loader, slot));
            assert_true(experts_loader_store(h->loader, key_of[slot], slot));
        }
    assert_true(experts_loader_drain(h->loader));
    for (uint32_t key = 0; key < KEYS; key++) assert_stored(h, key, version[key]);
    const struct loader_stats stats = experts_loader_stats(h->loader);
    assert_true(stats.loaded > SLOTS && stats.written > 0 && stats.seconds > 0);
    assert_int_equal(stats.bytes, stats.loaded * h->record.bytes);
}

static void any_order(void **state)
{
    (void)state;
    for (int width = 0; width < (int)COUNT_OF(widths); width++)
        for (size_t c = 0; c < COUNT_OF(caps_of); c++)
            for (size_t w = 0; w < COUNT_OF(ways); w++) {
                const bool cached = strcmp(ways[w], "cache") == 0, mapped = c == 0;
                struct host h;
                host_open(&h, width, caps_of[c], ways[w], NULL);
                traffic(&h, 100 * c + w);
                const bool straight = experts_loader_stats(h.loader).straight > 0;
                host_close(&h);
                unit_assert_silent();
                assert_int_equal(straight, mapped && (cached || width == WIDTH_PAGES));
            }
}

// A record that goes back is there for whoever wants it, at once and afterwards.
static void served_from_the_ring(void **state)
{
    (void)state;
    for (size_t c = 0; c < COUNT_OF(caps_of); c++) {
        struct host h;
        host_open(&h, WIDTH_PAGES, caps_of[c], NULL, NULL);
        for (uint32_t round = 0; round < 20; round++) {
            const uint32_t slot = round % SLOTS, other = (round + 5) % SLOTS;
            assert_true(experts_loader_load(h.loader, 3, slot, LOADER_NEEDED));
            assert_true(experts_loader_wait(h.loader, slot));
            experts_loader_use(h.loader, slot);
            assert_slot(&h, slot, 3, round ? round + 1 : 0);
            write_slot(&h, slot, 3, round + 2);
            assert_true(experts_loader_store(h.loader, 3, slot));
            // into the place it left
            assert_true(experts_loader_load(h.loader, 8, slot, LOADER_NEEDED));
            assert_true(experts_loader_load(h.loader, 3, other, LOADER_NEEDED));
            assert_true(experts_loader_wait(h.loader, other));
            assert_true(experts_loader_wait(h.loader, slot));
            experts_loader_use(h.loader, slot), experts_loader_use(h.loader, other);
            assert_slot(&h, other, 3, round + 2);
            assert_slot(&h, slot, 8, 1);
        }
        assert_true(experts_loader_drain(h.loader));
        assert_stored(&h, 3, 21);
        host_close(&h);
    }
}

// ---- sources that are no stores

static void threads_and_the_caller(void **state)
{
    (void)state;
    for (size_t c = 0; c < COUNT_OF(caps_of); c++)
        for (int threads = 0; threads < 2; threads++) {
            struct host h;
            struct experts_source source;
            host_open(&h, WIDTH_BLOCKS, caps_of[c], NULL, NULL);
            experts_loader_destroy(&h.loader);
            experts_source_initial(&source);
            source.threads = threads;
            h.loader = experts_loader_create(&(struct experts_loader_params){
                .gpu = h.gpu, .record = &h.record, .source = &source, .whole = true,
                .slots = SLOTS, .pieces = pieces, .user = &h});
            for (uint32_t slot = 0; slot < SLOTS; slot++)
                assert_true(experts_loader_load(h.loader, slot + 9, slot, LOADER_NEEDED));
            for (uint32_t slot = 0; slot < SLOTS; slot++) {
                assert_true(experts_loader_wait(h.loader, slot));
                experts_loader_use(h.loader, slot);
                assert_slot(&h, slot, slot + 9, 0);
            }
            host_close(&h);
        }
}

// ---- needed before speculative

// Reads wait until the gate opens; their offsets are noted as they begin.
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t  change;
    uint32_t        begun, pass; // reads that began, that may go on
    uint64_t        offset[100];
};

static ssize_t gate_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    struct gate *g = user;
    pthread_mutex_lock(&g->lock);
    const uint32_t own = g->begun++;
    g->offset[own] = offset;
    pthread_cond_broadcast(&g->change);
    while (own >= g->pass) pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return pread(fd, data, bytes, (off_t)offset);
}

static void gate_await(struct gate *g, uint32_t begun)
{
    pthread_mutex_lock(&g->lock);
    while (g->begun < begun) pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(struct gate *g, uint32_t pass)
{
    pthread_mutex_lock(&g->lock);
    g->pass = pass;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

static uint64_t offset_of(struct host *h, uint32_t key)
{
    struct store_place place;
    assert_true(store_find(h->store, key, &place));
    return place.segment * (1ull << 40) + place.offset;
}

// On a disk that stands still: as many speculative reads as may be begin; the needed one begins at
// once, arrives alone, and none of the others begins before it has.
static void needed_goes_first(void **state)
{
    (void)state;
    enum { GUESSES = 10, MOST = STREAM_SPECULATIVE_PARTS };
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    struct os_file file = os_file_system;
    struct host h;
    file.read = gate_read;
    file.user = &gate;
    host_open(&h, WIDTH_BLOCKS, NULL, "threads", &file);
    assert_true(experts_loader_room(h.loader) >= GUESSES);
    for (uint32_t i = 0; i < GUESSES; i++)
        assert_true(experts_loader_load(h.loader, 2 * i, i, LOADER_SPECULATIVE));
    gate_await(&gate, MOST);
    assert_true(experts_loader_load(h.loader, 2 * GUESSES, GUESSES, LOADER_NEEDED));
    gate_await(&gate, MOST + 1);
    assert_int_equal(gate.begun, MOST + 1);
    assert_int_equal(gate.offset[MOST], offset_of(&h, 2 * GUESSES) % (1ull << 40));
    gate_open(&gate, MOST + 1);
    assert_true(experts_loader_wait(h.loader, GUESSES));
    assert_slot(&h, GUESSES, 2 * GUESSES, 1);
    // one of the others is cancelled before it begins, one turns out to be needed
    experts_loader_cancel(h.loader, GUESSES - 1);
    experts_loader_promote(h.loader, GUESSES - 2);
    gate_open(&gate, 100);
    assert_true(experts_loader_wait(h.loader, GUESSES - 2));
    assert_slot(&h, GUESSES - 2, 2 * (GUESSES - 2), 1);
    assert_true(experts_loader_drain(h.loader));
    for (uint32_t i = 0; i < GUESSES - 1; i++) assert_slot(&h, i, 2 * i, 1);
    host_close(&h);
    unit_assert_silent();
}

// ---- faults

struct fault { uint64_t offset; int error; bool write; }; // of each segment; error 0: a short read

static ssize_t fault_read(void *user, int fd, void *data, size_t bytes, uint64_t offset)
{
    const struct fault *f = user;
    const bool hit = !f->write && offset >= f->offset;
    errno = f->error;
    return !hit ? pread(fd, data, bytes, (off_t)offset) : f->error ? -1 : 0;
}

static ssize_t fault_write(void *user, int fd, const void *data, size_t bytes, uint64_t offset)
{
    const struct fault *f = user;
    errno = f->error;
    return f->write ? -1 : pwrite(fd, data, bytes, (off_t)offset);
}

// Many fail at once; one line tells of it, and the end is clean.
static void assert_fault(int width, const char *caps, const char *way, struct fault fault,
                         const char *text)
{
    struct os_file file = os_file_system;
    struct host h;
    bool ok = true;
    file.read = fault_read;
    file.write = fault_write;
    file.user = &fault;
    host_open(&h, width, caps, way, &file);
    for (uint32_t i = 0; ok && i < SLOTS; i++)
        ok = experts_loader_load(h.loader, 2 * i, i, i > 8 ? LOADER_SPECULATIVE : LOADER_NEEDED);
    ok = ok && experts_loader_drain(h.loader);
    for (uint32_t i = 0; ok && i < SLOTS; i++) ok = experts_loader_store(h.loader, 2 * i, i);
    ok = ok && experts_loader_drain(h.loader);
    assert_false(ok);
    assert_false(experts_loader_poll(h.loader));
    assert_false(experts_loader_drain(h.loader));
    host_close(&h);
    unit_assert_line("segment", text);
}

static void faults(void **state)
{
    (void)state;
    for (size_t c = 0; c < COUNT_OF(caps_of) * COUNT_OF(widths); c++)
        for (size_t w = 1; w < COUNT_OF(ways); w++) {
            const char *caps = caps_of[c / COUNT_OF(widths)];
            const int width = (int)(c % COUNT_OF(widths));
            const struct fault all = {0, EIO, false}, late = {60000, EIO, false},
                               cut = {60000, 0, false}, full = {0, ENOSPC, true};
            assert_fault(width, caps, ways[w], all, "Input/output error");
            assert_fault(width, caps, ways[w], late, "Input/output error");
            assert_fault(width, caps, ways[w], cut, "the file ends before");
            assert_fault(width, caps, ways[w], full, "no space left");
        }
}

static void damage(void **state)
{
    (void)state;
    for (size_t w = 0; w < COUNT_OF(ways); w++) {
        struct host h;
        struct store_place place;
        host_open(&h, w < 2 ? WIDTH_PAGES : WIDTH_GAPS, NULL, ways[w], NULL);
        for (uint32_t key = 4; key < 10; key += 2) {
            assert_true(store_find(h.store, key, &place));
            assert_int_equal(pwrite(place.fd, "x", 1, (off_t)place.offset + 100), 1);
        }
        bool ok = true;
        for (uint32_t i = 0; ok && i < SLOTS; i++)
            ok = experts_loader_load(h.loader, 2 * i, i, i % 3 ? LOADER_NEEDED : LOADER_HERE);
        assert_false(ok && experts_loader_drain(h.loader));
        host_close(&h);
        unit_assert_line("checksum", "the file was damaged");
    }
}

// It ends in the middle of everything, without a word.
static void ends_any_time(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 30; i++) {
        struct host h;
        host_open(&h, i % 2 ? WIDTH_PAGES : WIDTH_GAPS, caps_of[i % 3], ways[i / 3 % 3], NULL);
        for (uint32_t k = 0; k < SLOTS; k++) {
            const bool guess = k > 7 && k < 8 + i % 4 && experts_loader_room(h.loader) > 0;
            assert_true(experts_loader_load(h.loader, k + i / 9, k,
                                            guess ? LOADER_SPECULATIVE : LOADER_NEEDED));
        }
        if (i % 2) assert_true(experts_loader_wait(h.loader, i % SLOTS));
        if (i % 2) assert_true(experts_loader_store(h.loader, i % SLOTS + i / 9, i % SLOTS));
        host_close(&h);
        unit_assert_silent();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_order, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(served_from_the_ring, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(threads_and_the_caller, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(needed_goes_first, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(faults, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(damage, unit_setup, unit_teardown),
        cmocka_unit_test_setup_teardown(ends_any_time, unit_setup, unit_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
