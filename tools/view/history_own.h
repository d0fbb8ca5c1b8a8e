// SPDX-License-Identifier: MIT
// What the files of history_* share: how far each file has been read, and room that grows.
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "src/tokenizer.h"
#include "tools/view/history.h"

struct history_file { // a file that grows
    char    *path;
    FILE    *file;
    uint64_t at;      // bytes of it that were understood
    dev_t    device;
    ino_t    inode;
};

struct history_own {
    struct history_file   metrics;
    struct bytes          pending;    // a line that is not whole yet
    bool                  metrics_end; // of what is there
    uint32_t              row_room, series_room, series_hint, alarm_room;
    char                 *trace_path, *places_path;
    struct history_trace *trace;      // NULL: no trace yet
    struct history_trace *residency;  // NULL: none
    bool                  trace_refused, places_refused; // did not open; that was said once
    struct tokenizer     *tokenizer;  // NULL: the folder has none
    uint32_t              experts;    // that config.json says; 0: it does not
    uint32_t              groups[CONFIG_MAX_LAYERS];
    uint32_t              placed;     // of `places`, those that are columns too
    struct arena         *arena;
};

// Doubles the room of an array where `count` do not fit.
#define HISTORY_GROW(array, room, count)                                                     \
    do {                                                                                     \
        if ((count) > (room)) {                                                              \
            const uint32_t more = max_u32(64, max_u32((count), 2 * (room)));                 \
            (array) = os_grow((array), (room) * sizeof *(array), more * sizeof *(array));    \
            (room) = more;                                                                   \
        }                                                                                    \
    } while (0)

// history_metrics.c. poll: reads whole lines until the deadline (os_seconds; 0: none).
bool history_metrics_poll(struct history *history, double deadline);
void history_metrics_clear(struct history *history);
void history_metrics_free(struct history *history);
// A line, behind which stands a newline or a zero; false where it is none of metrics.jsonl.
// A number of a row; a series that is new begins.
void history_metrics_put(struct history *history, uint32_t row, const char *name, int layer,
                         double value);
bool history_metrics_line(struct history *history, const char *line, size_t bytes);

// history_trace.c
bool history_trace_poll(struct history *history);
bool history_trace_begin(struct history *history); // false after one line
bool history_places_poll(struct history *history);
void history_trace_free(struct history *history);
