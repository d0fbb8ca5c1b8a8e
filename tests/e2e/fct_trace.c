// SPDX-License-Identifier: MIT
// A run with a curriculum: every token in its routing trace is labelled with the domain whose turn
// the step was (metrics.jsonl), or is padding.
//     fct_trace RUN
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "src/trace.h"

// The domain of a step's turn; caller frees.
static char *turn_of(const char *metrics, uint32_t step)
{
    char mark[40];
    snprintf(mark, sizeof mark, "{\"step\": %u, \"loss\"", step);
    const char *at = strstr(metrics, mark);
    cJSON *line = at ? cJSON_ParseWithLength(at, strcspn(at, "\n")) : NULL;
    const cJSON *turn = cJSON_GetObjectItemCaseSensitive(line, "turn");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(turn, "domain"));
    char *own = name ? strdup(name) : NULL;
    cJSON_Delete(line);
    return own;
}

// How many tokens are labelled; -1: one with another domain.
static long check(const struct trace_shape *shape, const struct trace_record *record,
                  const char *turn)
{
    long labelled = 0;
    for (uint32_t i = 0; i < record->count; i++) {
        if (record->value[i] == TRACE_NO_DOMAIN) continue;
        const char *name = shape->domain[record->value[i]];
        labelled++;
        if (turn && strcmp(name, turn) == 0) continue;
        fprintf(stderr, "step %u, token %u: %s, but the turn is %s\n", record->step, i, name,
                turn ? turn : "nobody's");
        return -1;
    }
    return labelled;
}

int main(int argc, char **argv)
{
    char path[4200];
    void *metrics;
    uint64_t bytes;
    if (argc != 2) return 2;
    snprintf(path, sizeof path, "%.4000s/metrics.jsonl", argv[1]);
    if (!file_read(path, 0, &metrics, &bytes)) return 1;
    snprintf(path, sizeof path, "%.4000s/routing.trace", argv[1]);
    struct trace_reader *reader = trace_open(path);
    struct trace_record record;
    long labelled = 0, steps = 0;
    while (reader && labelled >= 0 && trace_next(reader, &record)) {
        if (record.kind != TRACE_DOMAINS) continue;
        char *turn = turn_of(metrics, record.step);
        const long own = check(trace_shape(reader), &record, turn);
        labelled = own < 0 ? own : labelled + own;
        steps++;
        free(turn);
    }
    if (reader) trace_finish(&reader);
    free(metrics);
    printf("%ld tokens of %ld steps\n", labelled, steps);
    return labelled > 0 && steps > 1 ? 0 : 1;
}
