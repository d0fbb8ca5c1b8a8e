// SPDX-License-Identifier: MIT
// The only interface to a device. Above it nobody sees Vulkan; below it nobody knows what is
// computed. Two implementations: Vulkan (runtime/vk_*.c) and the CPU through scalar references
// handed in with each kernel (runtime/gpu_ref.c, device "ref").
//
// Conventions: create returns NULL and logs one line on failure; destroy takes a pointer to the
// handle, accepts NULL and half-built objects and writes NULL. Objects may be destroyed while
// commands that use them are in flight: the device keeps them until the last one has retired.
// A handle's public members are read-only. One thread at a time per gpu.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GPU_MAX_BINDINGS = 9, GPU_MAX_PUSH_BYTES = 128, GPU_MAX_SPEC = 16, GPU_MAX_MATRICES = 24 };

// Optional abilities; each can be masked from the command line (--caps -f16,-address) by the name
// that gpu_cap_name gives, so that every fallback can be forced on any machine.
enum gpu_cap {
    GPU_CAP_STORAGE16  = 1u << 0, // "storage16": 16-bit types in storage buffers
    GPU_CAP_F16        = 1u << 1, // "f16": arithmetic on float16
    GPU_CAP_SUBGROUP   = 1u << 2, // "subgroup": arithmetic and shuffle in compute
    GPU_CAP_SIZE       = 1u << 3, // "size": a required subgroup size with full subgroups
    GPU_CAP_ADDRESS    = 1u << 4, // "address": buffer device address
    GPU_CAP_TIMESTAMP  = 1u << 5, // "timestamp": timestamps on the compute queue
    GPU_CAP_BUDGET     = 1u << 6, // "budget": VK_EXT_memory_budget
    GPU_CAP_HOSTMEM    = 1u << 7, // "hostmem": VK_EXT_external_memory_host
    GPU_CAP_STATISTICS = 1u << 8, // "statistics": VK_KHR_pipeline_executable_properties
    GPU_CAP_COOP       = 1u << 9, // "coop": VK_KHR_cooperative_matrix
    GPU_CAP_MAPPED     = 1u << 10, // "mapped": DEVICE buffers are mapped (unified memory)
    GPU_CAP_BF16       = 1u << 11, // "bf16": VK_KHR_shader_bfloat16
    GPU_CAP_COOP2      = 1u << 12, // "coop2": VK_NV_cooperative_matrix2, flexible dimensions; 1.3
    GPU_CAP_TENSOR     = 1u << 13, // "tensor": its workgroup scope and tensor addressing
    GPU_CAP_TEXEL      = 1u << 14, // "texel": texel buffers of 8 and 16 bytes, max_range long
    GPU_CAP_TRANSFER   = 1u << 15, // "transfer": a queue that only copies, beside the compute
    GPU_CAP_COUNT      = 16,
};

// Element types of cooperative matrices.
enum gpu_scalar {
    GPU_SCALAR_F16, GPU_SCALAR_BF16, GPU_SCALAR_F32, GPU_SCALAR_S8, GPU_SCALAR_S32,
    GPU_SCALAR_COUNT,
};
enum gpu_scope { GPU_SCOPE_SUBGROUP, GPU_SCOPE_WORKGROUP };

// One product that cooperative matrices can do: C [m][n] += A [m][k] B [k][n].
struct gpu_matrix {
    uint32_t        m, n, k;     // sizes; of a flexible one, multiples of these are taken
    enum gpu_scalar in, out;     // of A and B; of C and the result
    enum gpu_scope  scope;
    uint32_t        invocations; // workgroup scope: the workgroup it is for, else 0
};

enum gpu_type {
    GPU_TYPE_OTHER,
    GPU_TYPE_INTEGRATED,
    GPU_TYPE_DISCRETE,
    GPU_TYPE_VIRTUAL,
    GPU_TYPE_CPU
};

// Named faults of drivers, set in one place (runtime/vk_device.c) with driver, version and symptom.
enum gpu_workaround {
    GPU_WORKAROUND_HEAP_SIZE = 1u << 0, // lavapipe reports a 2 GiB heap and does not enforce it
};

struct gpu_caps {
    char          name[256];           // device name as the driver gives it
    char          driver[256];         // driver name and version text
    uint8_t       uuid[16];            // device UUID (pipelineCacheUUID where none)
    uint32_t      api_version;         // as VK_MAKE_API_VERSION
    uint32_t      driver_version, vendor_id, device_id;
    enum gpu_type type;
    uint32_t      mask;                // enum gpu_cap bits that are present and not masked
    uint32_t      workarounds;         // enum gpu_workaround bits
    uint32_t      subgroup_size;       // size to plan for (the one required where GPU_CAP_SIZE)
    uint32_t      subgroup_min, subgroup_max;
    uint32_t      shared_bytes;        // shared memory a workgroup
    uint32_t      max_workgroup;       // invocations a workgroup
    uint32_t      max_groups[3];       // workgroups a dispatch
    uint32_t      push_bytes;
    uint64_t      max_range;           // bytes one binding may cover
    uint64_t      max_allocation;      // bytes of one buffer
    uint64_t      heap_bytes;          // device-local memory (host RAM on CPU drivers)
    uint32_t      offset_alignment;    // of a binding's offset, bytes
    uint32_t      import_alignment;    // of gpu_buffer_import; 0 without GPU_CAP_HOSTMEM
    bool          unified;             // device memory is host memory
    double        timestamp_ns;        // nanoseconds a tick; 0 without GPU_CAP_TIMESTAMP
    // what cooperative matrices can do; none without GPU_CAP_COOP, no bf16 without GPU_CAP_BF16
    struct gpu_matrix matrix[GPU_MAX_MATRICES];
    uint32_t          matrix_count;
    struct gpu_matrix flexible[GPU_MAX_MATRICES]; // none without GPU_CAP_COOP2
    uint32_t          flexible_count;
    uint32_t          flexible_max;    // largest dimension of a flexible matrix
    uint32_t          reserved_shared; // shared memory that workgroup scope takes for itself
};

// What Vulkan's validation layer looks at; each message is logged as an error.
enum gpu_validation {
    GPU_VALIDATION_NONE,
    GPU_VALIDATION_HAZARDS,  // use of the interface, and synchronization between commands
    GPU_VALIDATION_ACCESSES, // GPU-assisted: every access of every shader; slow
};

// Which way copies beside the compute take (gpu_copy).
enum gpu_copies { GPU_COPIES_MEASURED, GPU_COPIES_QUEUE, GPU_COPIES_TRANSFER };

struct gpu_params {
    const char *device;    // NULL: the best; "1": by index; "radeon": by part of the name; "ref"
    const char *caps;      // NULL or a list such as "-f16,-subgroup": abilities to mask
    const char *cache_dir; // NULL: the user's cache folder; "": no pipeline cache on disk
    enum gpu_validation validate;
    enum gpu_copies copies; // TRANSFER without that ability: the one queue
};

struct gpu {
    struct gpu_caps          caps;
    const char              *choice;   // one sentence: which device was taken and why
    const struct gpu_backend *backend; // internal
};

struct gpu *gpu_create(const struct gpu_params *params);
void        gpu_destroy(struct gpu **gpu);
// Fills up to `max` caps of all devices, unmasked, best first; returns how many there are, -1 on
// error.
int         gpu_list(struct gpu_caps *list, int max);
// True for the device `ref`, whose kernels are their own references.
bool        gpu_is_reference(const struct gpu *gpu);
const char *gpu_cap_name(unsigned bit_index);
const char *gpu_scalar_name(enum gpu_scalar scalar); // "f16"
const char *gpu_type_name(enum gpu_type type);
// caps->uuid in hexadecimal, for names of files; returns text.
const char *gpu_uuid_text(const struct gpu_caps *caps, char text[33]);
// True once the device was lost: every later call fails, a new gpu must be made.
bool        gpu_lost(const struct gpu *gpu);
// Validation messages seen since creation (0 without `validate`).
uint64_t    gpu_validation_messages(const struct gpu *gpu);

// ---- memory

enum gpu_memory {
    GPU_MEMORY_DEVICE,   // device-local; `data` is NULL without GPU_CAP_MAPPED
    GPU_MEMORY_UPLOAD,   // the host writes, the device reads; mapped and coherent
    GPU_MEMORY_READBACK, // the device writes, the host reads; mapped, coherent, cached if possible
};

struct gpu_buffer_params {
    const char     *name;  // for the report: "weights", "plan arena", ... (copied)
    uint64_t        bytes; // > 0
    enum gpu_memory memory;
    // `data`, where there is one, is a multiple of 4096. Where the device's memory is the host's
    // and it takes pages of the process (GPU_CAP_HOSTMEM), it is made of these: see `direct`
    bool            pages;
};

struct gpu_buffer {
    struct gpu_buffer_params params; // params.name points to the buffer's own copy
    void                    *data;   // the mapping, or NULL
    bool                     host;   // it lies in memory of the host, and is counted there
    bool                     direct; // O_DIRECT reads of files can go to `data`
};

// Memory is suballocated from larger blocks; buffers of 256 MiB and more have a block of their own.
// Contents are undefined. Out of memory: one line that says what asked, what is in use, what to do.
struct gpu_buffer *gpu_buffer_create(struct gpu *gpu, const struct gpu_buffer_params *params);
// Host memory of the caller as a buffer, without a copy (GPU_CAP_HOSTMEM): pages of its own
// (os_pages) or of a mapped file. `data` and `bytes` are multiples of caps.import_alignment; the
// memory must stay until the buffer is destroyed and what was submitted before that is done. It is
// counted as any buffer. NULL after one line also where the driver does not take this memory.
struct gpu_buffer *gpu_buffer_import(struct gpu *gpu, const char *name, void *data,
                                     uint64_t bytes);
void               gpu_buffer_destroy(struct gpu *gpu, struct gpu_buffer **buffer);
// Synchronous copies of any size between host memory and any buffer, staged where needed.
bool gpu_buffer_write(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, const void *data,
                      uint64_t bytes);
bool gpu_buffer_read(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, void *data,
                     uint64_t bytes);
uint64_t gpu_memory_bytes(const struct gpu *gpu);      // in buffers now
uint64_t gpu_memory_peak(const struct gpu *gpu);       // most ever
// What the driver was asked for: buffers, staging of host copies, and the rest of their blocks.
uint64_t gpu_memory_held(const struct gpu *gpu);
// The same apart: memory of the device, and memory of the host that the device works with. Where
// both are one (caps.unified), what was asked for as GPU_MEMORY_DEVICE is the device's.
struct gpu_account { uint64_t bytes, held, peak; }; // in buffers now; held now; most ever held
struct gpu_account gpu_memory_account(const struct gpu *gpu, bool host);
// What of all this is in the process's resident set: where the device's memory is the host's.
uint64_t gpu_memory_resident(const struct gpu *gpu);
// How much of the device's memory this process may hold now, what it holds included: what other
// programs have is gone from it where the driver tells (VK_EXT_memory_budget), else the whole heap.
uint64_t gpu_memory_budget(const struct gpu *gpu);
// How much of the device's memory is to be held at most, 0: no matter. It is asked of the driver in
// blocks that are small against this, so that little of it is held and not used; it is no limit.
void gpu_memory_expect(struct gpu *gpu, uint64_t bytes);
// Table: name, where it lies, buffers, size, bytes; it adds up to gpu_memory_held.
void     gpu_memory_print(const struct gpu *gpu, FILE *out);

// ---- kernels

// One call of a scalar reference: the whole dispatch at once, buffers as host pointers.
struct gpu_ref_call {
    void       *buffer[GPU_MAX_BINDINGS]; // start of each bound range
    uint64_t    bytes[GPU_MAX_BINDINGS];  // length of each bound range
    const void *push;
    int         tag;                      // the kernel's own, from gpu_kernel_params
};
typedef void gpu_ref_fn(const struct gpu_ref_call *call);

struct gpu_kernel_params {
    const char     *name;            // for logs, the profile and debuggers (copied)
    const uint32_t *spirv;
    size_t          spirv_bytes;
    uint32_t        spec[GPU_MAX_SPEC]; // specialization constants, ids 0 .. spec_count-1
    uint32_t        spec_count;
    uint32_t        binding_count;   // storage buffers, set 0, bindings 0 .. count-1
    // 0, or 8 or 16: the binding is read only, as a texel buffer of rg32ui or rgba32ui
    // (GPU_CAP_TEXEL); the last texel may reach past the bound range
    uint8_t         texel_bytes[GPU_MAX_BINDINGS];
    uint32_t        push_bytes;
    uint32_t        subgroup_size;   // 0: any; else required, with full subgroups (GPU_CAP_SIZE)
    gpu_ref_fn     *ref;             // the reference, for the ref device
    int             tag;             // passed to the reference
};

struct gpu_kernel {
    struct gpu_kernel_params params;
};

struct gpu_kernel *gpu_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params);
void               gpu_kernel_destroy(struct gpu *gpu, struct gpu_kernel **kernel);
// What the driver says of the compiled pipeline (GPU_CAP_STATISTICS); -1 where it does not say.
struct gpu_statistics {
    int64_t registers, spills, shared_bytes, code_bytes;
    int64_t scratch_bytes; // private memory outside registers, a subgroup
    int64_t waves;         // subgroups that fit on one SIMD at a time
};
#define GPU_STATISTICS_NONE ((struct gpu_statistics){-1, -1, -1, -1, -1, -1})
bool gpu_kernel_statistics(struct gpu *gpu, struct gpu_kernel *kernel, struct gpu_statistics *out);

// ---- commands: recorded once, submitted many times

struct gpu_bind {
    struct gpu_buffer *buffer;
    uint64_t offset, bytes; // offset a multiple of caps.offset_alignment, bytes <= caps.max_range
};

struct gpu_dispatch {
    struct gpu_kernel *kernel;
    struct gpu_bind    bind[GPU_MAX_BINDINGS];
    const void        *push;            // kernel's push_bytes
    uint32_t           groups[3];       // ignored where indirect is set
    struct gpu_buffer *indirect;        // NULL, or a buffer with three uint32 group counts
    uint64_t           indirect_offset; // multiple of 4
};

struct gpu_commands_params {
    const char *name;
    uint32_t    timestamps; // slots for gpu_commands_timestamp
};

struct gpu_commands {
    struct gpu_commands_params params;
};

// Recording: create, any number of the calls below, end. After end the commands can be submitted
// any number of times; a submit of the same commands while they are in flight waits for them first.
struct gpu_commands *gpu_commands_create(struct gpu *gpu, const struct gpu_commands_params *params);
void gpu_commands_destroy(struct gpu *gpu, struct gpu_commands **commands);
void gpu_commands_dispatch(struct gpu_commands *commands, const struct gpu_dispatch *dispatch);
void gpu_commands_copy(struct gpu_commands *commands, const struct gpu_bind *from,
                       const struct gpu_bind *to);
void gpu_commands_fill(struct gpu_commands *commands, const struct gpu_bind *range,
                       uint32_t word); // multiples of 4
// Everything recorded before is finished and visible to everything after (device and host reads).
void gpu_commands_barrier(struct gpu_commands *commands);
void gpu_commands_timestamp(struct gpu_commands *commands, uint32_t slot);
bool gpu_commands_end(struct gpu_commands *commands);

// Submits in order; returns a ticket > 0 (a timeline value), 0 on failure. Work of one gpu runs in
// order of submission, with a full barrier between submits.
uint64_t gpu_submit(struct gpu *gpu, struct gpu_commands *const *commands, uint32_t count);
bool     gpu_wait(struct gpu *gpu, uint64_t ticket); // false: device lost, logged once
bool     gpu_done(struct gpu *gpu, uint64_t ticket);
// Milliseconds since the first slot, for each slot, of the last finished submit. False without
// timestamps.
bool     gpu_commands_times(struct gpu *gpu, struct gpu_commands *commands, double *ms);

// ---- copies beside the compute: what streams in and out of device memory

// Copies between buffers that run beside what is submitted: on the transfer queue
// (GPU_CAP_TRANSFER) where it was measured to be faster, at the first call, else in their turn on
// the one queue. They begin when ticket `after` of gpu_submit is done (0: at once), and when
// earlier copies are. What others do to the same bytes has to be ordered by the caller: earlier
// submits through `after`, later ones through gpu_after_copy. Returns a ticket > 0 of their own
// counting, 0 on failure.
struct gpu_copy { struct gpu_bind from, to; }; // equal bytes > 0, no overlap; any offsets
uint64_t    gpu_copy(struct gpu *gpu, const struct gpu_copy *copies, uint32_t count,
                     uint64_t after);
bool        gpu_copy_wait(struct gpu *gpu, uint64_t ticket); // then the host sees what they wrote
bool        gpu_copy_done(struct gpu *gpu, uint64_t ticket);
// All later submits see these copies; the device waits, not the host.
void        gpu_after_copy(struct gpu *gpu, uint64_t ticket);
// One sentence: which way copies take, and why. Measures where nothing was copied yet.
const char *gpu_copy_choice(struct gpu *gpu);
