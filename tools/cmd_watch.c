// SPDX-License-Identifier: MIT
// vkmoe watch: a run folder, live or finished, on the terminal; in a pipe, lines.
#include <stdio.h>

#include "runtime/terminal.h"
#include "tools/cli.h"
#include "tools/watch/watch.h"

int command_watch(struct cli *cli)
{
    if (cli->operand_count != 1) {
        fprintf(stderr, "vkmoe watch: found %d folders, wanted one run folder\n",
                cli->operand_count);
        return EXIT_USAGE;
    }
    const char *folder = cli->operand[0];
    const bool ok = !cli->once && terminal_is(stdout) ? watch_terminal(folder)
                                                      : watch_lines(folder, cli->once);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
