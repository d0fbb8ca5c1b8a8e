// SPDX-License-Identifier: MIT
// One log callback for the whole library; the default writes "level: line" to stderr. Lines are
// formatted into one buffer and handed over whole, so lines of several threads never mix.
#include "runtime/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The one piece of global state of the library: set once by main before anything else runs.
static struct {
    log_fn        *callback;
    void          *user;
    enum log_level max_level;
} log_state = {NULL, NULL, LOG_INFO};

static const char *const log_names[] = {"error", "warn", "info", "debug"};

void log_set(log_fn *callback, void *user, enum log_level max_level)
{
    log_state.callback = callback;
    log_state.user = user;
    log_state.max_level = max_level;
}

int log_level_from_name(const char *name)
{
    for (int i = 0; i < (int)(sizeof log_names / sizeof log_names[0]); i++)
        if (strcmp(name, log_names[i]) == 0)
            return i;
    return -1;
}

static void log_default(enum log_level level, const char *line)
{
    if (level == LOG_INFO)
        fprintf(stderr, "%s\n", line);
    else
        fprintf(stderr, "%s: %s\n", log_names[level], line);
}

static void log_line(enum log_level level, const char *line)
{
    if (log_state.callback)
        log_state.callback(log_state.user, level, line);
    else
        log_default(level, line);
}

__attribute__((format(printf, 2, 0)))
static void log_format(enum log_level level, const char *format, va_list args)
{
    if (level > log_state.max_level)
        return;
    char    fixed[1024];
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(fixed, sizeof fixed, format, args);
    char     *line = NULL;
    if (length >= (int)sizeof fixed && (line = malloc((size_t)length + 1)))
        vsnprintf(line, (size_t)length + 1, format, again);
    va_end(again);
    log_line(level, line ? line : fixed);
    free(line);
}

#define LOG_FUNCTION(name, level)            \
    void name(const char *format, ...)       \
    {                                        \
        va_list args;                        \
        va_start(args, format);              \
        log_format(level, format, args);     \
        va_end(args);                        \
    }

LOG_FUNCTION(log_error, LOG_ERROR)
LOG_FUNCTION(log_warn, LOG_WARN)
LOG_FUNCTION(log_info, LOG_INFO)
LOG_FUNCTION(log_debug, LOG_DEBUG)
