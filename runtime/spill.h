// SPDX-License-Identifier: MIT
// Memory that lies in a file without a name, for what may be larger than memory: it is written to
// and read like any other, the system brings its pages and takes them, and it is gone with the
// process, however that ends.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct spill;
// In this folder, which is made. NULL after one line.
struct spill *spill_create(const char *folder);
void          spill_destroy(struct spill **spill);
// Zeroed, at a multiple of 16; stays where it is until the end. NULL after one line: the disk is
// full.
void    *spill_alloc(struct spill *spill, uint64_t bytes);
void     spill_forget(struct spill *spill); // its pages leave memory; a look brings them back
uint64_t spill_bytes(const struct spill *spill); // of the file
