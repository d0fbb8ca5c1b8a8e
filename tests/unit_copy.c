// SPDX-License-Identifier: MIT
// What streams through gpu.h: copies beside the compute arrive whole and in the order that was
// asked for, memory of the host is used in place, files are read straight into mapped memory. On
// every kind of device, and (--queue) with a transfer queue that a layer plays (queue_layer.c).
#include <fcntl.h>
#include <sys/mman.h>

#include "unit_runtime.h"

#include "runtime/os.h"
#include "runtime/os_file.h"
#include "runtime/stream.h"

enum { PAGE = OS_FILE_ALIGNMENT, KIB = 1 << 10, MIB = 1 << 20 };

static struct gpu_buffer *make_pages(struct gpu *gpu, const char *name, uint64_t bytes,
                                     enum gpu_memory memory)
{
    struct gpu_buffer *buffer =
        gpu_buffer_create(gpu, &(struct gpu_buffer_params){name, bytes, memory, .pages = true});
    assert_non_null(buffer);
    return buffer;
}

static void assert_holds(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset,
                         const uint8_t *wanted, uint64_t bytes)
{
    uint8_t *back = malloc(bytes);
    assert_true(gpu_buffer_read(gpu, buffer, offset, back, bytes));
    assert_memory_equal(back, wanted, bytes);
    free(back);
}

static uint64_t copy_one(struct gpu *gpu, struct gpu_buffer *from, uint64_t from_offset,
                         struct gpu_buffer *to, uint64_t to_offset, uint64_t bytes, uint64_t after)
{
    const struct gpu_copy copy = {{from, from_offset, bytes}, {to, to_offset, bytes}};
    const uint64_t ticket = gpu_copy(gpu, &copy, 1, after);
    assert_true(ticket > 0);
    return ticket;
}

// Many in flight at once, more than there are slots for.
static void copies_arrive(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    enum { PARTS = 50, BYTES = 40 * KIB + 12 };
    struct gpu_buffer *up = make_buffer(gpu, "up", PARTS * BYTES, GPU_MEMORY_UPLOAD);
    struct gpu_buffer *there = make_buffer(gpu, "there", PARTS * BYTES, GPU_MEMORY_DEVICE);
    struct gpu_buffer *down = make_buffer(gpu, "down", PARTS * BYTES, GPU_MEMORY_READBACK);
    uint8_t *data = make_bytes(PARTS * BYTES, 3);
    memcpy(up->data, data, PARTS * BYTES);
    memset(down->data, 0, PARTS * BYTES);
    uint64_t last = 0;
    for (int i = 0; i < PARTS; i++) { // up in order, to places in reverse
        const uint64_t ticket =
            copy_one(gpu, up, i * BYTES, there, (PARTS - 1 - i) * BYTES, BYTES, 0);
        assert_true(ticket > last);
        last = ticket;
    }
    for (int i = 0; i < PARTS; i++) // earlier copies are done before later ones begin
        last = copy_one(gpu, there, (PARTS - 1 - i) * BYTES, down, i * BYTES, BYTES, 0);
    assert_true(gpu_copy_wait(gpu, last));
    assert_true(gpu_copy_done(gpu, last));
    assert_memory_equal(down->data, data, PARTS * BYTES);
    const struct gpu_copy two[2] = {{{up, 0, 100}, {there, 7, 100}}, {{up, 5, 3}, {there, 500, 3}}};
    assert_true(gpu_copy_wait(gpu, gpu_copy(gpu, two, 2, 0)));
    assert_holds(gpu, there, 7, data, 100);
    assert_holds(gpu, there, 500, data + 5, 3);
    gpu_buffer_destroy(gpu, &up), gpu_buffer_destroy(gpu, &there), gpu_buffer_destroy(gpu, &down);
    free(data);
    unit_assert_silent();
}

// Records go up, are worked on, come down, again and again through the same few slots; nothing but
// `after` and gpu_after_copy keeps the two sides apart.
static void compute_and_copies_keep_their_order(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    enum { SLOTS = 3, TURNS = 24, COUNT = 30007, BYTES = COUNT * 4 };
    struct gpu_buffer *up = make_buffer(gpu, "up", SLOTS * BYTES, GPU_MEMORY_UPLOAD);
    struct gpu_buffer *down = make_buffer(gpu, "down", TURNS * BYTES, GPU_MEMORY_READBACK);
    struct gpu_buffer *in[SLOTS], *out[SLOTS];
    struct gpu_commands *commands[SLOTS];
    uint64_t copied_in[SLOTS] = {0}, computed[SLOTS] = {0}, copied_out[SLOTS] = {0};
    for (int s = 0; s < SLOTS; s++) {
        const struct push_count push = {COUNT};
        in[s] = make_buffer(gpu, "in", BYTES, GPU_MEMORY_DEVICE);
        out[s] = make_buffer(gpu, "out", BYTES, GPU_MEMORY_DEVICE);
        const struct gpu_dispatch dispatch = copy_dispatch(round, &push, in[s], out[s]);
        commands[s] = make_commands(gpu, 0);
        gpu_commands_dispatch(commands[s], &dispatch);
        assert_true(gpu_commands_end(commands[s]));
    }
    for (int turn = 0; turn < TURNS; turn++) {
        const int s = turn % SLOTS;
        assert_true(gpu_copy_wait(gpu, copied_in[s])); // the host writes its staging again
        float *staged = (float *)up->data + (size_t)s * COUNT;
        for (int i = 0; i < COUNT; i++) staged[i] = (float)(turn * 1000000 + i);
        copied_in[s] = copy_one(gpu, up, s * BYTES, in[s], 0, BYTES, computed[s]);
        gpu_after_copy(gpu, copied_in[s]);
        gpu_after_copy(gpu, copied_out[s]);
        computed[s] = gpu_submit(gpu, &commands[s], 1);
        assert_true(computed[s] > 0);
        copied_out[s] =
            copy_one(gpu, out[s], 0, down, (uint64_t)turn * BYTES, BYTES, computed[s]);
    }
    for (int s = 0; s < SLOTS; s++) assert_true(gpu_copy_wait(gpu, copied_out[s]));
    const float *results = down->data;
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < COUNT; i++)
            if (results[(size_t)turn * COUNT + i] != (float)(turn * 1000000 + i))
                fail_msg("turn %d, element %d: %g", turn, i, results[(size_t)turn * COUNT + i]);
    for (int s = 0; s < SLOTS; s++) {
        gpu_commands_destroy(gpu, &commands[s]);
        gpu_buffer_destroy(gpu, &in[s]), gpu_buffer_destroy(gpu, &out[s]);
    }
    gpu_buffer_destroy(gpu, &up), gpu_buffer_destroy(gpu, &down);
    unit_assert_silent();
}

static void buffers_may_go_while_copied(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    struct gpu_buffer *up = make_buffer(gpu, "up", 8 * MIB, GPU_MEMORY_UPLOAD);
    memset(up->data, 7, 8 * MIB);
    for (int turn = 0; turn < 20; turn++) {
        struct gpu_buffer *there = make_buffer(gpu, "there", 8 * MIB, GPU_MEMORY_DEVICE);
        copy_one(gpu, up, 0, there, 0, 8 * MIB, 0);
        gpu_buffer_destroy(gpu, &there);
    }
    gpu_buffer_destroy(gpu, &up);
    assert_int_equal(gpu_memory_bytes(gpu), 0);
    unit_assert_silent();
}

static void mistakes_are_refused(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    struct gpu_buffer *a = make_buffer(gpu, "left", 256, GPU_MEMORY_DEVICE);
    struct gpu_buffer *b = make_buffer(gpu, "right", 256, GPU_MEMORY_DEVICE);
    assert_int_equal(gpu_copy(gpu, &(struct gpu_copy){{a, 0, 8}, {b, 0, 9}}, 1, 0), 0);
    unit_assert_line("left", "right");
    assert_int_equal(gpu_copy(gpu, &(struct gpu_copy){{a, 0, 0}, {b, 0, 0}}, 1, 0), 0);
    unit_assert_line("no bytes", "");
    assert_int_equal(gpu_copy(gpu, &(struct gpu_copy){{a, 250, 8}, {b, 0, 8}}, 1, 0), 0);
    unit_assert_line("left", "256");
    assert_int_equal(gpu_copy(gpu, &(struct gpu_copy){{a, 0, 8}, {a, 4, 8}}, 1, 0), 0);
    unit_assert_line("left", "overlaps");
    assert_int_equal(gpu_copy(gpu, &(struct gpu_copy){{a, 0, 8}, {b, 0, 8}}, 1, 999), 0);
    unit_assert_line("999", "never given out");
    assert_false(gpu_copy_wait(gpu, 999));
    unit_assert_line("999", "never given out");
    assert_non_null(gpu_copy_choice(gpu));
    gpu_buffer_destroy(gpu, &a), gpu_buffer_destroy(gpu, &b);
}

// ---- memory that files are read into

static void pages_are_aligned(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    static const uint64_t sizes[] = {1, 100, PAGE, 3 * PAGE + 1, 17 * MIB, 5000};
    struct gpu_buffer *buffer[3 * COUNT_OF(sizes)], *between[3 * COUNT_OF(sizes)];
    for (size_t i = 0; i < COUNT_OF(buffer); i++) {
        between[i] = make_buffer(gpu, "between", 100 + i, (enum gpu_memory)(i % 3));
        buffer[i] = make_pages(gpu, "pages", sizes[i / 3], (enum gpu_memory)(i % 3));
        assert_int_equal((uintptr_t)buffer[i]->data % PAGE, 0);
        uint8_t *data = make_bytes(sizes[i / 3], i);
        assert_true(gpu_buffer_write(gpu, buffer[i], 0, data, sizes[i / 3]));
        free(data);
    }
    for (size_t i = 0; i < COUNT_OF(buffer); i++) {
        uint8_t *data = make_bytes(sizes[i / 3], i);
        assert_holds(gpu, buffer[i], 0, data, sizes[i / 3]);
        gpu_buffer_destroy(gpu, &buffer[i]), gpu_buffer_destroy(gpu, &between[i]);
        free(data);
    }
    unit_assert_silent();
}

// A stream puts a file into the buffer's own memory.
static void stream_into(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t bytes, int flags)
{
    uint8_t *data = make_bytes(bytes, 5);
    const int fd = open(unit_write("record", data, bytes), O_RDONLY | flags);
    assert_true(fd >= 0);
    for (enum stream_backend backend = 0; backend < STREAM_BACKENDS; backend++) {
        struct stream *stream = stream_create(&(struct stream_params){.backend = backend});
        assert_non_null(stream);
        memset(buffer->data, 0, bytes);
        const uint64_t ticket = stream_submit(
            stream, &(struct stream_request){STREAM_NEEDED, fd, 0, bytes, buffer->data, 0});
        assert_true(stream_wait(stream, ticket));
        stream_destroy(&stream);
        assert_holds(gpu, buffer, 0, data, bytes);
    }
    close(fd);
    free(data);
}

static void files_are_read_into_mapped_memory(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    enum { BYTES = 3 * MIB + PAGE };
    if (!(gpu->caps.mask & GPU_CAP_MAPPED)) skip();
    struct gpu_buffer *buffer = make_pages(gpu, "slot", BYTES, GPU_MEMORY_DEVICE);
    stream_into(gpu, buffer, BYTES, 0);
    if (gpu->caps.type == GPU_TYPE_CPU || buffer->direct) // a card's mapping may not take it
        stream_into(gpu, buffer, BYTES, O_DIRECT);
    gpu_buffer_destroy(gpu, &buffer);
    unit_assert_silent();
}

// Where the device's memory is the host's, pages of the process are made the device's: it works on
// what files were read into, and they are counted as its memory, until nothing uses them.
static void pages_are_the_devices(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    enum { COUNT = 5 * PAGE / 4 + 3, BYTES = COUNT * 4 };
    const uint32_t needed = GPU_CAP_MAPPED | GPU_CAP_HOSTMEM;
    const uint64_t before = gpu_memory_account(gpu, false).held;
    struct gpu_buffer *slot = make_pages(gpu, "slot", BYTES, GPU_MEMORY_DEVICE);
    const uint64_t held = gpu_memory_account(gpu, false).held - before;
    struct gpu_buffer *to = make_buffer(gpu, "to", BYTES, GPU_MEMORY_READBACK);
    if (gpu->caps.unified && (gpu->caps.mask & needed) == needed) {
        assert_true(slot->direct);
        assert_false(slot->host);
        assert_int_equal((uintptr_t)slot->data % PAGE, 0);
        assert_in_range(held, BYTES, BYTES + PAGE);
        float *data = slot->data;
        for (int i = 0; i < COUNT; i++) data[i] = (float)(i * 7 % 1000);
        const struct push_count push = {COUNT};
        const struct gpu_dispatch dispatch = copy_dispatch(round, &push, slot, to);
        struct gpu_commands *commands = make_commands(gpu, 0);
        gpu_commands_dispatch(commands, &dispatch);
        assert_true(gpu_commands_end(commands));
        const uint64_t ticket = gpu_submit(gpu, &commands, 1);
        gpu_buffer_destroy(gpu, &slot); // in flight
        assert_true(gpu_wait(gpu, ticket));
        for (int i = 0; i < COUNT; i++)
            assert_true(((float *)to->data)[i] == (float)(i * 7 % 1000));
        gpu_commands_destroy(gpu, &commands);
    } else if (!gpu_is_reference(gpu)) {
        assert_false(slot->direct);
    }
    gpu_buffer_destroy(gpu, &slot), gpu_buffer_destroy(gpu, &to);
    unit_assert_silent();
}

// ---- memory of the host

static void import_is_used_in_place(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    enum { COUNT = 3 * PAGE, BYTES = COUNT * 4 };
    if (!(gpu->caps.mask & GPU_CAP_HOSTMEM)) skip();
    assert_int_equal(BYTES % gpu->caps.import_alignment, 0);
    float *from = os_pages(BYTES), *to = os_pages(BYTES);
    struct gpu_buffer *a = gpu_buffer_import(gpu, "imported", from, BYTES);
    struct gpu_buffer *b = gpu_buffer_import(gpu, "imported", to, BYTES);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_equal(a->data, from);
    assert_int_equal(gpu_memory_bytes(gpu), 2 * BYTES);
    assert_true(gpu_memory_held(gpu) >= 2 * BYTES);
    const struct push_count push = {COUNT};
    const struct gpu_dispatch dispatch = copy_dispatch(round, &push, a, b);
    struct gpu_commands *commands = make_commands(gpu, 0);
    gpu_commands_dispatch(commands, &dispatch);
    assert_true(gpu_commands_end(commands));
    for (int turn = 0; turn < 3; turn++) { // what the host writes the device sees, and back
        for (int i = 0; i < COUNT; i++) from[i] = (float)(i * 3 + turn);
        memset(to, 0, BYTES);
        run_commands(gpu, commands);
        assert_memory_equal(to, from, BYTES);
    }
    stream_into(gpu, a, BYTES, O_DIRECT);
    struct gpu_buffer *there = make_buffer(gpu, "there", BYTES, GPU_MEMORY_DEVICE);
    assert_true(gpu_copy_wait(gpu, copy_one(gpu, a, 0, there, 0, BYTES, 0)));
    assert_holds(gpu, there, 0, (uint8_t *)from, BYTES);
    gpu_commands_destroy(gpu, &commands);
    gpu_buffer_destroy(gpu, &a), gpu_buffer_destroy(gpu, &b), gpu_buffer_destroy(gpu, &there);
    assert_int_equal(gpu_memory_bytes(gpu), 0);
    os_pages_free(from, BYTES), os_pages_free(to, BYTES);
    unit_assert_silent();
}

// A mapped file as a buffer: the page cache itself. Drivers of cards may refuse it, in one line.
static void a_mapped_file_is_a_buffer(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    enum { COUNT = 2 * PAGE, BYTES = COUNT * 4 };
    if (!(gpu->caps.mask & GPU_CAP_HOSTMEM)) skip();
    float *data = malloc(BYTES);
    for (int i = 0; i < COUNT; i++) data[i] = (float)i / 3;
    const int fd = open(unit_write("weights", data, BYTES), O_RDWR);
    void *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    assert_true(map != MAP_FAILED);
    struct gpu_buffer *file = gpu_buffer_import(gpu, "file", map, BYTES);
    if (file) {
        struct gpu_buffer *to = make_buffer(gpu, "to", BYTES, GPU_MEMORY_DEVICE);
        const struct push_count push = {COUNT};
        const struct gpu_dispatch dispatch = copy_dispatch(round, &push, file, to);
        struct gpu_commands *commands = make_commands(gpu, 0);
        gpu_commands_dispatch(commands, &dispatch);
        assert_true(gpu_commands_end(commands));
        run_commands(gpu, commands);
        assert_holds(gpu, to, 0, (uint8_t *)data, BYTES);
        gpu_commands_destroy(gpu, &commands);
        gpu_buffer_destroy(gpu, &file), gpu_buffer_destroy(gpu, &to);
        unit_assert_silent();
    } else {
        unit_assert_line("file", "copied");
    }
    munmap(map, BYTES);
    close(fd);
    free(data);
}

static void import_refuses_what_it_cannot(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    uint8_t *pages = os_pages(4 * PAGE);
    if (gpu->caps.mask & GPU_CAP_HOSTMEM) {
        assert_true(gpu->caps.import_alignment > 0);
        assert_null(gpu_buffer_import(gpu, "crooked", pages + 16, PAGE));
        unit_assert_line("crooked", "multiples of");
        assert_null(gpu_buffer_import(gpu, "crooked", pages, PAGE - 16));
        unit_assert_line("crooked", "multiples of");
        assert_null(gpu_buffer_import(gpu, "empty", pages, 0));
        unit_assert_line("empty", "multiples of");
    } else {
        assert_int_equal(gpu->caps.import_alignment, 0);
        assert_null(gpu_buffer_import(gpu, "none", pages, PAGE));
        unit_assert_line("none", "hostmem");
    }
    os_pages_free(pages, 4 * PAGE);
}

// ---- the way that copies take

static int way_setup(void **state)
{
    struct round *round = *state;
    unit_log.lines = 0;
    if (unit_setup(state)) return -1;
    round->gpu = gpu_create(&(struct gpu_params){.device = getenv("VKMOE_DEVICE"),
                                                 .caps = round->caps,
                                                 .cache_dir = "",
                                                 .validate = round->validate,
                                                 .copies = round->copies});
    if (!round->gpu) return -1;
    round->kernels = kernels_create(round->gpu);
    unit_log.lines = 0;
    return 0;
}

static void the_way_is_said(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    assert_true(gpu->caps.mask & GPU_CAP_TRANSFER);
    const char *choice = gpu_copy_choice(gpu);
    switch (round->copies) {
    case GPU_COPIES_MEASURED:
        assert_non_null(strstr(choice, " ms"));
        break;
    case GPU_COPIES_QUEUE:
        assert_non_null(strstr(choice, "compute queue, as asked for"));
        break;
    case GPU_COPIES_TRANSFER:
        assert_non_null(strstr(choice, "transfer queue, as asked for"));
        break;
    }
    assert_string_equal(gpu_copy_choice(gpu), choice);
    unit_assert_silent();
}

#define WAY(function, round)                                                                       \
    {                                                                                              \
        .name = #function, .test_func = function, .setup_func = way_setup,                         \
        .teardown_func = round_teardown, .initial_state = round                                    \
    }

static int run_ways(bool validate)
{
    static struct round ways[] = {
        {.label = "measured", .copies = GPU_COPIES_MEASURED},
        {.label = "the one queue", .copies = GPU_COPIES_QUEUE},
        {.label = "the transfer queue", .copies = GPU_COPIES_TRANSFER},
        {.label = "the transfer queue, staged", .caps = "-mapped", .copies = GPU_COPIES_TRANSFER},
    };
    int failed = 0;
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        ways[i].validate = validate;
        const struct CMUnitTest tests[] = {
            WAY(the_way_is_said, &ways[i]),
            WAY(copies_arrive, &ways[i]),
            WAY(compute_and_copies_keep_their_order, &ways[i]),
            WAY(buffers_may_go_while_copied, &ways[i]),
            WAY(mistakes_are_refused, &ways[i]),
            WAY(import_is_used_in_place, &ways[i]),
            WAY(pages_are_the_devices, &ways[i]),
        };
        failed += cmocka_run_group_tests_name(ways[i].label, tests, NULL, NULL);
    }
    return failed != 0;
}

static struct round rounds[] = {
    {.label = "ref", .device = "ref"},
    {.label = "ref, nothing mapped", .device = "ref", .caps = "-mapped,-hostmem"},
    {.label = "the default device"},
    {.label = "the default device, staged", .caps = "-mapped"},
    {.label = "the default device, nothing optional", .caps = "-hostmem,-mapped,-transfer"},
};

static int run_rounds(bool validate)
{
    int failed = 0;
    for (size_t i = validate ? 2 : 0; i < COUNT_OF(rounds); i++) {
        rounds[i].validate = validate;
        const struct CMUnitTest tests[] = {
            ROUND(copies_arrive, &rounds[i]),
            ROUND(compute_and_copies_keep_their_order, &rounds[i]),
            ROUND(buffers_may_go_while_copied, &rounds[i]),
            ROUND(mistakes_are_refused, &rounds[i]),
            ROUND(pages_are_aligned, &rounds[i]),
            ROUND(files_are_read_into_mapped_memory, &rounds[i]),
            ROUND(import_is_used_in_place, &rounds[i]),
            ROUND(pages_are_the_devices, &rounds[i]),
            ROUND(a_mapped_file_is_a_buffer, &rounds[i]),
            ROUND(import_refuses_what_it_cannot, &rounds[i]),
        };
        failed += cmocka_run_group_tests_name(rounds[i].label, tests, NULL, NULL);
    }
    return failed != 0;
}

// --validate: under validation, where any message is a failure. --queue: with the layer; 77 where
// there is no Vulkan device to put it on.
int main(int argc, char **argv)
{
    bool validate = false, queue = false;
    for (int i = 1; i < argc; i++) {
        validate |= strcmp(argv[i], "--validate") == 0;
        queue |= strcmp(argv[i], "--queue") == 0;
    }
    if (validate || queue) {
        struct gpu *gpu = round_gpu(NULL, NULL, validate);
        if (!gpu || gpu_is_reference(gpu)) return 77;
        gpu_destroy(&gpu);
    }
    return queue ? run_ways(validate) : run_rounds(validate);
}
