// SPDX-License-Identifier: MIT
// What the tests of the runtime share: a round is one device with one cap mask; each test of a
// round gets its own folder, device and kernels.
#pragma once

#include "unit.h"

#include "runtime/gpu.h"
#include "src/kernel_device.h"

struct round {
    const char     *label, *device, *caps; // device NULL: $VKMOE_DEVICE or the best
    bool            validate;
    enum gpu_copies copies;
    struct gpu     *gpu;
    struct kernels *kernels;
};

__attribute__((unused)) static struct gpu *round_gpu(const char *device, const char *caps,
                                                     bool validate)
{
    return gpu_create(&(struct gpu_params){.device = device ? device : getenv("VKMOE_DEVICE"),
                                           .caps = caps,
                                           .cache_dir = "",
                                           .validate = validate});
}

__attribute__((unused)) static int round_setup(void **state)
{
    if (unit_setup(state)) return -1;
    struct round *round = *state;
    round->gpu = round_gpu(round->device, round->caps, round->validate);
    if (!round->gpu) return -1;
    round->kernels = kernels_create(round->gpu);
    unit_log.lines = 0;
    return 0;
}

__attribute__((unused)) static int round_teardown(void **state)
{
    struct round *round = *state;
    kernels_destroy(&round->kernels);
    unit_log.lines = 0;
    gpu_destroy(&round->gpu);
    const int said = unit_log.lines; // such as validation's "has not been destroyed"
    if (said) fprintf(stderr, "at destruction: %s\n", unit_log.last);
    return unit_teardown(state) || said;
}

#define ROUND(function, round)                                                                     \
    {                                                                                              \
        .name = #function, .test_func = function, .setup_func = round_setup,                       \
        .teardown_func = round_teardown, .initial_state = round                                    \
    }

__attribute__((unused)) static struct gpu_buffer *make_buffer(struct gpu *gpu, const char *name,
                                                              uint64_t bytes,
                                                              enum gpu_memory memory)
{
    struct gpu_buffer *buffer =
        gpu_buffer_create(gpu, &(struct gpu_buffer_params){name, bytes, memory});
    assert_non_null(buffer);
    return buffer;
}

// Commands that are being recorded.
__attribute__((unused)) static struct gpu_commands *make_commands(struct gpu *gpu,
                                                                  uint32_t timestamps)
{
    struct gpu_commands *commands =
        gpu_commands_create(gpu, &(struct gpu_commands_params){"test", timestamps});
    assert_non_null(commands);
    return commands;
}

__attribute__((unused)) static void run_commands(struct gpu *gpu, struct gpu_commands *commands)
{
    const uint64_t ticket = gpu_submit(gpu, &commands, 1);
    assert_true(ticket > 0);
    assert_true(gpu_wait(gpu, ticket));
    assert_true(gpu_done(gpu, ticket));
}

// The kernel that copies `count` f32 from one buffer to the other.
__attribute__((unused)) static struct gpu_dispatch copy_dispatch(struct round *round,
                                                                 const struct push_count *push,
                                                                 struct gpu_buffer *from,
                                                                 struct gpu_buffer *to)
{
    const struct kernel *kernel = kernels_get(round->kernels, KERNEL_CAST, DTYPE_F32,
            &(struct kernel_size){0});
    assert_non_null(kernel);
    struct gpu_dispatch dispatch = {
        .kernel = kernel->gpu,
        .bind = {{from, 0, push->count * 4ull}, {to, 0, push->count * 4ull}},
        .push = push};
    kernel_info(KERNEL_CAST)->groups(push, &kernel->shape, dispatch.groups);
    return dispatch;
}

// Bytes that differ everywhere and from run to run of the seed.
__attribute__((unused)) static uint8_t *make_bytes(uint64_t bytes, uint64_t seed)
{
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    for (uint64_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)((i * 0x9e3779b97f4a7c15u + seed * 77) >> 29);
    return data;
}
