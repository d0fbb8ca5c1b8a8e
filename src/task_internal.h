// SPDX-License-Identifier: MIT
// What the readers of task files share.
#pragma once

#include <cjson/cJSON.h>

#include "task.h"

struct task_reader {
    struct arena    *arena;
    const char      *name;     // of the file
    const char      *subject;  // of a MMLU file
    enum task_format format;
    uint64_t         line;
    struct task_item *item;
    uint64_t         count, capacity;
    struct task_item *dev;     // items that say "dev"
    uint64_t         dev_count, dev_capacity;
};

// One line about the line that is being read; returns false.
bool task_refuse(const struct task_reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Right answers, choices that are there and not empty; then adds it.
bool task_take(struct task_reader *reader, struct task_item *item, bool dev);

// The whole of a file's text, of the format that it says it is.
bool task_read(struct task_reader *reader, const char *text, uint64_t bytes);
bool task_read_csv(struct task_reader *reader, const char *text, uint64_t bytes);
// An object of a line: task_forms.c.
bool task_read_object(struct task_reader *reader, const cJSON *root);
enum task_format task_guess(const cJSON *root);

// NULL after one line.
struct task_pattern *task_pattern_create(const struct task_reader *reader, const char *expression);
void                 task_pattern_destroy(struct task_pattern **pattern);
