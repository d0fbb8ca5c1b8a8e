// SPDX-License-Identifier: MIT
// The part of gpu.h's front that has commands in it: recording, submits, copies beside the compute.
// Arguments are checked, then the device is called through its table (gpu_backend.h). A caller's
// mistake in recording is logged once and fails gpu_commands_end.
#include "runtime/gpu.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/gpu_backend.h"
#include "runtime/log.h"
#include "runtime/os.h"

// ---- recording

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
    if (!gpu_range_inside(bind->buffer, bind->offset, bind->bytes, what))
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
    return gpu_range_inside(dispatch->indirect, dispatch->indirect_offset, 12, what);
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
    if (!gpu_range_inside(from->buffer, from->offset, from->bytes, "copy from")
        || !gpu_range_inside(to->buffer, to->offset, to->bytes, "copy to"))
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
        return gpu_range_inside(range->buffer, range->offset, range->bytes, "fill");
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
