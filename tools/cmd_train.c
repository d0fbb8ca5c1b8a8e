// SPDX-License-Identifier: MIT
// vkmoe train: a config file -> a run folder, with the result beside what simple statistics reach.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "tools/cli.h"

// assets/tiny.json -> runs/tiny
static char *default_out(const char *config)
{
    const char *slash = strrchr(config, '/'), *name = slash ? slash + 1 : config;
    const char *dot = strrchr(name, '.');
    const size_t length = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    char *out = malloc(length + 6);
    snprintf(out, length + 6, "runs/%.*s", (int)length, name);
    return out;
}

static void print_outcome(const struct vkmoe_train_outcome *o, const char *out)
{
    if (!isnan(o->held_out_bpb)) {
        printf("held-out text, bits per byte\n");
        if (!isnan(o->order0_bpb)) printf("  %-10s %8.4f\n", "order-0", o->order0_bpb);
        if (!isnan(o->bigram_bpb)) printf("  %-10s %8.4f\n", "bigram", o->bigram_bpb);
        printf("  %-10s %8.4f\n", "this model", o->held_out_bpb);
    }
    printf("%u steps, saved in %s\n", o->steps, out);
}

int command_train(struct cli *cli)
{
    if (cli->operand_count != 1) {
        fprintf(stderr,
                "vkmoe train: wants one CONFIG.json, found %d operands; see vkmoe train --help\n",
                cli->operand_count);
        return EXIT_USAGE;
    }
    char *chosen = cli->out ? strdup(cli->out) : default_out(cli->operand[0]);
    struct vkmoe_train_outcome outcome;
    const struct vkmoe_train_params params = {
        .device = cli->device,
        .config = cli->operand[0],
        .set = cli->set,
        .set_count = cli->set_count,
        .steps = cli->steps,
        .data = cli->data,
        .data_count = cli->data_count,
        .out = chosen,
        .tokenizer = cli->tokenizer,
        .resume = cli->resume,
        .check = cli->check,
        .quiet = cli->quiet,
        .device_budget = cli->model.device_budget,
        .host_budget = cli->host_budget,
        .expert_slots = cli->model.expert_slots,
        .cache_policy = cli->model.cache_policy,
        .prefetch = cli->model.prefetch,
    };
    const bool ok = vkmoe_train(&params, &outcome);
    if (ok && outcome.interrupted)
        printf("interrupted at step %u; go on with --resume --out %s\n", outcome.steps, chosen);
    else if (ok) print_outcome(&outcome, chosen);
    free(chosen);
    return !ok ? EXIT_FAILED : outcome.interrupted ? EXIT_INTERRUPTED : EXIT_DONE;
}
