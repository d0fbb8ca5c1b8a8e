// SPDX-License-Identifier: MIT
// The front of gpu.h: chooses the device, checks what the caller hands in, keeps the report of
// memory, then calls the device through its table (gpu_backend.h). A caller's mistake in recording
// is logged once and fails gpu_commands_end.
#include "runtime/gpu.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/gpu_backend.h"
#include "runtime/log.h"
#include "runtime/os.h"

static const char *const cap_names[GPU_CAP_COUNT] = {
    "storage16", "f16",     "subgroup",   "size", "address", "timestamp",
    "budget",    "hostmem", "statistics", "coop", "mapped",  "bf16",
    "coop2",     "tensor",  "texel",      "transfer",
};

bool gpu_is_reference(const struct gpu *gpu) { return gpu->caps.api_version == 0; }

const char *gpu_cap_name(unsigned bit_index)
{
    return bit_index < GPU_CAP_COUNT ? cap_names[bit_index] : NULL;
}

const char *gpu_scalar_name(enum gpu_scalar scalar)
{
    static const char *const names[GPU_SCALAR_COUNT] = {"f16", "bf16", "f32", "s8", "s32"};
    return scalar < GPU_SCALAR_COUNT ? names[scalar] : "?";
}

const char *gpu_type_name(enum gpu_type type)
{
    switch (type) {
    case GPU_TYPE_OTHER:      return "other";
    case GPU_TYPE_INTEGRATED: return "integrated";
    case GPU_TYPE_DISCRETE:   return "discrete";
    case GPU_TYPE_VIRTUAL:    return "virtual";
    case GPU_TYPE_CPU:        return "cpu";
    }
    return "other";
}

const char *gpu_uuid_text(const struct gpu_caps *caps, char text[33])
{
    for (size_t i = 0; i < sizeof caps->uuid; i++) snprintf(text + 2 * i, 3, "%02x", caps->uuid[i]);
    return text;
}

const char *gpu_bytes_text(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

// ---- caps

static bool caps_unknown(const char *name, size_t length)
{
    char known[256] = "";
    for (unsigned bit = 0; bit < GPU_CAP_COUNT; bit++) {
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", bit ? ", " : "", cap_names[bit]);
    }
    log_error("caps: \"%.*s\" is not -NAME with NAME one of %s", (int)length, name, known);
    return false;
}

bool gpu_caps_keep(const char *list, uint32_t *keep)
{
    *keep = ~0u;
    for (const char *c = list ? list : ""; *c;) {
        const size_t length = strcspn(c, ", ");
        unsigned bit = 0;
        while (bit < GPU_CAP_COUNT && (length < 2 || strlen(cap_names[bit]) != length - 1 ||
                                       strncmp(c + 1, cap_names[bit], length - 1)))
            bit++;
        if (length && (c[0] != '-' || bit == GPU_CAP_COUNT))
            return caps_unknown(c, length);
        if (length)
            *keep &= ~(1u << bit);
        c += length;
        c += *c != 0;
    }
    return true;
}

// ---- device

struct gpu *gpu_create(const struct gpu_params *params)
{
    const struct gpu_params none = {0};
    if (!params)
        params = &none;
    if (params->device && strcasecmp(params->device, "ref") == 0)
        return gpu_ref_create(params);
    return gpu_vk_create(params);
}

// What the report knows of one buffer name; entries stay when their last buffer goes.
struct gpu_report {
    struct gpu_report *next;
    uint64_t           buffers, bytes;
    char               name[];
};

void gpu_destroy(struct gpu **gpu)
{
    if (!*gpu)
        return;
    struct gpu_base *base = gpu_base(*gpu);
    if (base->buffers)
        log_warn("%s: %" PRIu64 " buffers were not destroyed before their device",
                 (*gpu)->caps.name, base->buffers);
    while (base->report) {
        struct gpu_report *entry = base->report;
        base->report = entry->next;
        free(entry);
    }
    (*gpu)->backend->destroy(*gpu);
    *gpu = NULL;
}

int gpu_list(struct gpu_caps *list, int max)
{
    return gpu_vk_list(list, max);
}

bool gpu_lost(const struct gpu *gpu)
{
    return gpu_base(gpu)->lost;
}

uint64_t gpu_validation_messages(const struct gpu *gpu)
{
    return gpu->backend->validation_messages(gpu);
}

// ---- memory

static struct gpu_report *report_entry(struct gpu_base *base, const char *name)
{
    struct gpu_report **end = &base->report;
    for (; *end; end = &(*end)->next)
        if (strcmp((*end)->name, name) == 0)
            return *end;
    const size_t length = strlen(name) + 1;
    *end = os_alloc(sizeof **end + length);
    memcpy((*end)->name, name, length);
    return *end;
}

// A new buffer takes its parameters and goes into the report.
static void buffer_count(struct gpu_base *base, struct gpu_buffer *buffer,
                         const struct gpu_buffer_params *params)
{
    struct gpu_report *entry = report_entry(base, params->name);
    entry->buffers++;
    entry->bytes += params->bytes;
    base->buffers++;
    base->bytes += params->bytes;
    if (base->bytes > base->peak)
        base->peak = base->bytes;
    buffer->params = *params;
    buffer->params.name = os_strdup(params->name);
}

struct gpu_buffer *gpu_buffer_create(struct gpu *gpu, const struct gpu_buffer_params *params)
{
    struct gpu_base         *base = gpu_base(gpu);
    struct gpu_buffer_params named = *params;
    char                     text[2][32];
    if (!named.name)
        named.name = "unnamed";
    if (base->lost)
        return NULL;
    if (!named.bytes || named.bytes > gpu->caps.max_allocation) {
        log_error("buffer \"%s\": %s, a buffer of %s holds 1 byte to %s; use a smaller batch or "
                  "another device",
                  named.name, gpu_bytes_text(named.bytes, text[0]), gpu->caps.name,
                  gpu_bytes_text(gpu->caps.max_allocation, text[1]));
        return NULL;
    }
    struct gpu_buffer *buffer = gpu->backend->buffer_create(gpu, &named);
    if (buffer)
        buffer_count(base, buffer, &named);
    return buffer;
}

struct gpu_buffer *gpu_buffer_import(struct gpu *gpu, const char *name, void *data, uint64_t bytes)
{
    const struct gpu_caps         *caps = &gpu->caps;
    const struct gpu_buffer_params params = {
        .name = name ? name : "unnamed", .bytes = bytes, .memory = GPU_MEMORY_DEVICE};
    if (gpu_base(gpu)->lost)
        return NULL;
    if (!(caps->mask & GPU_CAP_HOSTMEM)) {
        log_error("buffer \"%s\": %s cannot use memory of the host (ability hostmem)", params.name,
                  caps->name);
        return NULL;
    }
    if (!bytes || ((uintptr_t)data | bytes) % caps->import_alignment) {
        log_error("buffer \"%s\": %" PRIu64 " bytes of host memory at %p; both must be multiples "
                  "of %u",
                  params.name, bytes, data, caps->import_alignment);
        return NULL;
    }
    struct gpu_buffer *buffer = gpu->backend->buffer_import(gpu, &params, data);
    if (buffer)
        buffer_count(gpu_base(gpu), buffer, &params);
    return buffer;
}

void gpu_buffer_destroy(struct gpu *gpu, struct gpu_buffer **buffer)
{
    if (!*buffer)
        return;
    struct gpu_base   *base = gpu_base(gpu);
    struct gpu_report *entry = report_entry(base, (*buffer)->params.name);
    entry->buffers--;
    entry->bytes -= (*buffer)->params.bytes;
    base->buffers--;
    base->bytes -= (*buffer)->params.bytes;
    free((char *)(*buffer)->params.name);
    gpu->backend->buffer_destroy(gpu, *buffer);
    *buffer = NULL;
}

static bool range_inside(const struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes,
                         const char *what)
{
    if (offset <= buffer->params.bytes && bytes <= buffer->params.bytes - offset)
        return true;
    log_error("%s: bytes %" PRIu64 " to %" PRIu64 " of buffer \"%s\", which has %" PRIu64, what,
              offset, offset + bytes, buffer->params.name, buffer->params.bytes);
    return false;
}

bool gpu_buffer_write(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, const void *data,
                      uint64_t bytes)
{
    if (gpu_base(gpu)->lost || !range_inside(buffer, offset, bytes, "write"))
        return false;
    return !bytes || gpu->backend->buffer_write(gpu, buffer, offset, data, bytes);
}

bool gpu_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                     uint64_t bytes)
{
    if (gpu_base(gpu)->lost || !range_inside(buffer, offset, bytes, "read"))
        return false;
    return !bytes || gpu->backend->buffer_read(gpu, buffer, offset, data, bytes);
}

uint64_t gpu_memory_bytes(const struct gpu *gpu)
{
    return gpu_base(gpu)->bytes;
}

uint64_t gpu_memory_peak(const struct gpu *gpu)
{
    return gpu_base(gpu)->peak;
}

uint64_t gpu_memory_held(const struct gpu *gpu)
{
    return gpu->backend->memory_held(gpu);
}

static void print_memory(FILE *out, const char *name, uint64_t buffers, uint64_t bytes)
{
    char text[32], count[24] = "";
    if (buffers)
        snprintf(count, sizeof count, "%" PRIu64, buffers);
    fprintf(out, "%-32s %8s %14s %14" PRIu64 "\n", name, count, gpu_bytes_text(bytes, text),
            bytes);
}

void gpu_memory_print(const struct gpu *gpu, FILE *out)
{
    const struct gpu_base *base = gpu_base(gpu);
    const uint64_t         held = gpu_memory_held(gpu);
    fprintf(out, "%-32s %8s %14s %14s\n", "buffer", "count", "size", "bytes");
    for (const struct gpu_report *entry = base->report; entry; entry = entry->next)
        if (entry->buffers)
            print_memory(out, entry->name, entry->buffers, entry->bytes);
    print_memory(out, "total", base->buffers, base->bytes);
    print_memory(out, "staging, rest of blocks", 0, held - base->bytes);
    print_memory(out, "held", 0, held);
    print_memory(out, "peak of buffers", 0, base->peak);
}

// ---- kernels

static bool kernel_refused(const struct gpu_kernel_params *params, const char *what, uint64_t found,
                           uint64_t wanted)
{
    log_error("kernel %s: %s is %" PRIu64 ", at most %" PRIu64 " is possible", params->name, what,
              found, wanted);
    return false;
}

static bool kernel_check(const struct gpu *gpu, const struct gpu_kernel_params *params)
{
    const struct gpu_caps *caps = &gpu->caps;
    if (params->binding_count > GPU_MAX_BINDINGS)
        return kernel_refused(params, "the number of bindings", params->binding_count,
                              GPU_MAX_BINDINGS);
    if (params->push_bytes > GPU_MAX_PUSH_BYTES || params->push_bytes % 4)
        return kernel_refused(params, "the size of push words (a multiple of 4)",
                              params->push_bytes, GPU_MAX_PUSH_BYTES);
    if (params->spec_count > GPU_MAX_SPEC)
        return kernel_refused(params, "the number of specialization constants", params->spec_count,
                              GPU_MAX_SPEC);
    if (caps->mask & GPU_CAP_SIZE && params->subgroup_size &&
        (params->subgroup_size < caps->subgroup_min || params->subgroup_size > caps->subgroup_max))
        return kernel_refused(params, "the subgroup size", params->subgroup_size,
                              caps->subgroup_max);
    return true;
}

struct gpu_kernel *gpu_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params)
{
    struct gpu_kernel_params named = *params;
    if (!named.name)
        named.name = "unnamed";
    if (gpu_base(gpu)->lost || !kernel_check(gpu, &named))
        return NULL;
    struct gpu_kernel *kernel = gpu->backend->kernel_create(gpu, &named);
    if (!kernel)
        return NULL;
    kernel->params = named;
    kernel->params.name = os_strdup(named.name);
    kernel->params.spirv = NULL; // the caller's, not kept
    return kernel;
}

void gpu_kernel_destroy(struct gpu *gpu, struct gpu_kernel **kernel)
{
    if (!*kernel)
        return;
    free((char *)(*kernel)->params.name);
    gpu->backend->kernel_destroy(gpu, *kernel);
    *kernel = NULL;
}

bool gpu_kernel_statistics(struct gpu *gpu, struct gpu_kernel *kernel, struct gpu_statistics *out)
{
    *out = GPU_STATISTICS_NONE;
    if (gpu_base(gpu)->lost || !(gpu->caps.mask & GPU_CAP_STATISTICS))
        return false;
    return gpu->backend->kernel_statistics(gpu, kernel, out);
}

// ---- commands

struct gpu_commands *gpu_commands_create(struct gpu *gpu, const struct gpu_commands_params *params)
{
    if (gpu_base(gpu)->lost)
        return NULL;
    struct gpu_commands *commands = gpu->backend->commands_create(gpu, params);
    if (!commands)
        return NULL;
    gpu_commands_base(commands)->gpu = gpu;
    commands->params = *params;
    commands->params.name = os_strdup(params->name ? params->name : "unnamed");
    return commands;
}

void gpu_commands_destroy(struct gpu *gpu, struct gpu_commands **commands)
{
    if (!*commands)
        return;
    free((char *)(*commands)->params.name);
    gpu->backend->commands_destroy(gpu, *commands);
    *commands = NULL;
}

static bool bind_check(const struct gpu_caps *caps, const struct gpu_bind *bind, const char *what)
{
    if (!bind->buffer) {
        log_error("%s: no buffer is bound", what);
        return false;
    }
    if (!range_inside(bind->buffer, bind->offset, bind->bytes, what))
        return false;
    if (bind->bytes && bind->bytes <= caps->max_range && bind->offset % caps->offset_alignment == 0)
        return true;
    log_error("%s: %" PRIu64 " bytes at %" PRIu64
              " of buffer \"%s\" are bound; a range has 1 to %" PRIu64
              " bytes and starts at a multiple of %u",
              what, bind->bytes, bind->offset, bind->buffer->params.name, caps->max_range,
              caps->offset_alignment);
    return false;
}

static bool groups_check(const struct gpu_caps *caps, const struct gpu_dispatch *dispatch,
                         const char *what)
{
    for (int i = 0; i < 3; i++)
        if (dispatch->groups[i] > caps->max_groups[i]) {
            log_error("%s: %u x %u x %u workgroups, at most %u x %u x %u are possible", what,
                      dispatch->groups[0], dispatch->groups[1], dispatch->groups[2],
                      caps->max_groups[0], caps->max_groups[1], caps->max_groups[2]);
            return false;
        }
    return true;
}

static bool dispatch_check(const struct gpu_caps *caps, const struct gpu_commands *commands,
                           const struct gpu_dispatch *dispatch)
{
    char what[160];
    if (!dispatch->kernel) {
        log_error("commands \"%s\": a dispatch without a kernel", commands->params.name);
        return false;
    }
    const struct gpu_kernel_params *kernel = &dispatch->kernel->params;
    for (uint32_t b = 0; b < kernel->binding_count; b++) {
        snprintf(what, sizeof what, "commands \"%s\", kernel %s, binding %u", commands->params.name,
                 kernel->name, b);
        if (!bind_check(caps, &dispatch->bind[b], what))
            return false;
    }
    snprintf(what, sizeof what, "commands \"%s\", kernel %s", commands->params.name, kernel->name);
    if (kernel->push_bytes && !dispatch->push) {
        log_error("%s: no push words, %u bytes are wanted", what, kernel->push_bytes);
        return false;
    }
    if (!dispatch->indirect)
        return groups_check(caps, dispatch, what);
    if (dispatch->indirect_offset % 4) {
        log_error("%s: indirect offset %" PRIu64 " is not a multiple of 4", what,
                  dispatch->indirect_offset);
        return false;
    }
    return range_inside(dispatch->indirect, dispatch->indirect_offset, 12, what);
}

// The state in which every recording call begins: false when an earlier one has failed.
static bool recording(struct gpu_commands *commands)
{
    struct gpu_commands_base *base = gpu_commands_base(commands);
    if (base->state == GPU_COMMANDS_READY) {
        log_error("commands \"%s\": recording goes on after gpu_commands_end",
                  commands->params.name);
        base->state = GPU_COMMANDS_FAILED;
    }
    return base->state == GPU_COMMANDS_RECORDING;
}

static void keep(struct gpu_commands *commands, bool ok)
{
    if (!ok)
        gpu_commands_base(commands)->state = GPU_COMMANDS_FAILED;
}

static const struct gpu *owner(const struct gpu_commands *commands)
{
    return gpu_commands_base(commands)->gpu;
}

void gpu_commands_dispatch(struct gpu_commands *commands, const struct gpu_dispatch *dispatch)
{
    if (!recording(commands))
        return;
    const struct gpu *gpu = owner(commands);
    keep(commands, dispatch_check(&gpu->caps, commands, dispatch)
                       && gpu->backend->commands_dispatch(commands, dispatch));
}

static bool copy_check(const char *commands, const struct gpu_bind *from, const struct gpu_bind *to)
{
    if (!from->buffer || !to->buffer || from->bytes != to->bytes) {
        log_error("commands \"%s\": a copy of %" PRIu64 " bytes from \"%s\" to %" PRIu64
                  " bytes of \"%s\"",
                  commands, from->bytes,
                  from->buffer ? from->buffer->params.name : "nothing", to->bytes,
                  to->buffer ? to->buffer->params.name : "nothing");
        return false;
    }
    if (!range_inside(from->buffer, from->offset, from->bytes, "copy from")
        || !range_inside(to->buffer, to->offset, to->bytes, "copy to"))
        return false;
    const uint64_t low = from->offset < to->offset ? from->offset : to->offset;
    const uint64_t high = from->offset < to->offset ? to->offset : from->offset;
    if (from->buffer != to->buffer || high - low >= from->bytes)
        return true;
    log_error("commands \"%s\": a copy inside \"%s\" overlaps itself", commands,
              from->buffer->params.name);
    return false;
}

void gpu_commands_copy(struct gpu_commands *commands, const struct gpu_bind *from,
                       const struct gpu_bind *to)
{
    if (!recording(commands))
        return;
    if (!copy_check(commands->params.name, from, to))
        keep(commands, false);
    else if (from->bytes)
        keep(commands, owner(commands)->backend->commands_copy(commands, from, to));
}

static bool fill_check(const struct gpu_commands *commands, const struct gpu_bind *range)
{
    if (range->buffer && range->offset % 4 == 0 && range->bytes % 4 == 0)
        return range_inside(range->buffer, range->offset, range->bytes, "fill");
    log_error("commands \"%s\": a fill of %" PRIu64 " bytes at %" PRIu64
              " of \"%s\"; both must be multiples of 4",
              commands->params.name, range->bytes, range->offset,
              range->buffer ? range->buffer->params.name : "nothing");
    return false;
}

void gpu_commands_fill(struct gpu_commands *commands, const struct gpu_bind *range, uint32_t word)
{
    if (!recording(commands))
        return;
    if (!fill_check(commands, range))
        keep(commands, false);
    else if (range->bytes)
        keep(commands, owner(commands)->backend->commands_fill(commands, range, word));
}

void gpu_commands_barrier(struct gpu_commands *commands)
{
    if (recording(commands))
        keep(commands, owner(commands)->backend->commands_barrier(commands));
}

void gpu_commands_timestamp(struct gpu_commands *commands, uint32_t slot)
{
    if (!recording(commands))
        return;
    if (slot >= commands->params.timestamps) {
        log_error("commands \"%s\": timestamp slot %u of %u", commands->params.name, slot,
                  commands->params.timestamps);
        keep(commands, false);
    } else if (owner(commands)->caps.mask & GPU_CAP_TIMESTAMP) {
        keep(commands, owner(commands)->backend->commands_timestamp(commands, slot));
    }
}

bool gpu_commands_end(struct gpu_commands *commands)
{
    struct gpu_commands_base *base = gpu_commands_base(commands);
    const bool ok = recording(commands) && owner(commands)->backend->commands_end(commands);
    base->state = ok ? GPU_COMMANDS_READY : GPU_COMMANDS_FAILED;
    return ok;
}

bool gpu_commands_times(struct gpu *gpu, struct gpu_commands *commands, double *ms)
{
    const struct gpu_commands_base *base = gpu_commands_base(commands);
    if (gpu_base(gpu)->lost || !(gpu->caps.mask & GPU_CAP_TIMESTAMP) || !commands->params.timestamps
        || !base->ticket)
        return false;
    return gpu->backend->commands_times(gpu, commands, ms);
}

// ---- queue

uint64_t gpu_submit(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count)
{
    if (gpu_base(gpu)->lost)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct gpu_commands_base *base = gpu_commands_base(commands[i]);
        if (base->gpu == gpu && base->state == GPU_COMMANDS_READY)
            continue;
        log_error("commands \"%s\": submitted %s", commands[i]->params.name,
                  base->gpu != gpu ? "to another device than they were recorded for"
                                   : "without a successful gpu_commands_end");
        return 0;
    }
    return gpu->backend->submit(gpu, commands, count);
}

static bool ticket_check(const struct gpu *gpu, uint64_t ticket)
{
    const struct gpu_base *base = gpu_base(gpu);
    if (base->lost)
        return false;
    if (ticket <= base->submitted)
        return true;
    log_error("ticket %" PRIu64 " was never given out, the last one is %" PRIu64, ticket,
              base->submitted);
    return false;
}

bool gpu_wait(struct gpu *gpu, uint64_t ticket)
{
    return ticket_check(gpu, ticket) && gpu->backend->wait(gpu, ticket);
}

bool gpu_done(struct gpu *gpu, uint64_t ticket)
{
    return ticket_check(gpu, ticket) && gpu->backend->done(gpu, ticket);
}

// ---- copies beside the compute

uint64_t gpu_copy(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count, uint64_t after)
{
    if (!ticket_check(gpu, after))
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!copy_check("copies", &copies[i].from, &copies[i].to))
            return 0;
        if (!copies[i].from.bytes) {
            log_error("copies: number %u of %u has no bytes", i, count);
            return 0;
        }
    }
    return count ? gpu->backend->copy(gpu, copies, count, after) : gpu_base(gpu)->copied;
}

static bool copy_ticket_check(const struct gpu *gpu, uint64_t ticket)
{
    const struct gpu_base *base = gpu_base(gpu);
    if (ticket > base->copied)
        log_error("copy ticket %" PRIu64 " was never given out, the last one is %" PRIu64, ticket,
                  base->copied);
    return !base->lost && ticket <= base->copied;
}

bool gpu_copy_wait(struct gpu *gpu, uint64_t ticket)
{
    return copy_ticket_check(gpu, ticket) && gpu->backend->copy_wait(gpu, ticket);
}

bool gpu_copy_done(struct gpu *gpu, uint64_t ticket)
{
    return copy_ticket_check(gpu, ticket) && gpu->backend->copy_done(gpu, ticket);
}

void gpu_after_copy(struct gpu *gpu, uint64_t ticket)
{
    if (copy_ticket_check(gpu, ticket))
        gpu->backend->after_copy(gpu, ticket);
}

const char *gpu_copy_choice(struct gpu *gpu)
{
    return gpu->backend->copy_choice(gpu);
}
