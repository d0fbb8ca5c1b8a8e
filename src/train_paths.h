// SPDX-License-Identifier: MIT
// data.json of a run folder, {"data": ["3*a.txt", "b"]}: what --data was, with its weights, so that
// --resume does without. Paths are as they were given, from the folder that the run began in.
#pragma once

#include <stdbool.h>

struct train_paths {
    const char **path;
    int          count;
};

// Caller frees.
char *train_paths_print(const char *const *path, int count);
// Those of the run in `dir`; none where it has no such file. False after one line.
bool train_paths_read(const char *dir, struct train_paths *out);
void train_paths_free(struct train_paths *paths);
