// SPDX-License-Identifier: MIT
// Every step of a real plan against its scalar reference, on the bytes that the device really had:
// what a test of single operations cannot see (ranges, order, sizes of this model) shows here.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/base.h"
#include "src/run.h"

struct mirror { void *before, *after; };

static bool read_all(const struct plan *plan, const struct plan_step *step, struct mirror *mirror,
                     bool after)
{
    for (uint32_t b = 0; b < step->bind_count; b++) {
        const struct gpu_bind bind = plan_bind(plan, &step->bind[b]);
        void **into = after ? &mirror[b].after : &mirror[b].before;
        *into = malloc(bind.bytes);
        if (!gpu_buffer_read(plan->gpu, bind.buffer, bind.offset, *into, bind.bytes)) return false;
    }
    return true;
}

// Bindings of one step may share bytes (in place): the reference must see one memory for them.
static void share_aliases(const struct plan *plan, const struct plan_step *step,
                          struct gpu_ref_call *call)
{
    for (uint32_t b = 0; b < step->bind_count; b++)
        for (uint32_t a = 0; a < b; a++) {
            const struct gpu_bind x = plan_bind(plan, &step->bind[a]),
                                  y = plan_bind(plan, &step->bind[b]);
            if (x.buffer == y.buffer && x.offset == y.offset && x.bytes == y.bytes)
                call->buffer[b] = call->buffer[a];
        }
}

static double error_of(const void *got, const void *want, uint64_t bytes, enum dtype dtype)
{
    double error = 0, square = 0;
    for (uint64_t i = 0; i < bytes / dtype_bytes(dtype); i++) {
        const double x = dtype_load(got, i, dtype), y = dtype_load(want, i, dtype);
        if (!(isfinite(x) && isfinite(y))) continue; // words seen as floats, or unused rows
        error += (x - y) * (x - y);
        square += y * y;
    }
    return square > 0 ? error / square : error;
}

// The type of a written binding is its own or the storage type: the smaller error tells which.
static double binding_error(const struct plan *plan, const void *got, const void *want,
                            uint64_t bytes)
{
    if (memcmp(got, want, bytes) == 0) return 0;
    const double wide = error_of(got, want, bytes, DTYPE_F32);
    return plan->store == DTYPE_F32 ? wide : fmin(wide, error_of(got, want, bytes, plan->store));
}

static bool step_once(struct plan *plan, uint32_t index)
{
    struct plan_stretch stretch = {.end = 1};
    struct plan one = *plan;
    one.step = &plan->step[index];
    one.step_count = one.stretch_count = 1;
    one.stretch = &stretch;
    struct run *run = run_create(&one);
    const uint64_t ticket = run ? run_submit(run) : 0;
    const bool ok = ticket && gpu_wait(plan->gpu, ticket);
    run_destroy(&run);
    return ok;
}

static bool compare_step(const struct plan *plan, uint32_t index, struct mirror *mirror,
                         double tolerance)
{
    const struct plan_step *step = &plan->step[index];
    const struct kernel_info *info = kernel_info(step->op);
    struct gpu_ref_call call = {.push = step->push, .tag = (int)step->kernel->store};
    for (uint32_t b = 0; b < step->bind_count; b++) {
        call.buffer[b] = mirror[b].before;
        call.bytes[b] = step->bind[b].bytes;
    }
    share_aliases(plan, step, &call);
    info->ref(&call);
    bool ok = true;
    for (uint32_t b = 0; b < step->bind_count; b++) {
        if (info->access[b] == 'r') continue;
        const double error =
            binding_error(plan, mirror[b].after, call.buffer[b], step->bind[b].bytes);
        if (error <= tolerance) continue;
        log_error(
            "plan %s step %u (%s, %s): %s differs from the reference, error %.3g, allowed %.3g",
            plan->name, index, step->section, step->kernel->name,
            plan->tensor[step->bind[b].tensor - 1].name, error, tolerance);
        ok = false;
    }
    return ok;
}

// False: the device failed.
static bool check_stretch(struct plan *plan, const struct plan_stretch *stretch, double tolerance,
                          bool *ok)
{
    bool device = true;
    for (uint32_t i = stretch->begin; i < stretch->end && device; i++) {
        struct mirror mirror[GPU_MAX_BINDINGS] = {0};
        const bool compare = plan->step[i].kind == PLAN_DISPATCH;
        device = (!compare || read_all(plan, &plan->step[i], mirror, false)) &&
                 step_once(plan, i) && (!compare || read_all(plan, &plan->step[i], mirror, true));
        if (device && compare) *ok &= compare_step(plan, i, mirror, tolerance);
        for (int b = 0; b < GPU_MAX_BINDINGS; b++) {
            free(mirror[b].before);
            free(mirror[b].after);
        }
    }
    return device;
}

bool run_check(struct plan *plan, double tolerance)
{
    bool ok = true, device = true;
    for (uint32_t s = 0; s < plan->stretch_count && device; s++) {
        const struct plan_stretch *stretch = &plan->stretch[s];
        struct plan_visit visit = {.id = stretch->id};
        do {
            visit.again = false;
            device = (!stretch->visit || stretch->visit(stretch->user, &visit)) &&
                     check_stretch(plan, stretch, tolerance, &ok);
            visit.turn++;
        } while (device && visit.again);
    }
    return ok && device;
}
