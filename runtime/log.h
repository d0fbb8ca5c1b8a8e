// SPDX-License-Identifier: MIT
// One log callback for the whole library. The line that detects an error logs it once, with names,
// numbers and what to do; callers only pass the failure on.
#pragma once

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

typedef void log_fn(void *user, enum log_level level, const char *line);

void log_set(log_fn *callback, void *user, enum log_level max_level); // callback NULL: stderr
int  log_level_from_name(const char *name); // "error", "warn", "info", "debug"; -1 if unknown
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
