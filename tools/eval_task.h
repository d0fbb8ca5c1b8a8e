// SPDX-License-Identifier: MIT
// vkmoe eval --task, vkmoe compare --task: a task's answers under a model, kept in a file while
// they come, and the file that holds them all.
//
//   FILE.answers.jsonl    while it runs: {"vkmoe_eval": 1, "fingerprint": "..."}, then an answer a
//                         line, {"item", "logp": [...], "tokens": [...], "cut", "text"}
//   FILE                  at the end: {"task", "format", "items", "shots", ..., "task_fingerprint",
//                         "model", "model_fingerprint", "scores": [...], "domains": [...],
//                         "answers": [...]}, the answers as above with what stands beside them in
//                         the task; FILE.answers.jsonl is gone then
//   FILE.samples.jsonl    of HumanEval (without FILE's .json): {"task_id", "completion"}
#pragma once

#include "src/score_measure.h"
#include "tools/cli.h"

struct eval_run {
    const struct cli      *cli;
    const struct task     *task;
    struct score_settings  settings;
    char                   task_fingerprint[17]; // of items and settings, not of the model
    char                   model_fingerprint[17];
    const char            *model_path;
    uint32_t               vocab_size;
    struct score_answer   *answers;
    uint64_t               resumed;              // answers that were there
    bool                   interrupted;
};

// --task, --format, --shots, --dev, --limit. NULL after one line.
struct task *eval_task_open(const struct cli *cli);
// Fills everything; `out` NULL: no file. False after one line, or where `interrupted` is set.
bool eval_task_run(struct eval_run *run, const struct cli *cli, const struct task *task,
                   const char *model_path, const char *out);
void eval_task_finish(struct eval_run *run);
void eval_task_print(const struct eval_run *run);
void eval_task_json(const struct eval_run *run); // FILE without the answers

// eval_file.c
struct eval_file;
// Reads what an interrupted run left, whose fingerprint must be `fingerprint`.
struct eval_file *eval_file_open(const char *out, const char *fingerprint, struct eval_run *run);
bool eval_file_add(struct eval_file *file, const struct eval_run *run, uint64_t index);
// On an interrupt and on errors: the answers stay.
void eval_file_close(struct eval_file **file);
// Writes FILE and the samples; the answers beside it go.
bool eval_file_commit(struct eval_file **file, const struct eval_run *run);
// Answers of a FILE that eval wrote, for the same task. False after one line.
bool eval_file_read(const char *path, struct eval_run *run);
bool eval_file_is(const char *path); // a file whose name ends in .json
// xxh64 of a model's files; of large ones, of a sample of their blocks.
bool eval_model_fingerprint(const char *path, const struct cli *cli, const char *device,
                            char out[17]);
