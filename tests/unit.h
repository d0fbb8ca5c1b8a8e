// SPDX-License-Identifier: MIT
// What the unit tests share: cmocka with the headers it wants before it, a log that is caught
// instead of printed (to prove "one clear line"), and a folder that goes away again.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/log.h"
#include "src/base.h"

#define UNIT_HELPER __attribute__((unused)) static

static struct { int lines; char last[4096]; } unit_log;
static char unit_folder[4096];

UNIT_HELPER void unit_log_line(void *user, enum log_level level, const char *line)
{
    (void)user;
    if (level > LOG_WARN) return;
    unit_log.lines++;
    snprintf(unit_log.last, sizeof unit_log.last, "%s", line);
}

// Since the last call exactly one line was logged, on one line, and it holds both texts.
#define unit_assert_line(first, second)                                                      \
    do {                                                                                     \
        if (unit_log.lines != 1 || strchr(unit_log.last, '\n') || !strstr(unit_log.last, first) \
            || !strstr(unit_log.last, second))                                               \
            fail_msg("%d lines, the last: %s", unit_log.lines, unit_log.last);               \
        unit_log.lines = 0;                                                                  \
    } while (0)

#define unit_assert_silent()                                                                 \
    do {                                                                                     \
        if (unit_log.lines) fail_msg("logged: %s", unit_log.last);                           \
    } while (0)

#define unit_assert_near(value, wanted, tolerance)                                           \
    do {                                                                                     \
        const double unit_value = (value), unit_wanted = (wanted);                           \
        if (!(fabs(unit_value - unit_wanted) <= (tolerance)))                                \
            fail_msg("%s is %.12g, wanted %.12g", #value, unit_value, unit_wanted);          \
    } while (0)

UNIT_HELPER int unit_remove(const char *path, const struct stat *info, int kind,
                            struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

UNIT_HELPER int unit_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(unit_folder, sizeof unit_folder, "%s/vkmoe-unit-XXXXXX", base ? base : "/tmp");
    unit_log.lines = 0;
    log_set(unit_log_line, NULL, LOG_DEBUG);
    return mkdtemp(unit_folder) ? 0 : -1;
}

UNIT_HELPER int unit_teardown(void **state)
{
    (void)state;
    log_set(NULL, NULL, LOG_INFO);
    return nftw(unit_folder, unit_remove, 16, FTW_DEPTH | FTW_PHYS);
}

// The path of a name in the test's folder; one of eight buffers that take turns.
UNIT_HELPER const char *unit_path(const char *name)
{
    static char path[8][8192];
    static unsigned turn;
    char *own = path[turn++ % 8];
    snprintf(own, sizeof path[0], "%s/%s", unit_folder, name);
    return own;
}

UNIT_HELPER const char *unit_write(const char *name, const void *data, size_t bytes)
{
    const char *path = unit_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    return path;
}

UNIT_HELPER const char *unit_write_text(const char *name, const char *text)
{
    return unit_write(name, text, strlen(text));
}

// A whole file with a zero byte behind it; free() it.
UNIT_HELPER char *unit_read(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    rewind(file);
    char *data = calloc(1, (size_t)size + 1);
    assert_int_equal(fread(data, 1, (size_t)size, file), size);
    fclose(file);
    if (bytes) *bytes = (size_t)size;
    return data;
}

// A test with a folder of its own.
#define UNIT(function) cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)
