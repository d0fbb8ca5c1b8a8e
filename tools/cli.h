// SPDX-License-Identifier: MIT
// The command line of vkmoe: one table of options for all commands, each command says which it
// takes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "src/vkmoe.h"

enum { CLI_LEVEL = 22 }; // of --level, where it is not given
enum { CLI_MAX_LIST = 256, CLI_MAX_KEYS = 16 };
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

struct cli {
    const char *command;
    const char *operand[CLI_MAX_LIST]; // CONFIG.json, DIR
    int         operand_count;
    struct vkmoe_device_params device; // --device --caps --validate
    struct vkmoe_model_params  model;  // --device-budget --expert-slots --cache-policy
    const char *data[CLI_MAX_LIST];    // --data PATH...
    int         data_count;
    const char *set[CLI_MAX_LIST];     // --set key=value
    int         set_count;
    const char *out;                   // --out
    const char *tokenizer;             // train --tokenizer FILE
    uint32_t    vocab;                 // tokenizer train --vocab N
    const char *pattern;               // tokenizer train --pattern NAME|EXPRESSION
    const char *special[CLI_MAX_LIST]; // tokenizer train --special TEXT
    int         special_count;
    const char *text;                  // tokenizer encode --text TEXT
    bool        specials, template;    // tokenizer encode --specials; --template
    const char *prompt, *system;       // --prompt, --system
    bool        chat;                  // --chat: the prompt is a user's message
    const char *ids;                   // --ids
    const char *filter, *json_file;    // bench --filter, --json FILE
    const char *save, *compare;        // bench --save DIR, --compare FILE
    const char *trace, *file;          // bench cache --trace FILE, bench stream --file FILE
    uint64_t    host_budget;           // --host-budget, 0: not given
    uint32_t    steps;                 // --steps, 0: not given
    uint32_t    max_tokens;            // --max-tokens, 0: not given
    uint32_t    stride;                // --stride
    const char *task, *dev;            // eval, compare --task FILE, --dev FILE
    int         format;                // --format NAME, enum task_format
    uint32_t    shots, context;        // --shots N, --context N; 0: none, the model's
    uint64_t    limit;                 // --limit N, 0: all
    const char *bits;                  // export --bits PATTERN=KIND,...
    double      prune;                 // export --prune Q
    uint32_t    level;                 // export --level N
    bool        unpacked;              // export --packing bytes
    char        seed[32];              // "seed=N", one of `set`
    char        key[CLI_MAX_KEYS][96]; // "min_bytes=N" and the like, of `set` too
    int         key_count;
    struct vkmoe_sampling sampling;    // --temperature --top-k --top-p --repetition-penalty --seed
    bool        resume, check, quiet, json, devices, plan, once, help;
};

// Fills `cli` from the words after the command. False after one line on stderr (exit with
// EXIT_USAGE).
bool cli_parse(struct cli *cli, int argc, char **argv);
void cli_usage(const char *command); // NULL: all commands

int command_train(struct cli *cli);
int command_generate(struct cli *cli);
int command_eval(struct cli *cli);
int command_compare(struct cli *cli);
int command_logits(struct cli *cli);
int command_bench(struct cli *cli);
int command_tune(struct cli *cli);
int command_info(struct cli *cli);
int command_sweep(struct cli *cli);
int command_export(struct cli *cli);
int command_inspect(struct cli *cli);
int command_watch(struct cli *cli);
int command_init(struct cli *cli);
int command_pack(struct cli *cli);
int command_unpack(struct cli *cli);
int command_compact(struct cli *cli);
int command_tokenizer(struct cli *cli);
int command_fct(struct cli *cli);
