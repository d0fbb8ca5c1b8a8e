// SPDX-License-Identifier: MIT
// Evaluation tasks -> one form. Readers for the files that MMLU, ARC, HellaSwag, GSM8K and
// HumanEval are distributed in, and for our own, a JSON object a line:
//
//   {"good": "...", "bad": "..."}                                        pairs
//   {"prompt": "...", "choices": ["...", ...], "answer": 0}              choice
//   {"prompt": "...", "answer": "..."} or {"prompt": "...", "regex": "..."}  generate
//   {"text": "..."}                                                      text
//
// with "prompt" in pairs too, "stop": ["..."] and "max_tokens" in generate; "id", "domain",
// "kind" (pairs, choice, generate, text), "dev": true (an example for --shots, not scored) in all.
// Prompt and continuation are put together as they are: a space between them belongs to one.
//
// What the other files become (those of the papers and of EleutherAI's lm-evaluation-harness):
//   mmlu       "QUESTION\nA. ...\nD. ...\nAnswer:" + " A", behind a line that names the subject
//   arc        "Question: QUESTION\nAnswer:" + " CHOICE"
//   hellaswag  "ACTIVITY: CONTEXT" + " ENDING", without "[header]" and the like
//   gsm8k      "Question: QUESTION\nAnswer:", generated; the number behind ####, else the last one
//   humaneval  the prompt; what is generated is written down for the official scorer, never run
#pragma once

#include "base.h"

enum task_kind { TASK_PAIRS, TASK_CHOICE, TASK_GENERATE, TASK_TEXT, TASK_KINDS };
enum task_format {
    TASK_AUTO, TASK_OWN, TASK_MMLU, TASK_ARC, TASK_HELLASWAG, TASK_GSM8K, TASK_HUMANEVAL,
    TASK_PLAIN, // text: a file is one text
    TASK_FORMATS,
};
enum task_match { TASK_EXACT, TASK_REGEX, TASK_NUMBER, TASK_SAMPLE }; // SAMPLE: nothing to compare

enum {
    TASK_MOST_CHOICES = 64,
    TASK_MOST_STOPS = 8,
    TASK_MOST_LINE = 16 << 20, // bytes
};

struct task_pattern; // a compiled expression

struct task_item {
    enum task_kind  kind;
    const char     *id;       // "" where the file has none
    const char     *domain;   // the subject, else ""
    const char     *header;   // stands once in front of shots and prompt
    const char     *prompt;
    const char     *solution; // behind the prompt where the item is an example; NULL: cannot be one
    const char    **choice;   // pairs: good, bad; text: the text
    uint32_t        choice_count, answer;
    // generate
    enum task_match match;
    const char     *wanted;   // text, expression or number
    struct task_pattern *pattern;
    const char     *stop[TASK_MOST_STOPS];
    uint32_t        stop_count, max_tokens; // 0: as the command says
    const char     *file;     // where it stands
    uint64_t        line;
};

struct task_params {
    const char      *path;    // file, or a folder of such files (MMLU: with test/ and dev/)
    const char      *dev;     // where examples are; NULL: what stands beside it (README)
    enum task_format format;
    uint64_t         limit;   // first items of the task, 0: all
    uint32_t         shots;   // examples are looked for where this is not 0
};

struct task {
    enum task_format  format;
    struct task_item *item, *dev;
    uint64_t          count, dev_count;
    uint64_t          fingerprint; // of all that is in it
    struct arena     *arena;
};

const char *task_kind_name(enum task_kind kind);
const char *task_format_name(enum task_format format);
enum task_format task_format_from_name(const char *name); // TASK_FORMATS: unknown

// NULL after one line that names file and line.
struct task *task_open(const struct task_params *params);
// The same of a text in memory; `name` stands for the file.
struct task *task_parse(const char *name, const char *text, uint64_t bytes,
                        enum task_format format);
void         task_close(struct task **task);

// Header, `shots` examples of the item's domain (of all where that has none), drawn by the seed
// and the item's place in the task, then its prompt. False after one line: too few examples.
bool task_prompt(const struct task *task, uint64_t index, uint32_t shots, uint64_t seed,
                 struct bytes *out);
// Where what was generated ends: at the first stop, or at `bytes`.
size_t task_stop(const struct task_item *item, const char *text, size_t bytes);
// Whether it is right.
bool   task_matches(const struct task_item *item, const char *text, size_t bytes);
