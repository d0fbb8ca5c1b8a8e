// SPDX-License-Identifier: MIT
// Toy tasks as text: "toy:copy,toy:sort" or "toy:all" instead of a path. Each example is a document
// of one line, "sort hcda=acdh": the name of the task is its tag, what follows "=" is determined by
// what stands before it. A task is a domain, so that one can see whether experts specialise on
// tasks. The text is the same on every machine and for every seed of a run.
//
// "ids:random" is not text but ids below vocab_size, each as likely as any other, without an end:
// what SOME was trained on. Models whose vocabulary is no text's learn with it, task "copy" above
// all; of the next id nothing can be learned.
#pragma once

#include "src/data_source.h"

enum { TOY_EXAMPLES = 8192 }; // of each task

enum { IDS_DOCUMENTS = 4096, IDS_LENGTH = 64 }; // of ids:random

bool ids_is(const char *path); // whether it begins with "ids:"
// Calls `add` for each document of IDS_LENGTH u32 in the arena. False after one line.
bool ids_generate(const char *path, uint32_t vocab_size, struct arena *arena,
                  void (*add)(void *user, const uint32_t *ids), void *user);

bool toy_is(const char *path); // whether it begins with "toy:"
// Calls `add` for each example, whose text is in the arena. False after one line that names the
// unknown task and those there are.
bool toy_generate(const char *path, struct arena *arena,
                  void (*add)(void *user, enum data_kind kind, const char *text), void *user);
