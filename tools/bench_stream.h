// SPDX-License-Identifier: MIT
// `vkmoe bench cache` and `vkmoe bench stream`: what the parts of expert streaming can do alone.
// Each prints a table; json_file: one object as well ("-": it alone, on standard output).
#pragma once

#include <stdbool.h>

struct gpu;

// Replays a recorded routing.trace over every cache policy, several sizes, and Belady's optimum.
// False after one line.
bool bench_cache(const char *trace, const char *json_file);

// Reads of a file through the stream against a plain loop, uploads against memcpy, I/O beside
// compute. file NULL: one of its own, which is gone afterwards.
bool bench_stream(struct gpu *gpu, const char *file, const char *json_file);

// cmd_bench.c: FILE is replaced as a whole; "-" is standard output.
bool bench_write_text(const char *text, const char *path);
