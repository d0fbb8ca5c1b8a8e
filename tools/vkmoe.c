// SPDX-License-Identifier: MIT
// vkmoe: train, run and look into mixture-of-experts language models on any Vulkan device.
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"

static const struct { const char *name; int (*run)(struct cli *cli); } commands[] = {
    {"train", command_train}, {"generate", command_generate}, {"eval", command_eval},
    {"compare", command_compare},
    {"logits", command_logits}, {"bench", command_bench}, {"tune", command_tune},
    {"info", command_info},     {"sweep", command_sweep},
    {"export", command_export},
    {"inspect", command_inspect},
    {"watch", command_watch},
    {"init", command_init},     {"pack", command_pack},     {"unpack", command_unpack},
    {"compact", command_compact}, {"tokenizer", command_tokenizer},
    {"fct", command_fct},
};

int main(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        cli_usage(NULL);
        return argc < 2 ? EXIT_USAGE : EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        struct cli cli = {.command = commands[i].name, .level = CLI_LEVEL};
        if (!cli_parse(&cli, argc - 1, argv + 1)) return EXIT_USAGE;
        if (!cli.help) return commands[i].run(&cli);
        cli_usage(cli.command);
        return EXIT_DONE;
    }
    fprintf(stderr,
            "vkmoe: no command \"%s\"; there are train, generate, eval, compare, logits, bench, "
            "tune, sweep, inspect, watch, export, init, pack, unpack, compact, tokenizer, fct, "
            "info (see vkmoe --help)\n",
            argv[1]);
    return EXIT_USAGE;
}
