// SPDX-License-Identifier: MIT
// The operating system: time, how much memory there is and is used, the user's folders, Ctrl-C.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t os_time_ns(void); // monotonic
double   os_seconds(void); // monotonic

uint64_t os_memory_bytes(void);   // of the machine
uint64_t os_memory_limit(void);   // this process may use: cgroup or machine
uint64_t os_memory_available(void); // free now, or taken only by what files have cached
uint64_t os_memory_for_buffers(void); // seven eighths of that: the system must go on living
uint64_t os_resident_bytes(void); // in memory now (VmRSS), 0 if unknown
uint64_t os_resident_peak(void);  // most ever (VmHWM), 0 if unknown
uint64_t os_resident_of(const void *memory, uint64_t bytes); // of these bytes, in whole pages

// Writes the folder for caches, $VKMOE_CACHE, $XDG_CACHE_HOME/vkmoe or ~/.cache/vkmoe; false where
// there is none.
bool os_cache_folder(char *path, size_t bytes);

// Zeroed memory; ends the program with one line when the machine has none left, so callers need no
// check.
void *os_alloc(size_t bytes);
void *os_grow(void *memory, size_t old_bytes, size_t new_bytes); // new bytes are zeroed
char *os_strdup(const char *text);

// Zeroed memory in whole pages at a multiple of 4096 (larger pages where the system has them): what
// direct access to files and imports into a device want. Free it with the same size.
void *os_pages(uint64_t bytes);
void  os_pages_free(void *pages, uint64_t bytes); // NULL is fine

// From the first call on, SIGINT and SIGTERM set a flag instead of ending the program; the second
// one ends it at once.
void os_interrupt_catch(void);
bool os_interrupted(void);
