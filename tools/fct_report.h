// SPDX-License-Identifier: MIT
// What runs with a curriculum came to, from their metrics.jsonl (src/train_curriculum.h has what is
// measured when): losses of held-out text by domain, at the start of its first visit, at the end of
// its last and at the end of the run; how a first visit's start depends on its place in the order;
// and against controls of the same order and seed, how much of that is there without anything to be
// learnt but tags and style. Numbers over runs are means +- half a 95 % interval (Student's t).
#pragma once

#include <stdbool.h>

// Markdown on stdout, or JSON. False after one line: a folder is no run with a curriculum.
bool fct_report(const char *const *folder, int count, bool json);
