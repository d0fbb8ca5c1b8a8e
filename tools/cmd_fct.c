// SPDX-License-Identifier: MIT
// vkmoe fct: the patterns of Foundation Curriculum Training.
#include <stdio.h>
#include <string.h>

#include "src/fct_lint.h"
#include "tools/cli.h"
#include "tools/fct_report.h"

static int wrong_usage(const char *wants)
{
    fprintf(stderr, "vkmoe fct: wants %s; see vkmoe fct --help\n", wants);
    return EXIT_USAGE;
}

// ---- lint

static void print_finding(void *user, const struct fct_fault *f)
{
    (void)user;
    printf("%s:%llu: %s: found %s, wanted %s\n", f->file, (unsigned long long)f->line, f->field,
           f->found, f->wanted);
}

static void print_row(const char *name, uint64_t patterns, const uint64_t *bytes)
{
    printf("%-16.40s %8llu", name, (unsigned long long)patterns);
    for (uint32_t f = 0; f < FCT_PATTERN; f++)
        printf(" %12.1f", (double)bytes[f] / (double)patterns);
    putchar('\n');
}

// Mean bytes of each field, domain by domain.
static void print_table(const struct fct_lint_report *r)
{
    uint64_t bytes[FCT_FIELDS] = {0};
    if (!r->patterns) return;
    printf("%-16s %8s", "domain", "patterns");
    for (uint32_t f = 0; f < FCT_PATTERN; f++) printf(" %12s", fct_field_name((enum fct_field)f));
    putchar('\n');
    for (uint32_t i = 0; i < r->domains; i++) {
        print_row(r->domain[i].name, r->domain[i].patterns, r->domain[i].bytes);
        for (uint32_t f = 0; f < FCT_FIELDS; f++) bytes[f] += r->domain[i].bytes[f];
    }
    print_row("all, mean bytes", r->patterns, bytes);
}

static int lint(const struct cli *cli)
{
    if (cli->operand_count < 2) return wrong_usage("lint and files or folders of patterns");
    struct arena *arena = arena_create("fct lint");
    struct fct_lint_report report;
    const bool read = fct_lint(cli->operand + 1, cli->operand_count - 1, arena, print_finding,
                               NULL, &report);
    if (read) {
        print_table(&report);
        printf("%llu patterns in %u domains, %llu findings\n",
               (unsigned long long)report.patterns, report.domains,
               (unsigned long long)report.findings);
    }
    arena_destroy(&arena);
    return read && report.findings == 0 ? EXIT_DONE : EXIT_FAILED;
}

// ---- report

static int report(const struct cli *cli)
{
    if (cli->operand_count < 2) return wrong_usage("report and run folders");
    return fct_report(cli->operand + 1, cli->operand_count - 1, cli->json) ? EXIT_DONE
                                                                           : EXIT_FAILED;
}

int command_fct(struct cli *cli)
{
    if (cli->operand_count && strcmp(cli->operand[0], "lint") == 0) return lint(cli);
    if (cli->operand_count && strcmp(cli->operand[0], "report") == 0) return report(cli);
    return wrong_usage("lint or report");
}
