// SPDX-License-Identifier: MIT
// The front of gpu.h: chooses the device, checks what the caller hands in, keeps the report of
// memory, then calls the device through its table (gpu_backend.h). What is recorded and submitted
// is in gpu_commands.c.
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
    bool               host;
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

static struct gpu_report *report_entry(struct gpu_base *base, const char *name, bool host)
{
    struct gpu_report **end = &base->report;
    for (; *end; end = &(*end)->next)
        if ((*end)->host == host && strcmp((*end)->name, name) == 0)
            return *end;
    const size_t length = strlen(name) + 1;
    *end = os_alloc(sizeof **end + length);
    memcpy((*end)->name, name, length);
    (*end)->host = host;
    return *end;
}

static uint64_t note_held(const struct gpu *gpu, bool host)
{
    const uint64_t held = gpu->backend->memory_held(gpu, host);
    uint64_t      *peak = &gpu_base(gpu)->held_peak[host];
    if (held > *peak)
        *peak = held;
    return held;
}

// A new buffer takes its parameters and goes into the report.
static void buffer_count(struct gpu_base *base, struct gpu_buffer *buffer,
                         const struct gpu_buffer_params *params)
{
    struct gpu_report *entry = report_entry(base, params->name, buffer->host);
    entry->buffers++;
    entry->bytes += params->bytes;
    base->buffers++;
    base->bytes += params->bytes;
    if (base->bytes > base->peak)
        base->peak = base->bytes;
    base->place_bytes[buffer->host] += params->bytes;
    note_held(&base->gpu, buffer->host);
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
    struct gpu_report *entry = report_entry(base, (*buffer)->params.name, (*buffer)->host);
    entry->buffers--;
    entry->bytes -= (*buffer)->params.bytes;
    base->buffers--;
    base->bytes -= (*buffer)->params.bytes;
    base->place_bytes[(*buffer)->host] -= (*buffer)->params.bytes;
    free((char *)(*buffer)->params.name);
    gpu->backend->buffer_destroy(gpu, *buffer);
    *buffer = NULL;
}

bool gpu_range_inside(const struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes,
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
    if (gpu_base(gpu)->lost || !gpu_range_inside(buffer, offset, bytes, "write"))
        return false;
    return !bytes || gpu->backend->buffer_write(gpu, buffer, offset, data, bytes);
}

bool gpu_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                     uint64_t bytes)
{
    if (gpu_base(gpu)->lost || !gpu_range_inside(buffer, offset, bytes, "read"))
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
    return gpu->backend->memory_held(gpu, false) + gpu->backend->memory_held(gpu, true);
}

struct gpu_account gpu_memory_account(const struct gpu *gpu, bool host)
{
    const uint64_t held = note_held(gpu, host);
    return (struct gpu_account){gpu_base(gpu)->place_bytes[host], held,
                                gpu_base(gpu)->held_peak[host]};
}

uint64_t gpu_memory_resident(const struct gpu *gpu)
{
    return gpu->backend->memory_resident(gpu);
}

uint64_t gpu_memory_budget(const struct gpu *gpu)
{
    return gpu->backend->memory_budget(gpu);
}

void gpu_memory_expect(struct gpu *gpu, uint64_t bytes)
{
    gpu_base(gpu)->expected = bytes;
}

static void print_memory(FILE *out, const char *name, const char *place, uint64_t buffers,
                         uint64_t bytes)
{
    char text[32], count[24] = "";
    if (buffers)
        snprintf(count, sizeof count, "%" PRIu64, buffers);
    fprintf(out, "%-32s %6s %8s %14s %14" PRIu64 "\n", name, place, count,
            gpu_bytes_text(bytes, text), bytes);
}

void gpu_memory_print(const struct gpu *gpu, FILE *out)
{
    static const char *const place[] = {"device", "host"};
    const struct gpu_base *base = gpu_base(gpu);
    const uint64_t         held = gpu_memory_held(gpu);
    fprintf(out, "%-32s %6s %8s %14s %14s\n", "buffer", "where", "count", "size", "bytes");
    for (const struct gpu_report *entry = base->report; entry; entry = entry->next)
        if (entry->buffers)
            print_memory(out, entry->name, place[entry->host], entry->buffers, entry->bytes);
    print_memory(out, "total", "", base->buffers, base->bytes);
    print_memory(out, "staging, rest of blocks", "", 0, held - base->bytes);
    print_memory(out, "held", "", 0, held);
    print_memory(out, "peak of buffers", "", 0, base->peak);
    for (int host = 0; host < 2; host++)
        print_memory(out, "peak of what is held", place[host], 0,
                     gpu_memory_account(gpu, host).peak);
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
