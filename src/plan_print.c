// SPDX-License-Identifier: MIT
// The plan as a text table, an EXPLAIN: golden file for tests, `vkmoe info --plan` for people.
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
