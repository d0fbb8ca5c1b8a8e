// SPDX-License-Identifier: MIT
// The command line: see cli.h. A list option (--data) takes all words up to the next option.
#include "tools/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cache.h"
#include "runtime/log.h"
#include "src/task.h"

struct command_help { const char *name, *usage, *about; };

static const struct command_help commands[] = {
    {"train",
     "CONFIG.json [--data PATH...] [--tokenizer FILE] [--out DIR] [--steps N] [--seed N] "
     "[--resume] [--set key=value]... [--check] [--quiet] [--min-bytes N] [--max-bytes N] "
     "[--min-words N] [--min-unique-words N] [--min-letters X] [--max-repeated-lines X] "
     "[--dedup none|exact|near] [--dedup-threshold X]",
     "train a model; without --data on the text of the current folder"},
    {"generate",
     "DIR|FILE --prompt TEXT [--chat [--system TEXT]] [--weights NAME] [--max-tokens N] "
     "[--temperature T] [--top-k K] "
     "[--top-p P] [--repetition-penalty R] [--seed N]",
     "continue a text; with --chat answer it as a user's message"},
    {"export",
     "DIR --out FILE [--weights NAME] [--bits PATTERN=KIND,...] [--prune Q] [--level N] "
     "[--packing bits|bytes] [--data PATH... [--stride N]] [--json]",
     "a model in one small file: packed int5, int6 and int8, zstd; KIND is int2 to int8, f16 or "
     "f32; eval, generate and logits open it"},
    {"eval", "DIR|FILE --data PATH... [--weights NAME] [--stride N] [--json]",
     "loss, perplexity and bits per byte of a text"},
    {"eval",
     "DIR|FILE --task FILE [--weights NAME] [--format NAME] [--shots N] [--dev FILE] [--limit N] "
     "[--seed N] [--max-tokens N] [--stride N] [--context N] [--template] [--out FILE.json] "
     "[--json] [--quiet]",
     "pairs, multiple choice, generated answers, texts: each score beside chance and its 95 % "
     "interval; NAME is vkmoe, mmlu, arc, hellaswag, gsm8k, humaneval or text"},
    {"compare", "A B --task FILE [the options of eval --task but --out]",
     "two models, or results of eval --out (.json), item by item: which is better, if one is"},
    {"logits", "DIR|FILE --ids 1,2,3 --out FILE.npy [--weights NAME]",
     "f32 logits [positions][vocab], to compare with other engines"},
    {"bench", "[--filter NAME] [--json FILE] [--save DIR] [--compare OLD.json [NEW.json]]",
     "time kernels and steps, in % of the device's measured peaks; show what moved since OLD"},
    {"bench", "cache --trace FILE [--json FILE]",
     "replay a routing.trace over all cache policies, sizes and Belady's optimum"},
    {"bench", "stream [--file FILE] [--json FILE]",
     "reads of a file, uploads, and I/O beside compute, by what the machine can do at all"},
    {"tune", "[DIR|CONFIG.json]",
     "measure which kernels are fastest for a model, or for common sizes, again; keep the result"},
    {"sweep", "FILE.json [--out DIR] [--quiet]",
     "train a list of configs with equal data, steps and seeds; one table, one picture"},
    {"inspect", "DIR --data PATH... [--out DIR] [--max-tokens N] [--json]",
     "what the experts of a trained run do on a text: a report with tables and pictures"},
    {"watch", "DIR [--once]",
     "a run, live or finished, on the terminal; in a pipe a line for what is new, with --once one"},
    {"init", "CONFIG.json --out DIR [--seed N] [--set key=value]... [--json]",
     "a run folder whose experts come into being on the disk when they are first trained"},
    {"pack", "DIR|FILE.safetensors --out DIR [--json]",
     "a checkpoint to a run folder whose experts lie in a store, one record each"},
    {"unpack", "DIR --out FILE.safetensors|DIR [--json]",
     "such a folder back to ordinary safetensors: the weights, or the whole run"},
    {"compact", "DIR [--json]", "give back what dead records of a store take on the disk"},
    {"tokenizer",
     "train --data PATH... --vocab N --out FILE [--pattern gpt2|llama3|qwen2|EXPRESSION] "
     "[--special TEXT]... [--json]", "a byte-level BPE from text"},
    {"tokenizer", "encode FILE|DIR [TEXTFILE|--text TEXT] [--specials] [--template] [--json] "
     "[--out SHARD.bin]", "ids of a text; --json: where each token lies, too"},
    {"tokenizer", "decode FILE|DIR [--ids 1,2,3]", "text of ids"},
    {"tokenizer", "info FILE|DIR", "what a tokenizer.json is"},
    {"fct", "lint PATH...",
     "patterns of a curriculum: what is wrong with which line, and a table of their domains"},
    {"fct", "report DIR... [--json]",
     "runs with a curriculum: losses by domain, and what is left of them against controls"},
    {"info",
     "[DIR|FILE|CONFIG.json] [--set key=value]... [--devices] [--plan [--device-budget BYTES] "
     "[--expert-slots N]] [--json]",
     "what a model, a device or a plan is"},
};

void cli_usage(const char *command)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!command || strcmp(command, commands[i].name) == 0)
            printf("  vkmoe %s %s\n      %s\n", commands[i].name, commands[i].usage,
                   commands[i].about);
    printf(
        "  common: --device N|NAME|ref  --caps LIST (e.g. -f16,-subgroup)  --validate[=accesses]  "
        "--log error|warn|info|debug  --help\n"
        "  train, sweep, generate, eval, compare, inspect, export, logits, bench: --untuned takes "
        "kernels by rule, not by measurement\n"
        "  train, generate, eval, compare, logits: --device-budget BYTES (e.g. 5G) keeps what fits "
        "of the experts there and loads\n"
        "  the others when they are asked for; --expert-slots N says how many; --cache-policy "
        "lru|lfu|lfru|least-stale\n"
        "  who leaves; --prefetch on|off: whom the next layer may need is loaded before it asks; "
        "in training the\n"
        "  experts lie in a store in the run folder, and --host-budget BYTES limits host memory\n"
        "  --weights: model, or average, the mean that training kept (ema_decay, swa_every)\n"
        "  exit status: 0 done, 1 failed, 2 usage, 130 interrupted with the checkpoint written\n");
}

enum option_id {
    OPTION_DATA = 256,
    OPTION_SET,
    OPTION_TOKENIZER,
    OPTION_VOCAB,
    OPTION_PATTERN,
    OPTION_SPECIAL,
    OPTION_TEXT,
    OPTION_SPECIALS,
    OPTION_TEMPLATE,
    OPTION_CHAT,
    OPTION_SYSTEM,
    OPTION_OUT,
    OPTION_STEPS,
    OPTION_SEED,
    OPTION_RESUME,
    OPTION_CHECK,
    OPTION_QUIET,
    OPTION_PROMPT,
    OPTION_MAX_TOKENS,
    OPTION_TEMPERATURE,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_PENALTY,
    OPTION_WEIGHTS,
    OPTION_STRIDE,
    OPTION_BITS,
    OPTION_PRUNE,
    OPTION_LEVEL,
    OPTION_PACKING,
    OPTION_JSON,
    OPTION_IDS,
    OPTION_FILTER,
    OPTION_SAVE,
    OPTION_COMPARE,
    OPTION_TRACE,
    OPTION_FILE,
    OPTION_DEVICES,
    OPTION_PLAN,
    OPTION_DEVICE,
    OPTION_CAPS,
    OPTION_ONCE,
    OPTION_VALIDATE,
    OPTION_UNTUNED,
    OPTION_DEVICE_BUDGET,
    OPTION_HOST_BUDGET,
    OPTION_EXPERT_SLOTS,
    OPTION_CACHE_POLICY,
    OPTION_PREFETCH,
    OPTION_TASK,
    OPTION_FORMAT,
    OPTION_SHOTS,
    OPTION_DEV,
    OPTION_LIMIT,
    OPTION_CONTEXT,
    OPTION_LOG,
    OPTION_HELP,
    OPTION_KEY, // of the configuration: --min-bytes 9 is --set min_bytes=9
};

// `commands`: letters of the commands that take it (t g e l b i s; u: tune, x: export, n: inspect,
// k: tokenizer, m: init, p: pack, P: unpack, c: compact, w: watch, f: fct, a: compare), * for all
static const struct { struct option option; const char *commands; } options[] = {
    {{"data", required_argument, NULL, OPTION_DATA}, "texnk"},
    {{"set", required_argument, NULL, OPTION_SET}, "tim"},
    {{"tokenizer", required_argument, NULL, OPTION_TOKENIZER}, "t"},
    {{"vocab", required_argument, NULL, OPTION_VOCAB}, "k"},
    {{"pattern", required_argument, NULL, OPTION_PATTERN}, "k"},
    {{"special", required_argument, NULL, OPTION_SPECIAL}, "k"},
    {{"text", required_argument, NULL, OPTION_TEXT}, "k"},
    {{"specials", no_argument, NULL, OPTION_SPECIALS}, "k"},
    {{"template", no_argument, NULL, OPTION_TEMPLATE}, "kea"},
    {{"out", required_argument, NULL, OPTION_OUT}, "ktlsxnmpPe"},
    {{"steps", required_argument, NULL, OPTION_STEPS}, "t"},
    {{"seed", required_argument, NULL, OPTION_SEED}, "tgmea"},
    {{"resume", no_argument, NULL, OPTION_RESUME}, "t"},
    {{"check", no_argument, NULL, OPTION_CHECK}, "t"},
    {{"quiet", no_argument, NULL, OPTION_QUIET}, "tsea"},
    {{"prompt", required_argument, NULL, OPTION_PROMPT}, "g"},
    {{"chat", no_argument, NULL, OPTION_CHAT}, "g"},
    {{"system", required_argument, NULL, OPTION_SYSTEM}, "g"},
    {{"max-tokens", required_argument, NULL, OPTION_MAX_TOKENS}, "gnea"},
    {{"temperature", required_argument, NULL, OPTION_TEMPERATURE}, "g"},
    {{"top-k", required_argument, NULL, OPTION_TOP_K}, "g"},
    {{"top-p", required_argument, NULL, OPTION_TOP_P}, "g"},
    {{"repetition-penalty", required_argument, NULL, OPTION_PENALTY}, "g"},
    {{"weights", required_argument, NULL, OPTION_WEIGHTS}, "gexla"},
    {{"stride", required_argument, NULL, OPTION_STRIDE}, "exa"},
    {{"bits", required_argument, NULL, OPTION_BITS}, "x"},
    {{"prune", required_argument, NULL, OPTION_PRUNE}, "x"},
    {{"level", required_argument, NULL, OPTION_LEVEL}, "x"},
    {{"packing", required_argument, NULL, OPTION_PACKING}, "x"},
    {{"json", no_argument, NULL, OPTION_JSON}, "keixnmpPcaf"},
    {{"json", required_argument, NULL, OPTION_JSON}, "b"},
    {{"ids", required_argument, NULL, OPTION_IDS}, "lk"},
    {{"filter", required_argument, NULL, OPTION_FILTER}, "b"},
    {{"save", required_argument, NULL, OPTION_SAVE}, "b"},
    {{"compare", required_argument, NULL, OPTION_COMPARE}, "b"},
    {{"trace", required_argument, NULL, OPTION_TRACE}, "b"},
    {{"file", required_argument, NULL, OPTION_FILE}, "b"},
    {{"once", no_argument, NULL, OPTION_ONCE}, "w"},
    {{"devices", no_argument, NULL, OPTION_DEVICES}, "i"},
    {{"plan", no_argument, NULL, OPTION_PLAN}, "i"},
    {{"min-bytes", required_argument, NULL, OPTION_KEY}, "t"},
    {{"max-bytes", required_argument, NULL, OPTION_KEY}, "t"},
    {{"min-words", required_argument, NULL, OPTION_KEY}, "t"},
    {{"min-unique-words", required_argument, NULL, OPTION_KEY}, "t"},
    {{"min-letters", required_argument, NULL, OPTION_KEY}, "t"},
    {{"max-repeated-lines", required_argument, NULL, OPTION_KEY}, "t"},
    {{"dedup", required_argument, NULL, OPTION_KEY}, "t"},
    {{"dedup-threshold", required_argument, NULL, OPTION_KEY}, "t"},
    {{"device", required_argument, NULL, OPTION_DEVICE}, "*"},
    {{"caps", required_argument, NULL, OPTION_CAPS}, "*"},
    {{"validate", optional_argument, NULL, OPTION_VALIDATE}, "*"},
    {{"untuned", no_argument, NULL, OPTION_UNTUNED}, "tgelbsxna"},
    {{"device-budget", required_argument, NULL, OPTION_DEVICE_BUDGET}, "geltia"},
    {{"host-budget", required_argument, NULL, OPTION_HOST_BUDGET}, "t"},
    {{"expert-slots", required_argument, NULL, OPTION_EXPERT_SLOTS}, "geltia"},
    {{"cache-policy", required_argument, NULL, OPTION_CACHE_POLICY}, "gelta"},
    {{"prefetch", required_argument, NULL, OPTION_PREFETCH}, "gelta"},
    {{"task", required_argument, NULL, OPTION_TASK}, "ea"},
    {{"format", required_argument, NULL, OPTION_FORMAT}, "ea"},
    {{"shots", required_argument, NULL, OPTION_SHOTS}, "ea"},
    {{"dev", required_argument, NULL, OPTION_DEV}, "ea"},
    {{"limit", required_argument, NULL, OPTION_LIMIT}, "ea"},
    {{"context", required_argument, NULL, OPTION_CONTEXT}, "ea"},
    {{"log", required_argument, NULL, OPTION_LOG}, "*"},
    {{"help", no_argument, NULL, OPTION_HELP}, "*"},
};

static bool wrong(const struct cli *cli, const char *option, const char *found, const char *wanted)
{
    fprintf(stderr, "vkmoe %s: --%s: found \"%s\", wanted %s\n", cli->command, option, found,
            wanted);
    return false;
}

static bool parse_u64(const struct cli *cli, const char *option, const char *text, uint64_t max,
                      uint64_t *out)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value > max)
        return wrong(cli, option, text, "a whole number");
    *out = value;
    return true;
}

static bool parse_u32(const struct cli *cli, const char *option, const char *text, uint32_t *out)
{
    uint64_t value;
    if (!parse_u64(cli, option, text, UINT32_MAX, &value)) return false;
    *out = (uint32_t)value;
    return true;
}

// "5G", "1.5G", "800M": binary units.
static bool parse_bytes(const struct cli *cli, const char *option, const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    for (ptrdiff_t i = unit ? unit - units : -1; i >= 0; i--) value *= 1024;
    if (end == text || (*end && (!unit || end[1])) || !(value >= 1 && value < 1e15))
        return wrong(cli, option, text, "bytes above 0, such as 800M or 5G");
    *out = (uint64_t)value;
    return true;
}

static bool parse_number(const struct cli *cli, const char *option, const char *text, double low,
                         double high, double *out)
{
    char *end;
    const double value = strtod(text, &end);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "a number from %g to %g", low, high);
    if (end == text || *end || !(value >= low && value <= high))
        return wrong(cli, option, text, wanted);
    *out = value;
    return true;
}

static bool push(const struct cli *cli, const char **list, int *count, const char *value)
{
    if (*count == CLI_MAX_LIST) {
        fprintf(stderr, "vkmoe %s: more than %d values in a list\n", cli->command, CLI_MAX_LIST);
        return false;
    }
    list[(*count)++] = value;
    return true;
}

// in training and init the seed is a config key
static bool push_seed(struct cli *cli, const char *value)
{
    uint64_t number;
    if (!parse_u64(cli, "seed", value, UINT64_MAX, &number)) return false;
    snprintf(cli->seed, sizeof cli->seed, "seed=%" PRIu64, number);
    return push(cli, cli->set, &cli->set_count, cli->seed);
}

static bool push_key(struct cli *cli, const char *name, const char *value)
{
    const int count = cli->key_count;
    char *key = cli->key[count];
    if (count == CLI_MAX_KEYS || strlen(name) > 30 || strlen(value) > 60)
        return wrong(cli, name, value, "something shorter, once");
    snprintf(key, sizeof cli->key[0], "%.30s=%.60s", name, value);
    for (char *c = key; *c != '='; c++)
        if (*c == '-') *c = '_';
    cli->key_count++;
    return push(cli, cli->set, &cli->set_count, key);
}

static bool parse_log(const struct cli *cli, const char *value)
{
    const int level = log_level_from_name(value);
    if (level < 0) return wrong(cli, "log", value, "error, warn, info or debug");
    vkmoe_log_set(NULL, NULL, (enum vkmoe_log_level)level);
    return true;
}

static bool parse_policy(struct cli *cli, const char *value)
{
    cli->model.cache_policy = value;
    for (int p = 0; p < CACHE_POLICIES; p++)
        if (!strcmp(value, cache_policy_name((enum cache_policy)p))) return true;
    return wrong(cli, "cache-policy", value, "lru, lfu, lfru or least-stale");
}

// The first letter, but where two commands share it.
static char option_letter(const char *command)
{
    if (strcmp(command, "tokenizer") == 0) return 'k';
    if (strcmp(command, "fct") == 0) return 'f';
    if (strcmp(command, "tune") == 0) return 'u';
    if (strcmp(command, "inspect") == 0) return 'n';
    if (strcmp(command, "init") == 0) return 'm';
    if (strcmp(command, "unpack") == 0) return 'P';
    if (strcmp(command, "compare") == 0) return 'a';
    return strcmp(command, "export") == 0 ? 'x' : command[0];
}

static bool take_option(struct cli *cli, int id, const char *value)
{
    switch ((enum option_id)id) {
    case OPTION_DATA: return push(cli, cli->data, &cli->data_count, value);
    case OPTION_SET: return push(cli, cli->set, &cli->set_count, value);
    case OPTION_TOKENIZER: cli->tokenizer = value; return true;
    case OPTION_VOCAB: return parse_u32(cli, "vocab", value, &cli->vocab);
    case OPTION_PATTERN: cli->pattern = value; return true;
    case OPTION_SPECIAL: return push(cli, cli->special, &cli->special_count, value);
    case OPTION_TEXT: cli->text = value; return true;
    case OPTION_SPECIALS: return cli->specials = true;
    case OPTION_TEMPLATE: return cli->template = true;
    case OPTION_OUT: cli->out = value; return true;
    case OPTION_STEPS:
        if (!parse_u32(cli, "steps", value, &cli->steps)) return false;
        return cli->steps > 0 || wrong(cli, "steps", value, "a whole number above 0");
    case OPTION_SEED:
        if (strchr("tim", option_letter(cli->command))) return push_seed(cli, value);
        return parse_u64(cli, "seed", value, UINT64_MAX, &cli->sampling.seed);
    case OPTION_RESUME: return cli->resume = true;
    case OPTION_CHECK: return cli->check = true;
    case OPTION_QUIET: return cli->quiet = true;
    case OPTION_PROMPT: cli->prompt = value; return true;
    case OPTION_CHAT: return cli->chat = true;
    case OPTION_SYSTEM: cli->system = value; return true;
    case OPTION_MAX_TOKENS: return parse_u32(cli, "max-tokens", value, &cli->max_tokens);
    case OPTION_TEMPERATURE:
        return parse_number(cli, "temperature", value, 0, 100, &cli->sampling.temperature);
    case OPTION_TOP_K: return parse_u32(cli, "top-k", value, &cli->sampling.top_k);
    case OPTION_TOP_P: return parse_number(cli, "top-p", value, 1e-6, 1, &cli->sampling.top_p);
    case OPTION_PENALTY:
        return parse_number(cli, "repetition-penalty", value, 0.01, 100,
                            &cli->sampling.repetition_penalty);
    case OPTION_WEIGHTS:
        cli->model.weights = value;
        return !strcmp(value, "model") || !strcmp(value, "average") ||
               wrong(cli, "weights", value, "model or average");
    case OPTION_STRIDE: return parse_u32(cli, "stride", value, &cli->stride);
    case OPTION_BITS: cli->bits = value; return true;
    case OPTION_PRUNE: return parse_number(cli, "prune", value, 0, 1, &cli->prune);
    case OPTION_LEVEL:
        if (!parse_u32(cli, "level", value, &cli->level)) return false;
        return cli->level <= 22 || wrong(cli, "level", value, "0 (not compressed) to 22");
    case OPTION_PACKING:
        cli->unpacked = strcmp(value, "bytes") == 0;
        return cli->unpacked || !strcmp(value, "bits") ||
               wrong(cli, "packing", value, "bits or bytes");
    case OPTION_JSON: cli->json = true; cli->json_file = value; return true;
    case OPTION_IDS: cli->ids = value; return true;
    case OPTION_FILTER: cli->filter = value; return true;
    case OPTION_SAVE: cli->save = value; return true;
    case OPTION_COMPARE: cli->compare = value; return true;
    case OPTION_TRACE: cli->trace = value; return true;
    case OPTION_FILE: cli->file = value; return true;
    case OPTION_DEVICES: return cli->devices = true;
    case OPTION_PLAN: return cli->plan = true;
    case OPTION_DEVICE: cli->device.device = value; return true;
    case OPTION_CAPS: cli->device.caps = value; return true;
    case OPTION_VALIDATE:
        cli->device.validate = true;
        cli->device.validate_accesses = value && !strcmp(value, "accesses");
        return !value || cli->device.validate_accesses ||
               wrong(cli, "validate", value, "nothing or accesses");
    case OPTION_UNTUNED: return cli->device.untuned = true;
    case OPTION_DEVICE_BUDGET:
        return parse_bytes(cli, "device-budget", value, &cli->model.device_budget);
    case OPTION_HOST_BUDGET: return parse_bytes(cli, "host-budget", value, &cli->host_budget);
    case OPTION_EXPERT_SLOTS:
        if (!parse_u32(cli, "expert-slots", value, &cli->model.expert_slots)) return false;
        return cli->model.expert_slots > 0 ||
               wrong(cli, "expert-slots", value, "a whole number above 0");
    case OPTION_CACHE_POLICY: return parse_policy(cli, value);
    case OPTION_PREFETCH:
        cli->model.prefetch = value;
        return !strcmp(value, "on") || !strcmp(value, "off") ||
               wrong(cli, "prefetch", value, "on or off");
    case OPTION_TASK: cli->task = value; return true;
    case OPTION_FORMAT:
        cli->format = task_format_from_name(value);
        return cli->format != TASK_FORMATS ||
               wrong(cli, "format", value,
                     "vkmoe, mmlu, arc, hellaswag, gsm8k, humaneval or text");
    case OPTION_SHOTS:
        if (!parse_u32(cli, "shots", value, &cli->shots)) return false;
        return cli->shots <= 1000 || wrong(cli, "shots", value, "0 to 1000");
    case OPTION_DEV: cli->dev = value; return true;
    case OPTION_LIMIT: return parse_u64(cli, "limit", value, UINT64_MAX, &cli->limit);
    case OPTION_CONTEXT:
        if (!parse_u32(cli, "context", value, &cli->context)) return false;
        return cli->context > 1 || wrong(cli, "context", value, "at least 2 tokens");
    case OPTION_LOG: return parse_log(cli, value);
    case OPTION_ONCE: return cli->once = true;
    case OPTION_HELP: return cli->help = true;
    case OPTION_KEY: break; // has its name, in cli_parse
    }
    return false;
}

static int command_options(const struct cli *cli, struct option *list)
{
    int count = 0;
    const char letter = option_letter(cli->command);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].commands[0] == '*' || strchr(options[i].commands, letter))
            list[count++] = options[i].option;
    list[count] = (struct option){0};
    return count;
}

bool cli_parse(struct cli *cli, int argc, char **argv)
{
    struct option list[sizeof options / sizeof *options + 1];
    command_options(cli, list);
    bool after_data = false;
    opterr = 0;
    for (int id, at = 0; (id = getopt_long(argc, argv, "-", list, &at)) != -1;) {
        if (id == '?' || id == ':') {
            fprintf(stderr,
                    "vkmoe %s: %s is no option of this command or lacks its value; see vkmoe %s "
                    "--help\n",
                    cli->command, argv[optind - 1], cli->command);
            return false;
        }
        if (id == 1) {
            const bool data = after_data;
            if (!push(cli, data ? cli->data : cli->operand,
                      data ? &cli->data_count : &cli->operand_count, optarg))
                return false;
            continue;
        }
        after_data = id == OPTION_DATA;
        if (id == OPTION_KEY ? !push_key(cli, list[at].name, optarg)
                             : !take_option(cli, id, optarg)) return false;
    }
    return true;
}
