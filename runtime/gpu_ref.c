// SPDX-License-Identifier: MIT
// Device "ref": the interface of gpu.h without a driver. Buffers are host memory, a kernel is the
// scalar reference that its creator handed in, and recorded commands run in order at submit, so
// every ticket is done when it is given out. Slow and obvious: what every other device is compared
// with.
#include <stdlib.h>
#include <string.h>

#include "runtime/gpu_backend.h"
#include "runtime/log.h"
#include "runtime/os.h"

enum ref_kind { REF_DISPATCH, REF_COPY, REF_FILL, REF_TIMESTAMP };

struct ref_command {
    enum ref_kind     kind;
    gpu_ref_fn       *function;
    int               tag;
    uint32_t          bindings;
    struct gpu_bind   bind[GPU_MAX_BINDINGS]; // copy: from, to; fill: the range
    uint32_t          groups[3];
    struct gpu_buffer *indirect;
    uint64_t          indirect_offset;
    uint32_t          word;                   // fill: the word; timestamp: the slot
    uint8_t           push[GPU_MAX_PUSH_BYTES];
};

struct ref_commands {
    struct gpu_commands_base base;
    struct ref_command      *list;
    size_t                   count, capacity;
    uint64_t                *times;           // ns, one a slot, 0: not written
};

static void ref_destroy(struct gpu *gpu)
{
    free(gpu_base(gpu));
}

static uint64_t ref_validation_messages(const struct gpu *gpu)
{
    (void)gpu;
    return 0;
}

// ---- memory

struct ref_buffer {
    struct gpu_buffer buffer;
    void             *memory; // also where `data` is NULL (GPU_CAP_MAPPED masked)
    bool              imported;
};

static uint8_t *bytes_at(const struct gpu_buffer *buffer, uint64_t offset)
{
    return (uint8_t *)((const struct ref_buffer *)buffer)->memory + offset;
}

static struct gpu_buffer *ref_buffer_create(struct gpu *gpu, const struct gpu_buffer_params *params)
{
    char         text[2][32];
    const size_t alignment = params->pages ? 4096 : 64;
    const size_t bytes = (params->bytes + alignment - 1) / alignment * alignment;
    void        *memory = aligned_alloc(alignment, bytes);
    if (!memory || gpu_base(gpu)->bytes + params->bytes > gpu->caps.heap_bytes) {
        log_error("buffer \"%s\": %s of memory are not there, %s are in use; use a smaller batch",
                  params->name, gpu_bytes_text(params->bytes, text[0]),
                  gpu_bytes_text(gpu_base(gpu)->bytes, text[1]));
        free(memory);
        return NULL;
    }
    struct ref_buffer *buffer = os_alloc(sizeof *buffer);
    buffer->memory = memory;
    const bool mapped = params->memory != GPU_MEMORY_DEVICE || gpu->caps.mask & GPU_CAP_MAPPED;
    buffer->buffer.data = mapped ? memory : NULL;
    buffer->buffer.host = params->memory != GPU_MEMORY_DEVICE;
    buffer->buffer.direct = mapped && params->pages;
    return &buffer->buffer;
}

static struct gpu_buffer *ref_buffer_import(struct gpu *gpu, const struct gpu_buffer_params *params,
                                            void *data)
{
    (void)gpu, (void)params;
    struct ref_buffer *buffer = os_alloc(sizeof *buffer);
    *buffer = (struct ref_buffer){
        .buffer = {.data = data, .host = true}, .memory = data, .imported = true};
    return &buffer->buffer;
}

static void ref_buffer_destroy(struct gpu *gpu, struct gpu_buffer *buffer)
{
    (void)gpu;
    if (!((struct ref_buffer *)buffer)->imported)
        free(bytes_at(buffer, 0));
    free(buffer);
}

static bool ref_buffer_write(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset,
                             const void *data, uint64_t bytes)
{
    (void)gpu;
    memcpy(bytes_at(buffer, offset), data, bytes);
    return true;
}

static bool ref_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                            uint64_t bytes)
{
    (void)gpu;
    memcpy(data, bytes_at(buffer, offset), bytes);
    return true;
}

// ---- kernels

static struct gpu_kernel *ref_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params)
{
    (void)gpu;
    if (params->ref)
        return os_alloc(sizeof(struct gpu_kernel));
    log_error("kernel %s: it has no reference, device ref cannot run it", params->name);
    return NULL;
}

static void ref_kernel_destroy(struct gpu *gpu, struct gpu_kernel *kernel)
{
    (void)gpu;
    free(kernel);
}

static bool ref_kernel_statistics(struct gpu *gpu, struct gpu_kernel *kernel,
                                  struct gpu_statistics *out)
{
    (void)gpu, (void)kernel, (void)out;
    return false;
}

// ---- commands

static struct gpu_commands *ref_commands_create(struct gpu *gpu,
                                                const struct gpu_commands_params *params)
{
    (void)gpu;
    struct ref_commands *commands = os_alloc(sizeof *commands);
    commands->times = os_alloc(params->timestamps * sizeof *commands->times);
    return &commands->base.commands;
}

static void ref_commands_destroy(struct gpu *gpu, struct gpu_commands *commands)
{
    (void)gpu;
    struct ref_commands *own = (struct ref_commands *)commands;
    free(own->list);
    free(own->times);
    free(own);
}

static struct ref_command *append(struct gpu_commands *commands, enum ref_kind kind)
{
    struct ref_commands *own = (struct ref_commands *)commands;
    const size_t         size = sizeof *own->list;
    if (own->count == own->capacity) {
        const size_t grown = own->capacity ? 2 * own->capacity : 16;
        own->list = os_grow(own->list, own->capacity * size, grown * size);
        own->capacity = grown;
    }
    struct ref_command *command = &own->list[own->count++];
    command->kind = kind;
    return command;
}

static bool ref_commands_dispatch(struct gpu_commands *commands,
                                  const struct gpu_dispatch *dispatch)
{
    const struct gpu_kernel_params *kernel = &dispatch->kernel->params;
    struct ref_command *command = append(commands, REF_DISPATCH);
    command->function = kernel->ref;
    command->tag = kernel->tag;
    command->bindings = kernel->binding_count;
    memcpy(command->bind, dispatch->bind, sizeof command->bind);
    memcpy(command->groups, dispatch->groups, sizeof command->groups);
    command->indirect = dispatch->indirect;
    command->indirect_offset = dispatch->indirect_offset;
    if (kernel->push_bytes)
        memcpy(command->push, dispatch->push, kernel->push_bytes);
    return true;
}

static bool ref_commands_copy(struct gpu_commands *commands, const struct gpu_bind *from,
                              const struct gpu_bind *to)
{
    struct ref_command *command = append(commands, REF_COPY);
    command->bind[0] = *from;
    command->bind[1] = *to;
    return true;
}

static bool ref_commands_fill(struct gpu_commands *commands, const struct gpu_bind *range,
                              uint32_t word)
{
    struct ref_command *command = append(commands, REF_FILL);
    command->bind[0] = *range;
    command->word = word;
    return true;
}

static bool ref_commands_barrier(struct gpu_commands *commands)
{
    (void)commands; // commands run one after the other
    return true;
}

static bool ref_commands_timestamp(struct gpu_commands *commands, uint32_t slot)
{
    append(commands, REF_TIMESTAMP)->word = slot;
    return true;
}

static bool ref_commands_end(struct gpu_commands *commands)
{
    (void)commands;
    return true;
}

// ---- queue

static void run_dispatch(const struct ref_command *command)
{
    uint32_t groups[3];
    memcpy(groups, command->groups, sizeof groups);
    if (command->indirect)
        memcpy(groups, bytes_at(command->indirect, command->indirect_offset), sizeof groups);
    if (!groups[0] || !groups[1] || !groups[2])
        return; // as on a device: no workgroup, no effect
    struct gpu_ref_call call = {.push = command->push, .tag = command->tag};
    for (uint32_t b = 0; b < command->bindings; b++) {
        call.buffer[b] = bytes_at(command->bind[b].buffer, command->bind[b].offset);
        call.bytes[b] = command->bind[b].bytes;
    }
    command->function(&call);
}

static void run_fill(const struct ref_command *command)
{
    uint32_t *words = (uint32_t *)bytes_at(command->bind[0].buffer, command->bind[0].offset);
    for (uint64_t i = 0; i < command->bind[0].bytes / 4; i++)
        words[i] = command->word;
}

static void run(struct ref_commands *commands)
{
    memset(commands->times, 0, commands->base.commands.params.timestamps * sizeof *commands->times);
    for (size_t i = 0; i < commands->count; i++) {
        const struct ref_command *command = &commands->list[i];
        const struct gpu_bind    *bind = command->bind;
        switch (command->kind) {
        case REF_DISPATCH:
            run_dispatch(command);
            break;
        case REF_COPY:
            memcpy(bytes_at(bind[1].buffer, bind[1].offset),
                   bytes_at(bind[0].buffer, bind[0].offset), bind[0].bytes);
            break;
        case REF_FILL:
            run_fill(command);
            break;
        case REF_TIMESTAMP:
            commands->times[command->word] = os_time_ns();
            break;
        }
    }
}

static uint64_t ref_submit(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count)
{
    const uint64_t ticket = ++gpu_base(gpu)->submitted;
    for (uint32_t i = 0; i < count; i++) {
        run((struct ref_commands *)commands[i]);
        gpu_commands_base(commands[i])->ticket = ticket;
    }
    return ticket;
}

static bool ref_finished(struct gpu *gpu, uint64_t ticket)
{
    return ticket <= gpu_base(gpu)->submitted;
}

static bool ref_commands_times(struct gpu *gpu, struct gpu_commands *commands, double *ms)
{
    (void)gpu;
    const uint64_t *times = ((struct ref_commands *)commands)->times;
    for (uint32_t i = 0; i < commands->params.timestamps; i++)
        ms[i] = times[i] ? 1e-6 * ((double)times[i] - (double)times[0]) : 0;
    return true;
}

// ---- copies: there and then, so every ticket is done

static uint64_t ref_copy(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count,
                         uint64_t after)
{
    (void)after;
    for (uint32_t i = 0; i < count; i++)
        memcpy(bytes_at(copies[i].to.buffer, copies[i].to.offset),
               bytes_at(copies[i].from.buffer, copies[i].from.offset), copies[i].from.bytes);
    return ++gpu_base(gpu)->copied;
}

static bool ref_copied(struct gpu *gpu, uint64_t ticket)
{
    return ticket <= gpu_base(gpu)->copied;
}

static void ref_after_copy(struct gpu *gpu, uint64_t ticket)
{
    (void)gpu, (void)ticket;
}

static const char *ref_copy_choice(struct gpu *gpu)
{
    (void)gpu;
    return "copies: by the host, at once";
}

static uint64_t ref_memory_held(const struct gpu *gpu, bool host)
{
    return gpu_base(gpu)->place_bytes[host];
}

// Buffers are the C library's: all of them are written when they are made.
static uint64_t ref_memory_resident(const struct gpu *gpu)
{
    return ref_memory_held(gpu, false) + ref_memory_held(gpu, true);
}

static uint64_t ref_memory_budget(const struct gpu *gpu) { return gpu->caps.heap_bytes; }

static const struct gpu_backend ref_backend = {
    .destroy = ref_destroy,
    .validation_messages = ref_validation_messages,
    .buffer_create = ref_buffer_create,
    .buffer_import = ref_buffer_import,
    .buffer_destroy = ref_buffer_destroy,
    .buffer_write = ref_buffer_write,
    .buffer_read = ref_buffer_read,
    .memory_held = ref_memory_held,
    .memory_resident = ref_memory_resident,
    .memory_budget = ref_memory_budget,
    .kernel_create = ref_kernel_create,
    .kernel_destroy = ref_kernel_destroy,
    .kernel_statistics = ref_kernel_statistics,
    .commands_create = ref_commands_create,
    .commands_destroy = ref_commands_destroy,
    .commands_dispatch = ref_commands_dispatch,
    .commands_copy = ref_commands_copy,
    .commands_fill = ref_commands_fill,
    .commands_barrier = ref_commands_barrier,
    .commands_timestamp = ref_commands_timestamp,
    .commands_end = ref_commands_end,
    .commands_times = ref_commands_times,
    .submit = ref_submit,
    .wait = ref_finished,
    .done = ref_finished,
    .copy = ref_copy,
    .copy_wait = ref_copied,
    .copy_done = ref_copied,
    .after_copy = ref_after_copy,
    .copy_choice = ref_copy_choice,
};

struct gpu *gpu_ref_create(const struct gpu_params *params)
{
    uint32_t keep;
    if (!gpu_caps_keep(params->caps, &keep))
        return NULL;
    struct gpu_base *base = os_alloc(sizeof *base);
    // limits that every real device meets, so that a plan that fits here fits there
    base->gpu.caps = (struct gpu_caps){
        .name = "ref",
        .driver = "scalar references",
        .type = GPU_TYPE_CPU,
        .mask = keep & (GPU_CAP_STORAGE16 | GPU_CAP_F16 | GPU_CAP_SUBGROUP | GPU_CAP_SIZE |
                        GPU_CAP_TIMESTAMP | GPU_CAP_MAPPED | GPU_CAP_HOSTMEM),
        .subgroup_size = 8,
        .subgroup_min = 8,
        .subgroup_max = 8,
        .shared_bytes = 32768,
        .max_workgroup = 1024,
        .max_groups = {65535, 65535, 65535},
        .push_bytes = GPU_MAX_PUSH_BYTES,
        .max_range = UINT32_MAX,
        .max_allocation = os_memory_for_buffers(),
        .heap_bytes = os_memory_for_buffers(),
        .offset_alignment = 64,
        .import_alignment = keep & GPU_CAP_HOSTMEM ? 4096 : 0,
        .unified = true,
        .timestamp_ns = keep & GPU_CAP_TIMESTAMP ? 1 : 0,
    };
    snprintf(base->choice, sizeof base->choice,
             "ref (scalar references on the CPU): asked for by name");
    base->gpu.choice = base->choice;
    base->gpu.backend = &ref_backend;
    return &base->gpu;
}
