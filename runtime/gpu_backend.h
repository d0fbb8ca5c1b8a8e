// SPDX-License-Identifier: MIT
// What stands behind gpu.h: the table of functions that a device fills in, and the parts that both
// devices share. gpu.c and gpu_commands.c check arguments and copy names, then call through the
// table; a device may rely on checked arguments. Everything that a device makes starts with the
// public struct.
#pragma once

#include "runtime/gpu.h"

struct gpu_backend {
    void     (*destroy)(struct gpu *gpu);
    uint64_t (*validation_messages)(const struct gpu *gpu);

    struct gpu_buffer *(*buffer_create)(struct gpu *gpu, const struct gpu_buffer_params *params);
    // checked; NULL (logged) where the driver refuses
    struct gpu_buffer *(*buffer_import)(struct gpu *gpu, const struct gpu_buffer_params *params,
                                        void *data);
    void (*buffer_destroy)(struct gpu *gpu, struct gpu_buffer *buffer);
    bool (*buffer_write)(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset,
                         const void *data, uint64_t bytes);
    bool (*buffer_read)(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                        uint64_t bytes);

    uint64_t (*memory_held)(const struct gpu *gpu, bool host);
    uint64_t (*memory_resident)(const struct gpu *gpu);
    uint64_t (*memory_budget)(const struct gpu *gpu);

    struct gpu_kernel *(*kernel_create)(struct gpu *gpu, const struct gpu_kernel_params *params);
    void (*kernel_destroy)(struct gpu *gpu, struct gpu_kernel *kernel);
    bool (*kernel_statistics)(struct gpu *gpu, struct gpu_kernel *kernel,
                              struct gpu_statistics *out);

    struct gpu_commands *(*commands_create)(struct gpu *gpu,
                                            const struct gpu_commands_params *params);
    void (*commands_destroy)(struct gpu *gpu, struct gpu_commands *commands);
    bool (*commands_dispatch)(struct gpu_commands *commands, const struct gpu_dispatch *dispatch);
    bool (*commands_copy)(struct gpu_commands *commands, const struct gpu_bind *from,
                          const struct gpu_bind *to);
    bool (*commands_fill)(struct gpu_commands *commands, const struct gpu_bind *range,
                          uint32_t word);
    bool (*commands_barrier)(struct gpu_commands *commands);
    bool (*commands_timestamp)(struct gpu_commands *commands, uint32_t slot);
    bool (*commands_end)(struct gpu_commands *commands);
    bool (*commands_times)(struct gpu *gpu, struct gpu_commands *commands, double *ms);

    uint64_t (*submit)(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count);
    bool     (*wait)(struct gpu *gpu, uint64_t ticket);
    bool     (*done)(struct gpu *gpu, uint64_t ticket);

    uint64_t (*copy)(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count,
                     uint64_t after);
    bool     (*copy_wait)(struct gpu *gpu, uint64_t ticket);
    bool     (*copy_done)(struct gpu *gpu, uint64_t ticket);
    void     (*after_copy)(struct gpu *gpu, uint64_t ticket);
    const char *(*copy_choice)(struct gpu *gpu);
};

// The first member of each device.
struct gpu_base {
    struct gpu         gpu;
    char               choice[768];
    bool               lost;
    uint64_t           submitted;       // last ticket given out
    uint64_t           copied;          // the same of copies
    struct gpu_report *report;          // buffers by name
    uint64_t           buffers;         // alive
    uint64_t           bytes, peak;
    uint64_t           expected;     // gpu_memory_expect
    uint64_t           place_bytes[2], held_peak[2]; // of the device, of the host
};

// The first member of each device's commands.
enum gpu_commands_state { GPU_COMMANDS_RECORDING, GPU_COMMANDS_FAILED, GPU_COMMANDS_READY };
struct gpu_commands_base {
    struct gpu_commands     commands;
    struct gpu             *gpu;
    enum gpu_commands_state state;
    uint64_t                ticket;     // of the last submit, 0 before
};

static inline struct gpu_base *gpu_base(const struct gpu *gpu)
{
    return (struct gpu_base *)gpu;
}

static inline struct gpu_commands_base *gpu_commands_base(const struct gpu_commands *commands)
{
    return (struct gpu_commands_base *)commands;
}

// Parses "-f16,-address" into the bits to keep; false (logged) on an unknown name.
bool gpu_caps_keep(const char *list, uint32_t *keep);
// "12.3 MiB" into text, returned.
const char *gpu_bytes_text(uint64_t bytes, char text[32]);

// Whether bytes lie inside a buffer; else logged, `what` in front.
bool gpu_range_inside(const struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes,
                      const char *what);

struct gpu *gpu_ref_create(const struct gpu_params *params);
struct gpu *gpu_vk_create(const struct gpu_params *params);
int         gpu_vk_list(struct gpu_caps *list, int max);
