// SPDX-License-Identifier: MIT
// The interface of gpu.h on every kind of device there is here: the references, the default Vulkan
// device, and the same with device memory that the host cannot see (staging).
#include "unit_runtime.h"

#include "src/dtype.h"

static const uint64_t MIB = 1 << 20;

static void check_copy_at(struct gpu *gpu, enum gpu_memory memory, uint64_t bytes, uint64_t offset)
{
    const uint64_t total = offset + bytes + 7;
    struct gpu_buffer *buffer = make_buffer(gpu, "copies", total, memory);
    uint8_t *fence = malloc(total), *data = make_bytes(bytes, bytes + offset),
            *back = malloc(total);
    memset(fence, 0xa5, total);
    assert_true(gpu_buffer_write(gpu, buffer, 0, fence, total));
    assert_true(gpu_buffer_write(gpu, buffer, offset, data, bytes));
    memset(back, 0, total);
    assert_true(gpu_buffer_read(gpu, buffer, offset, back, bytes));
    assert_memory_equal(back, data, bytes);
    assert_true(gpu_buffer_read(gpu, buffer, 0, back, total));
    assert_memory_equal(back, fence, offset);
    assert_memory_equal(back + offset, data, bytes);
    assert_memory_equal(back + offset + bytes, fence, 7);
    gpu_buffer_destroy(gpu, &buffer);
    assert_null(buffer);
    free(fence), free(data), free(back);
}

static void buffers_keep_what_is_written(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    const uint64_t sizes[] = {1, 2, 3, 31, 32, 33, 4097, 8 * MIB, 17 * MIB + 13, 40 * MIB + 1};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        check_copy_at(gpu, GPU_MEMORY_DEVICE, sizes[i], 0);
        check_copy_at(gpu, GPU_MEMORY_DEVICE, sizes[i], 5);
        if (sizes[i] > MIB) continue;
        check_copy_at(gpu, GPU_MEMORY_UPLOAD, sizes[i], 3);
        check_copy_at(gpu, GPU_MEMORY_READBACK, sizes[i], 3);
    }
    unit_assert_silent();
}

static void data_is_mapped_where_promised(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    struct gpu_buffer *device = make_buffer(gpu, "device", 100, GPU_MEMORY_DEVICE);
    struct gpu_buffer *upload = make_buffer(gpu, "upload", 100, GPU_MEMORY_UPLOAD);
    struct gpu_buffer *readback = make_buffer(gpu, "readback", 100, GPU_MEMORY_READBACK);
    assert_int_equal(device->data != NULL, (gpu->caps.mask & GPU_CAP_MAPPED) != 0);
    assert_non_null(upload->data);
    assert_non_null(readback->data);
    uint8_t *bytes = make_bytes(100, 1);
    memcpy(upload->data, bytes, 100);
    struct gpu_commands *commands = make_commands(gpu, 0);
    gpu_commands_copy(commands, &(struct gpu_bind){upload, 0, 100},
                      &(struct gpu_bind){device, 0, 100});
    gpu_commands_barrier(commands);
    gpu_commands_copy(commands, &(struct gpu_bind){device, 0, 100},
                      &(struct gpu_bind){readback, 0, 100});
    assert_true(gpu_commands_end(commands));
    run_commands(gpu, commands);
    assert_memory_equal(readback->data, bytes, 100);
    gpu_commands_destroy(gpu, &commands);
    gpu_buffer_destroy(gpu, &device), gpu_buffer_destroy(gpu, &upload),
        gpu_buffer_destroy(gpu, &readback);
    free(bytes);
}

static void fill_and_copy(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    enum { WORDS = 1001 };
    struct gpu_buffer *from = make_buffer(gpu, "from", WORDS * 4, GPU_MEMORY_DEVICE);
    struct gpu_buffer *to = make_buffer(gpu, "to", WORDS * 4, GPU_MEMORY_DEVICE);
    struct gpu_commands *commands = make_commands(gpu, 0);
    gpu_commands_fill(commands, &(struct gpu_bind){from, 0, WORDS * 4}, 0x01020304);
    gpu_commands_fill(commands, &(struct gpu_bind){to, 0, WORDS * 4}, 7);
    gpu_commands_barrier(commands);
    gpu_commands_fill(commands, &(struct gpu_bind){from, 8, 4}, 0xffffffff);
    gpu_commands_barrier(commands);
    gpu_commands_copy(commands, &(struct gpu_bind){from, 4, 5}, &(struct gpu_bind){to, 401, 5});
    assert_true(gpu_commands_end(commands));
    run_commands(gpu, commands);
    uint8_t back[WORDS * 4];
    assert_true(gpu_buffer_read(gpu, to, 0, back, sizeof back));
    const uint8_t wanted[] = {7, 4, 3, 2, 1, 0xff, 0, 0};
    assert_memory_equal(back + 400, wanted, sizeof wanted);
    assert_int_equal(back[0], 7);
    assert_int_equal(back[WORDS * 4 - 4], 7);
    gpu_commands_destroy(gpu, &commands);
    gpu_buffer_destroy(gpu, &from), gpu_buffer_destroy(gpu, &to);
    unit_assert_silent();
}

static void dispatch_direct(void **state)
{
    struct round *round = *state;
    static const uint32_t counts[] = {1, 2, 31, 33, 1009, 300007};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        const struct push_count push = {counts[i]};
        const uint64_t bytes = counts[i] * 4ull;
        struct gpu_buffer *from = make_buffer(round->gpu, "from", bytes, GPU_MEMORY_DEVICE);
        struct gpu_buffer *to = make_buffer(round->gpu, "to", bytes + 4, GPU_MEMORY_DEVICE);
        float *data = malloc(bytes), *back = malloc(bytes + 4);
        for (uint32_t j = 0; j < counts[i]; j++) data[j] = (float)j - 7;
        memset(back, 0x5a, bytes + 4);
        assert_true(gpu_buffer_write(round->gpu, from, 0, data, bytes));
        assert_true(gpu_buffer_write(round->gpu, to, 0, back, bytes + 4));
        const struct gpu_dispatch dispatch = copy_dispatch(round, &push, from, to);
        struct gpu_commands *commands = make_commands(round->gpu, 0);
        gpu_commands_dispatch(commands, &dispatch);
        assert_true(gpu_commands_end(commands));
        run_commands(round->gpu, commands);
        assert_true(gpu_buffer_read(round->gpu, to, 0, back, bytes + 4));
        assert_memory_equal(back, data, bytes);
        assert_int_equal(((uint8_t *)back)[bytes], 0x5a);
        gpu_commands_destroy(round->gpu, &commands);
        gpu_buffer_destroy(round->gpu, &from), gpu_buffer_destroy(round->gpu, &to);
        free(data), free(back);
    }
    unit_assert_silent();
}

// The group counts are written by the device itself, in the commands that use them.
static void dispatch_indirect(void **state)
{
    struct round *round = *state;
    enum { COUNT = 5000 };
    const struct push_count push = {COUNT};
    struct gpu_buffer *from = make_buffer(round->gpu, "from", COUNT * 4, GPU_MEMORY_DEVICE);
    struct gpu_buffer *to = make_buffer(round->gpu, "to", COUNT * 4, GPU_MEMORY_DEVICE);
    struct gpu_buffer *counts = make_buffer(round->gpu, "counts", 64, GPU_MEMORY_DEVICE);
    struct gpu_buffer *next = make_buffer(round->gpu, "next", 12, GPU_MEMORY_UPLOAD);
    float data[COUNT], back[COUNT];
    for (int i = 0; i < COUNT; i++) data[i] = (float)i + 1;
    assert_true(gpu_buffer_write(round->gpu, from, 0, data, sizeof data));
    struct gpu_dispatch dispatch = copy_dispatch(round, &push, from, to);
    const uint32_t groups[3] = {dispatch.groups[0], dispatch.groups[1], dispatch.groups[2]};
    dispatch.indirect = counts;
    dispatch.indirect_offset = 20;
    dispatch.groups[0] = UINT32_MAX; // is ignored
    struct gpu_commands *commands = make_commands(round->gpu, 0);
    gpu_commands_fill(commands, &(struct gpu_bind){to, 0, COUNT * 4}, 0);
    gpu_commands_copy(commands, &(struct gpu_bind){next, 0, 12},
                      &(struct gpu_bind){counts, 20, 12});
    gpu_commands_barrier(commands);
    gpu_commands_dispatch(commands, &dispatch);
    assert_true(gpu_commands_end(commands));
    for (int run = 0; run < 4; run++) { // the same recording: all groups, none, all, none
        memcpy(next->data, groups, sizeof groups);
        if (run % 2) ((uint32_t *)next->data)[1] = 0;
        run_commands(round->gpu, commands);
        assert_true(gpu_buffer_read(round->gpu, to, 0, back, sizeof back));
        if (run % 2) memset(data, 0, sizeof data);
        assert_memory_equal(back, data, sizeof data);
        for (int i = 0; i < COUNT; i++) data[i] = (float)i + 1;
    }
    gpu_commands_destroy(round->gpu, &commands);
    gpu_buffer_destroy(round->gpu, &from), gpu_buffer_destroy(round->gpu, &to);
    gpu_buffer_destroy(round->gpu, &counts), gpu_buffer_destroy(round->gpu, &next);
    unit_assert_silent();
}

// Each submit doubles nothing and copies a to b, b to c: what one submit wrote the next one reads,
// and the same commands may stand twice in one submit.
static void submits_run_in_order(void **state)
{
    struct round *round = *state;
    enum { COUNT = 4099, CHAIN = 40 };
    const struct push_count push = {COUNT};
    struct gpu_buffer *buffer[CHAIN + 1];
    struct gpu_commands *commands[CHAIN + 1];
    for (int i = 0; i <= CHAIN; i++)
        buffer[i] = make_buffer(round->gpu, "chain", COUNT * 4, GPU_MEMORY_DEVICE);
    for (int i = 0; i < CHAIN; i++) {
        const struct gpu_dispatch dispatch = copy_dispatch(round, &push, buffer[i], buffer[i + 1]);
        commands[i] = make_commands(round->gpu, 0);
        gpu_commands_dispatch(commands[i], &dispatch);
        assert_true(gpu_commands_end(commands[i]));
    }
    commands[CHAIN] = commands[CHAIN - 1];
    uint64_t last = 0;
    for (int run = 1; run <= 3; run++) {
        float data[COUNT], back[COUNT];
        for (int i = 0; i < COUNT; i++) data[i] = (float)(run * i);
        assert_true(gpu_buffer_write(round->gpu, buffer[0], 0, data, sizeof data));
        for (int i = 0; i < CHAIN; i += 10) {
            const uint64_t ticket = gpu_submit(round->gpu, commands + i, i + 10 == CHAIN ? 11 : 10);
            assert_true(ticket > last);
            last = ticket;
        }
        assert_true(gpu_buffer_read(round->gpu, buffer[CHAIN], 0, back, sizeof back));
        assert_memory_equal(back, data, sizeof data);
    }
    assert_true(gpu_wait(round->gpu, last));
    assert_true(gpu_submit(round->gpu, NULL, 0) > last);
    for (int i = 0; i < CHAIN; i++) gpu_commands_destroy(round->gpu, &commands[i]);
    for (int i = 0; i <= CHAIN; i++) gpu_buffer_destroy(round->gpu, &buffer[i]);
    unit_assert_silent();
}

static void timestamps_rise(void **state)
{
    struct round *round = *state;
    enum { COUNT = 200003 };
    const struct push_count push = {COUNT};
    struct gpu_buffer *from = make_buffer(round->gpu, "from", COUNT * 4, GPU_MEMORY_DEVICE);
    struct gpu_buffer *to = make_buffer(round->gpu, "to", COUNT * 4, GPU_MEMORY_DEVICE);
    const struct gpu_dispatch dispatch = copy_dispatch(round, &push, from, to);
    struct gpu_commands *commands = make_commands(round->gpu, 4);
    double ms[4] = {-1, -1, -1, -1};
    for (uint32_t slot = 0; slot < 3; slot++) { // the fourth is never written
        gpu_commands_timestamp(commands, slot);
        gpu_commands_dispatch(commands, &dispatch);
        gpu_commands_barrier(commands);
    }
    assert_true(gpu_commands_end(commands));
    assert_false(gpu_commands_times(round->gpu, commands, ms));
    for (int run = 0; run < 2; run++) {
        assert_true(gpu_submit(round->gpu, &commands, 1) > 0);
        assert_true(gpu_commands_times(round->gpu, commands, ms)); // waits
        assert_true(ms[0] == 0 && ms[1] > 0 && ms[2] > ms[1] && ms[2] < 10000);
        assert_true(ms[3] == 0);
    }
    gpu_commands_destroy(round->gpu, &commands);
    gpu_buffer_destroy(round->gpu, &from), gpu_buffer_destroy(round->gpu, &to);
    unit_assert_silent();
}

static void objects_may_go_while_in_flight(void **state)
{
    struct round *round = *state;
    enum { COUNT = 1000003 };
    const struct push_count push = {COUNT};
    struct gpu_buffer *last = make_buffer(round->gpu, "last", COUNT * 4, GPU_MEMORY_DEVICE);
    float *data = malloc(COUNT * 4), *back = malloc(COUNT * 4);
    for (int run = 0; run < 4; run++) {
        struct gpu_buffer *from = make_buffer(round->gpu, "from", COUNT * 4, GPU_MEMORY_DEVICE);
        struct gpu_buffer *between =
            make_buffer(round->gpu, "between", COUNT * 4, GPU_MEMORY_DEVICE);
        for (int i = 0; i < COUNT; i++) data[i] = (float)(i + run);
        assert_true(gpu_buffer_write(round->gpu, from, 0, data, COUNT * 4));
        struct gpu_dispatch dispatch = copy_dispatch(round, &push, from, between);
        struct gpu_commands *commands = make_commands(round->gpu, 0);
        gpu_commands_dispatch(commands, &dispatch);
        gpu_commands_barrier(commands);
        dispatch = copy_dispatch(round, &push, between, last);
        gpu_commands_dispatch(commands, &dispatch);
        assert_true(gpu_commands_end(commands));
        assert_true(gpu_submit(round->gpu, &commands, 1) > 0);
        gpu_commands_destroy(round->gpu, &commands);
        gpu_buffer_destroy(round->gpu, &from);
        gpu_buffer_destroy(round->gpu, &between);
        kernels_destroy(&round->kernels);
        round->kernels = kernels_create(round->gpu);
        // new buffers must not be given the memory that is still in use
        struct gpu_buffer *reuse = make_buffer(round->gpu, "reuse", COUNT * 4, GPU_MEMORY_DEVICE);
        if (reuse->data) memset(reuse->data, 0, COUNT * 4);
        assert_int_equal(gpu_memory_bytes(round->gpu), 2 * COUNT * 4);
        assert_true(gpu_buffer_read(round->gpu, last, 0, back, COUNT * 4));
        assert_memory_equal(back, data, COUNT * 4);
        gpu_buffer_destroy(round->gpu, &reuse);
    }
    gpu_buffer_destroy(round->gpu, &last);
    free(data), free(back);
    unit_assert_silent();
}

static void memory_is_reported(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    char name[] = "weights";
    assert_int_equal(gpu_memory_bytes(gpu), 0);
    struct gpu_buffer *a = make_buffer(gpu, name, 3 * MIB, GPU_MEMORY_DEVICE);
    name[0] = 'x'; // the buffer has a copy
    struct gpu_buffer *b = make_buffer(gpu, "weights", 1 * MIB, GPU_MEMORY_DEVICE);
    struct gpu_buffer *c = make_buffer(gpu, "step", 512, GPU_MEMORY_UPLOAD);
    assert_string_equal(a->params.name, "weights");
    assert_int_equal(gpu_memory_bytes(gpu), 4 * MIB + 512);
    gpu_buffer_destroy(gpu, &a);
    assert_int_equal(gpu_memory_bytes(gpu), 1 * MIB + 512);
    assert_int_equal(gpu_memory_peak(gpu), 4 * MIB + 512);
    a = make_buffer(gpu, "weights", 2 * MIB, GPU_MEMORY_DEVICE);
    char  *text = NULL;
    size_t bytes = 0;
    FILE  *out = open_memstream(&text, &bytes);
    gpu_memory_print(gpu, out);
    fclose(out);
    int count;
    double mib;
    const char *line = strstr(text, "weights ");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "weights device %d %lf MiB", &count, &mib), 2);
    assert_int_equal(count, 2);
    unit_assert_near(mib, 3, 0.01);
    assert_non_null(strstr(text, "512 bytes"));
    const struct gpu_account device = gpu_memory_account(gpu, false),
                             host = gpu_memory_account(gpu, true);
    assert_int_equal(device.bytes + host.bytes, gpu_memory_bytes(gpu));
    assert_int_equal(device.held + host.held, gpu_memory_held(gpu));
    if (c->host) assert_true(host.bytes == 512 && host.peak >= host.held && host.held >= 512);
    assert_true(!a->host && device.bytes >= 3 * MIB && device.peak >= 4 * MIB);
    assert_non_null(strstr(text, "total"));
    free(text);
    gpu_buffer_destroy(gpu, &a), gpu_buffer_destroy(gpu, &b), gpu_buffer_destroy(gpu, &c);
    gpu_buffer_destroy(gpu, &c); // twice does nothing
    assert_int_equal(gpu_memory_bytes(gpu), 0);
    unit_assert_silent();
}

// Buffers of random sizes come and go; each keeps its own bytes all the time.
static void buffers_do_not_overlap(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    enum { SLOTS = 24, TURNS = 400 };
    struct gpu_buffer *buffer[SLOTS] = {0};
    uint64_t seed[SLOTS] = {0};
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        const uint64_t slot = rng_below(1, 0, turn, SLOTS);
        if (buffer[slot]) {
            const uint64_t bytes = buffer[slot]->params.bytes;
            uint8_t *wanted = make_bytes(bytes, seed[slot]), *back = malloc(bytes);
            assert_true(gpu_buffer_read(gpu, buffer[slot], 0, back, bytes));
            assert_memory_equal(back, wanted, bytes);
            gpu_buffer_destroy(gpu, &buffer[slot]);
            free(wanted), free(back);
        } else {
            const uint64_t bytes = 1 + rng_below(1, 1, turn, turn % 7 ? 20000 : 3 * MIB);
            uint8_t *data = make_bytes(bytes, turn);
            seed[slot] = turn;
            buffer[slot] =
                make_buffer(gpu, "random", bytes, (enum gpu_memory)rng_below(1, 2, turn, 3));
            assert_true(gpu_buffer_write(gpu, buffer[slot], 0, data, bytes));
            free(data);
        }
    }
    for (int i = 0; i < SLOTS; i++) gpu_buffer_destroy(gpu, &buffer[i]);
    unit_assert_silent();
}

// Each mistake gives one line and fails the recording; nothing reaches the driver.
static void mistakes_fail_the_recording(void **state)
{
    struct round *round = *state;
    struct gpu *gpu = round->gpu;
    const struct push_count push = {64};
    struct gpu_buffer *from = make_buffer(gpu, "left", 4096, GPU_MEMORY_DEVICE);
    struct gpu_buffer *to = make_buffer(gpu, "right", 256, GPU_MEMORY_DEVICE);
    const struct gpu_dispatch good = copy_dispatch(round, &push, from, to);
    const char *wanted[] = {
        "right",         "left", "push words", "workgroups",  "without a kernel",
        "multiple of 4", "0 to", "overlaps",   "slot 3 of 2", "no buffer"};
    for (size_t mistake = 0; mistake < COUNT_OF(wanted); mistake++) {
        struct gpu_dispatch bad = good;
        struct gpu_commands *commands = make_commands(gpu, 2);
        switch (mistake) {
        case 0: bad.bind[1].bytes = 260; break;
        case 1: bad.bind[0].offset = 2; break;
        case 2: bad.push = NULL; break;
        case 3: bad.groups[2] = gpu->caps.max_groups[2] + 1; break;
        case 4: bad.kernel = NULL; break;
        case 5: bad.indirect = to, bad.indirect_offset = 2; break;
        case 6:
            gpu_commands_copy(commands, &(struct gpu_bind){from, 0, 257},
                              &(struct gpu_bind){to, 0, 257});
            break;
        case 7:
            gpu_commands_copy(commands, &(struct gpu_bind){from, 0, 16},
                              &(struct gpu_bind){from, 8, 16});
            break;
        case 8: gpu_commands_timestamp(commands, 3); break;
        case 9: bad.bind[1].buffer = NULL; break;
        }
        gpu_commands_dispatch(commands, &bad);
        unit_assert_line(wanted[mistake], "");
        assert_false(gpu_commands_end(commands));
        assert_int_equal(gpu_submit(gpu, &commands, 1), 0);
        unit_assert_line("gpu_commands_end", "test");
        gpu_commands_destroy(gpu, &commands);
    }
    assert_false(gpu_wait(gpu, UINT64_MAX));
    unit_assert_line("never given out", "");
    uint8_t bytes[8] = {0};
    assert_false(gpu_buffer_write(gpu, to, 250, bytes, 8));
    unit_assert_line("right", "256");
    assert_false(gpu_buffer_read(gpu, to, UINT64_MAX, bytes, 8));
    unit_assert_line("right", "256");
    gpu_buffer_destroy(gpu, &from), gpu_buffer_destroy(gpu, &to);
}

static void too_large_a_buffer_is_refused(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    assert_null(gpu_buffer_create(
        gpu, &(struct gpu_buffer_params){"giant", UINT64_MAX / 2, GPU_MEMORY_DEVICE}));
    unit_assert_line("giant", "smaller batch");
    assert_null(gpu_buffer_create(gpu, &(struct gpu_buffer_params){"empty", 0, GPU_MEMORY_DEVICE}));
    unit_assert_line("empty", "");
    assert_int_equal(gpu_memory_bytes(gpu), 0);
}

static void zero_objects_are_destroyed(void **state)
{
    struct gpu *gpu = ((struct round *)*state)->gpu;
    struct gpu_buffer *buffer = NULL;
    struct gpu_kernel *kernel = NULL;
    struct gpu_commands *commands = NULL;
    struct gpu *none = NULL;
    gpu_buffer_destroy(gpu, &buffer);
    gpu_kernel_destroy(gpu, &kernel);
    gpu_commands_destroy(gpu, &commands);
    gpu_destroy(&none);
    assert_false(gpu_lost(gpu));
    assert_int_equal(gpu_validation_messages(gpu), 0);
    unit_assert_silent();
}

// Validation is awake: a missing barrier is seen.
static void hazards_are_counted(void **state)
{
    struct round *round = *state;
    if (!round->validate) skip();
    const struct push_count push = {4096};
    struct gpu_buffer *buffer[3];
    for (int i = 0; i < 3; i++)
        buffer[i] = make_buffer(round->gpu, "hazard", 4096 * 4, GPU_MEMORY_DEVICE);
    for (int barrier = 1; barrier >= 0; barrier--) {
        struct gpu_commands *commands = make_commands(round->gpu, 0);
        for (int i = 0; i < 2; i++) {
            const struct gpu_dispatch dispatch =
                copy_dispatch(round, &push, buffer[i], buffer[i + 1]);
            gpu_commands_dispatch(commands, &dispatch);
            if (barrier) gpu_commands_barrier(commands);
        }
        assert_true(gpu_commands_end(commands));
        run_commands(round->gpu, commands);
        gpu_commands_destroy(round->gpu, &commands);
        if (barrier) unit_assert_silent();
        assert_int_equal(gpu_validation_messages(round->gpu) > 0, !barrier);
    }
    assert_non_null(strstr(unit_log.last, "validation"));
    for (int i = 0; i < 3; i++) gpu_buffer_destroy(round->gpu, &buffer[i]);
}

static struct round rounds[] = {
    {.label = "ref", .device = "ref"},
    {.label = "the default device"},
    {.label = "the default device, staged", .caps = "-mapped"},
    {.label = "the default device, nothing optional",
     .caps = "-storage16,-f16,-size,-address,-budget,-hostmem,-statistics,-coop,-bf16,-mapped"},
};

// With --validate the Vulkan rounds run under validation, where any message is a failure.
int main(int argc, char **argv)
{
    const bool validate = argc > 1 && strcmp(argv[1], "--validate") == 0;
    int failed = 0;
    if (validate) {
        struct gpu *gpu = round_gpu(NULL, NULL, true);
        if (!gpu) return 77; // not installed: skipped, and the line above says what to install
        gpu_destroy(&gpu);
    }
    for (size_t i = validate; i < COUNT_OF(rounds); i++) {
        rounds[i].validate = validate;
        const struct CMUnitTest tests[] = {
            ROUND(buffers_keep_what_is_written, &rounds[i]),
            ROUND(data_is_mapped_where_promised, &rounds[i]),
            ROUND(fill_and_copy, &rounds[i]),
            ROUND(dispatch_direct, &rounds[i]),
            ROUND(dispatch_indirect, &rounds[i]),
            ROUND(submits_run_in_order, &rounds[i]),
            ROUND(timestamps_rise, &rounds[i]),
            ROUND(objects_may_go_while_in_flight, &rounds[i]),
            ROUND(memory_is_reported, &rounds[i]),
            ROUND(buffers_do_not_overlap, &rounds[i]),
            ROUND(mistakes_fail_the_recording, &rounds[i]),
            ROUND(too_large_a_buffer_is_refused, &rounds[i]),
            ROUND(zero_objects_are_destroyed, &rounds[i]),
            ROUND(hazards_are_counted, &rounds[i]), // last: it leaves messages behind
        };
        failed += cmocka_run_group_tests_name(rounds[i].label, tests, NULL, NULL);
    }
    return failed != 0;
}
