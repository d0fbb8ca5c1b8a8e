// SPDX-License-Identifier: MIT
// Recording and replaying plans: see run.h.
#include "src/run.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "src/base.h"

struct part { uint32_t begin, end, stretch; double ms; struct gpu_commands *commands[RUN_SETS]; };

struct run {
    struct plan *plan;
    struct part *part;
    uint32_t     part_count;
    uint32_t     set;       // of commands submitted last
    uint64_t     submitted; // runs
    double      *step_ms;   // of run_step_ms
    bool         settled;   // else there is one set, with timestamps around each step
};

// ---- recording

static void record_dispatch(struct gpu_commands *commands, const struct plan *plan,
                            const struct plan_step *step)
{
    struct gpu_dispatch dispatch = {.kernel = step->kernel->gpu, .push = step->push,
                                    .groups = {step->groups[0], step->groups[1], step->groups[2]}};
    for (uint32_t b = 0; b < step->bind_count; b++)
        dispatch.bind[b] = plan_bind(plan, &step->bind[b]);
    if (step->indirect.tensor) {
        const struct gpu_bind indirect = plan_bind(plan, &step->indirect);
        dispatch.indirect = indirect.buffer;
        dispatch.indirect_offset = indirect.offset;
    }
    gpu_commands_dispatch(commands, &dispatch);
}

static void record_step(struct gpu_commands *commands, const struct plan *plan, uint32_t index)
{
    const struct plan_step *step = &plan->step[index];
    const struct gpu_bind first = plan_bind(plan, &step->bind[0]);
    switch (step->kind) {
    case PLAN_DISPATCH: record_dispatch(commands, plan, step); break;
    case PLAN_FILL: {
        uint32_t word;
        memcpy(&word, step->push, sizeof word);
        gpu_commands_fill(commands, &first, word);
        break;
    }
    case PLAN_COPY: {
        const struct gpu_bind to = plan_bind(plan, &step->bind[1]);
        gpu_commands_copy(commands, &first, &to);
        break;
    }
    }
}

// Steps [begin, end) with a timestamp before the first and after the last, or, where `each`, before
// and after every one, which then runs alone.
static struct gpu_commands *record(struct plan *plan, uint32_t begin, uint32_t end, bool each)
{
    struct gpu_commands *commands = gpu_commands_create(plan->gpu, &(struct gpu_commands_params){
        .name = plan->name, .timestamps = each ? 2 * (end - begin) : 2});
    if (!commands) return NULL;
    for (uint32_t i = begin; i < end; i++) {
        if (i > begin && plan->step[i].barrier) gpu_commands_barrier(commands);
        if (each || i == begin) gpu_commands_timestamp(commands, 2 * (i - begin));
        record_step(commands, plan, i);
        if (each) gpu_commands_barrier(commands);
        if (each || i + 1 == end) gpu_commands_timestamp(commands, each ? 2 * (i - begin) + 1 : 1);
    }
    if (!gpu_commands_end(commands)) gpu_commands_destroy(plan->gpu, &commands);
    return commands;
}

// ---- cutting

// A guess until it is measured, on the safe side: real devices are faster.
static double estimate_ms(const struct plan *plan, const struct plan_step *step)
{
    const double gflops = plan->gpu->caps.type == GPU_TYPE_CPU ? 5 : 100, gbps = 2;
    if (step->kind != PLAN_DISPATCH) return 1e-6 * (double)step->bind[0].bytes / gbps;
    const struct kernel_info *info = kernel_info(step->op);
    const double flop_ms = 1e-6 * info->flops(step->push) / gflops;
    const double byte_ms =
        1e-6 * info->bytes(step->push, (uint32_t)dtype_bytes(plan->store)) / gbps;
    return 0.02 + (flop_ms > byte_ms ? flop_ms : byte_ms);
}

static void cut_stretch(struct run *run, uint32_t stretch, const double *step_ms)
{
    const struct plan *plan = run->plan;
    const uint32_t end = min_u32(plan->stretch[stretch].end, plan->step_count);
    double ms = 0;
    for (uint32_t i = plan->stretch[stretch].begin; i < end; i++) {
        const double own = step_ms ? step_ms[i] : estimate_ms(plan, &plan->step[i]);
        if (i == plan->stretch[stretch].begin || ms + own > RUN_SUBMIT_MS) {
            run->part[run->part_count++] = (struct part){.begin = i, .stretch = stretch};
            ms = 0;
        }
        ms += own;
        run->part[run->part_count - 1].end = i + 1;
        run->part[run->part_count - 1].ms = ms;
    }
}

static void cut(struct run *run, const double *step_ms)
{
    run->part_count = 0;
    for (uint32_t s = 0; s < run->plan->stretch_count; s++) cut_stretch(run, s, step_ms);
}

static void drop_parts(struct run *run)
{
    for (uint32_t i = 0; i < run->part_count; i++)
        for (uint32_t set = 0; set < RUN_SETS; set++)
            gpu_commands_destroy(run->plan->gpu, &run->part[i].commands[set]);
}

static bool record_parts(struct run *run)
{
    for (uint32_t i = 0; i < run->part_count; i++)
        for (uint32_t set = 0; set < (run->settled ? RUN_SETS : 1); set++) {
            struct part *part = &run->part[i];
            part->commands[set] = record(run->plan, part->begin, part->end, !run->settled);
            if (!part->commands[set]) return false;
        }
    return true;
}

struct run *run_create(struct plan *plan)
{
    struct run *run = calloc(1, sizeof *run);
    run->plan = plan;
    run->part = calloc(plan->step_count + 1, sizeof *run->part);
    cut(run, NULL);
    if (!record_parts(run)) run_destroy(&run);
    return run;
}

void run_destroy(struct run **run)
{
    if (!*run) return;
    drop_parts(*run);
    free((*run)->part);
    free((*run)->step_ms);
    free(*run);
    *run = NULL;
}

uint64_t run_submit(struct run *run)
{
    struct run_queue queue = {.gpu = run->plan->gpu};
    run_queue_run(&queue, run);
    return run_queue_submit(&queue);
}

void run_queue_commands(struct run_queue *queue, struct gpu_commands *commands, double ms)
{
    if (queue->count == RUN_QUEUE || (queue->count && queue->ms + ms > RUN_SUBMIT_MS))
        run_queue_submit(queue);
    queue->held[queue->count++] = commands;
    queue->ms += ms;
}

static void queue_stretch(struct run_queue *queue, const struct run *run, uint32_t stretch)
{
    for (uint32_t i = 0; i < run->part_count; i++)
        if (run->part[i].stretch == stretch)
            run_queue_commands(queue, run->part[i].commands[run->set], run->part[i].ms);
}

static void visit_stretch(struct run_queue *queue, const struct run *run, uint32_t index)
{
    const struct plan_stretch *stretch = &run->plan->stretch[index];
    struct plan_visit visit = {.id = stretch->id, .again = true};
    while (visit.again && !queue->failed) {
        visit.ticket = run_queue_submit(queue);
        visit.again = false;
        if (queue->failed || !stretch->visit(stretch->user, &visit)) queue->failed = true;
        else queue_stretch(queue, run, index);
        visit.turn++;
    }
}

void run_queue_run(struct run_queue *queue, struct run *run)
{
    if (run->settled) run->set = (run->set + 1) % RUN_SETS;
    run->submitted++;
    for (uint32_t s = 0; s < run->plan->stretch_count; s++)
        if (run->plan->stretch[s].visit) visit_stretch(queue, run, s);
        else queue_stretch(queue, run, s);
}

uint64_t run_queue_submit(struct run_queue *queue)
{
    if (queue->count && !queue->failed) {
        queue->ticket = gpu_submit(queue->gpu, queue->held, queue->count);
        queue->failed = !queue->ticket;
        queue->submits++;
    }
    queue->count = 0;
    queue->ms = 0;
    return queue->failed ? 0 : queue->ticket;
}

// ---- measuring

static bool part_step_ms(const struct run *run, const struct part *part, double *step_ms,
                         double *all_ms)
{
    const uint32_t count = part->end - part->begin;
    double *at = calloc(2 * count, sizeof *at);
    const bool ok = gpu_commands_times(run->plan->gpu, part->commands[0], at);
    for (uint32_t i = 0; ok && i < count; i++) step_ms[part->begin + i] = at[2 * i + 1] - at[2 * i];
    *all_ms += at[2 * count - 1];
    free(at);
    return ok;
}

static bool measured(const struct run *run, double *step_ms, double *all_ms)
{
    *all_ms = 0;
    for (uint32_t i = 0; i < run->part_count; i++)
        if (!part_step_ms(run, &run->part[i], step_ms, all_ms)) return false;
    return true;
}

bool run_settle(struct run *run)
{
    if (run->settled || run->submitted < 2) return true;
    double *step_ms = calloc(run->plan->step_count + 1, sizeof *step_ms), all_ms;
    const bool timed = measured(run, step_ms, &all_ms);
    drop_parts(run);
    cut(run, timed ? step_ms : NULL);
    if (timed) run->step_ms = step_ms;
    else free(step_ms);
    run->settled = true;
    return record_parts(run);
}

const double *run_step_ms(const struct run *run) { return run->step_ms; }
uint32_t run_submits(const struct run *run) { return run->part_count; }

double run_kernel_ms(struct run *run, uint32_t back)
{
    const uint32_t sets = run->settled ? RUN_SETS : 1, set = (run->set + sets - back % sets) % sets;
    double total = 0;
    for (uint32_t i = 0; i < run->part_count; i++) {
        struct gpu_commands *commands = run->part[i].commands[set];
        const uint32_t slots = commands->params.timestamps;
        double *at = calloc(slots, sizeof *at);
        const bool ok = back < sets && gpu_commands_times(run->plan->gpu, commands, at);
        if (ok) total += at[slots - 1];
        free(at);
        if (!ok) return -1;
    }
    return total;
}

bool run_profile(struct plan *plan, double *step_ms, double *all_ms)
{
    struct run *run = run_create(plan);
    if (!run) return false;
    const uint64_t ticket = run_submit(run);
    const bool ok = ticket && gpu_wait(plan->gpu, ticket) && measured(run, step_ms, all_ms);
    run_destroy(&run);
    return ok;
}
