// SPDX-License-Identifier: MIT
// The plan as a text table, an EXPLAIN: golden file for tests, `vkmoe info --plan` for people.
#include <stdlib.h>
#include <string.h>

#include "src/base.h"
#include "src/plan.h"

static void print_ranges(const struct plan *plan, const struct plan_step *step, bool written,
                         FILE *out)
{
    const char *access = step->kind == PLAN_DISPATCH ? kernel_info(step->op)->access
                       : step->kind == PLAN_FILL     ? "w" : "rw";
    const char *separator = "";
    for (uint32_t b = 0; b < step->bind_count; b++) {
        if (written != (access[b] != 'r')) continue;
        const struct plan_range *range = &step->bind[b];
        fprintf(out, "%s%s", separator, plan->tensor[range->tensor - 1].name);
        if (range->offset) fprintf(out, "+%llu", (unsigned long long)range->offset);
        separator = ", ";
    }
}

void plan_print(const struct plan *plan, FILE *out)
{
    fprintf(out,
            "plan %s: %u steps, %.1f MFLOP, %.2f MiB of activations (%.2f MiB without sharing)\n",
            plan->name, plan->step_count, plan_flops(plan) * 1e-6,
            (double)plan->arena_bytes / 1048576.0, (double)plan->temp_bytes / 1048576.0);
    fprintf(out, "  %4s %-1s %-22s %-22s %-16s %9s  %s\n", "step", "", "section", "kernel",
            "groups", "MFLOP", "writes <- reads");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->step[i];
        char groups[40] = "";
        if (step->indirect.tensor) snprintf(groups, sizeof groups, "indirect");
        else if (step->kind == PLAN_DISPATCH)
            snprintf(groups, sizeof groups, "%ux%ux%u", step->groups[0], step->groups[1],
                     step->groups[2]);
        const double flops =
            step->kind == PLAN_DISPATCH ? kernel_info(step->op)->flops(step->push) : 0;
        fprintf(out, "  %4u %-1s %-22s %-22s %-16s %9.3f  ", i, step->barrier ? "|" : "",
                step->section, plan_step_name(step), groups, flops * 1e-6);
        print_ranges(plan, step, true, out);
        fprintf(out, " <- ");
        print_ranges(plan, step, false, out);
        fputc('\n', out);
    }
}

// ---- where the arena is fullest

static bool lives_at(const struct plan_tensor *tensor, uint32_t step)
{
    return !tensor->external && tensor->first <= step && step <= tensor->last;
}

uint64_t plan_peak(const struct plan *plan, uint32_t *step)
{
    uint64_t most = 0;
    *step = 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        uint64_t bytes = 0;
        for (uint32_t t = 0; t < plan->tensor_count; t++)
            if (lives_at(&plan->tensor[t], i)) bytes += plan->tensor[t].bytes;
        if (bytes > most) most = bytes, *step = i;
    }
    return most;
}

struct kind { const char *name; size_t length; uint32_t count; uint64_t bytes; };

static int by_bytes(const void *a, const void *b)
{
    const uint64_t x = ((const struct kind *)a)->bytes, y = ((const struct kind *)b)->bytes;
    return (x < y) - (x > y);
}

// "gate.3" and "gate.5" are of one kind. Returns how many kinds live at the step.
static uint32_t kinds_at(const struct plan *plan, uint32_t step, struct kind *kind)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < plan->tensor_count; t++) {
        const struct plan_tensor *tensor = &plan->tensor[t];
        const size_t length = strcspn(tensor->name, ".");
        uint32_t at = 0;
        if (!lives_at(tensor, step)) continue;
        while (at < count && (kind[at].length != length ||
                              strncmp(kind[at].name, tensor->name, length) != 0))
            at++;
        if (at == count) kind[count++] = (struct kind){tensor->name, length};
        kind[at].count++;
        kind[at].bytes += tensor->bytes;
    }
    qsort(kind, count, sizeof *kind, by_bytes);
    return count;
}

void plan_print_peak(const struct plan *plan, FILE *out)
{
    const double mib = 1.0 / 1048576;
    uint32_t step;
    const uint64_t live = plan_peak(plan, &step);
    if (!live) return;
    struct kind *kind = calloc(plan->tensor_count, sizeof *kind);
    const uint32_t count = kinds_at(plan, step, kind);
    fprintf(out, "peak of %s: step %u, %s, %s: %llu bytes live, %llu of holes between them\n",
            plan->name, step, plan->step[step].section, plan_step_name(&plan->step[step]),
            (unsigned long long)live, (unsigned long long)(plan->arena_bytes - live));
    for (uint32_t i = 0; i < count; i++)
        fprintf(out, "  %-20.*s %4u %10.2f MiB\n", (int)kind[i].length, kind[i].name,
                kind[i].count, (double)kind[i].bytes * mib);
    free(kind);
}
