// SPDX-License-Identifier: MIT
// vkmoe init, pack, unpack, compact: run folders whose experts lie in a store.
#include <stdio.h>

#include "src/experts_pack.h"
#include "tools/cli.h"

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static int wrong_usage(const struct cli *cli, const char *wants)
{
    fprintf(stderr, "vkmoe %s: wants %s; see vkmoe %s --help\n", cli->command, wants,
            cli->command);
    return EXIT_USAGE;
}

static int print(const struct cli *cli, bool ok, const struct experts_report *r,
                 const char *what)
{
    if (!ok) return EXIT_FAILED;
    if (cli->json)
        printf("{\"parameters\": %llu, \"experts\": %llu, \"records\": %llu, \"step\": %llu, "
               "\"record_bytes\": %llu, \"bytes_before\": %llu, \"bytes\": %llu, \"kept\": %llu}\n",
               (unsigned long long)r->parameters, (unsigned long long)r->experts,
               (unsigned long long)r->records, (unsigned long long)r->step,
               (unsigned long long)r->record_bytes, (unsigned long long)r->bytes,
               (unsigned long long)r->bytes_after, (unsigned long long)r->dead);
    else
        printf("%llu parameters; %llu of %llu experts have a record of %.2f MiB at step %llu; %s\n",
               (unsigned long long)r->parameters, (unsigned long long)r->records,
               (unsigned long long)r->experts, mib(r->record_bytes), (unsigned long long)r->step,
               what);
    return EXIT_DONE;
}

int command_init(struct cli *cli)
{
    struct config config;
    struct experts_report r = {0};
    char what[100];
    if (cli->operand_count != 1 || !cli->out) return wrong_usage(cli, "one CONFIG.json, --out DIR");
    if (!config_read(&config, cli->operand[0], cli->set, cli->set_count)) return EXIT_FAILED;
    const bool ok = experts_init_run(&config, cli->out, &r);
    snprintf(what, sizeof what, "all of them would take %.1f MiB", mib(r.record_bytes * r.experts));
    return print(cli, ok, &r, what);
}

int command_pack(struct cli *cli)
{
    struct experts_report r = {0};
    char what[100];
    if (cli->operand_count != 1 || !cli->out) return wrong_usage(cli, "one DIR|FILE, --out DIR");
    const bool ok = experts_pack(cli->operand[0], cli->out, &r);
    snprintf(what, sizeof what, "%.1f MiB of records; the others are as they began",
             mib(r.bytes_after));
    return print(cli, ok, &r, what);
}

int command_unpack(struct cli *cli)
{
    struct experts_report r = {0};
    char what[4300];
    if (cli->operand_count != 1 || !cli->out)
        return wrong_usage(cli, "one DIR, --out FILE.safetensors|DIR");
    const bool ok = experts_unpack(cli->operand[0], cli->out, &r);
    snprintf(what, sizeof what, "written to %.4200s", cli->out);
    return print(cli, ok, &r, what);
}

int command_compact(struct cli *cli)
{
    struct experts_report r = {0};
    char what[200];
    if (cli->operand_count != 1) return wrong_usage(cli, "one DIR");
    const bool ok = experts_compact(cli->operand[0], &r);
    snprintf(what, sizeof what, "%.1f MiB before, %.1f MiB now, %llu places kept for older "
             "checkpoints", mib(r.bytes), mib(r.bytes_after), (unsigned long long)r.dead);
    return print(cli, ok, &r, what);
}
