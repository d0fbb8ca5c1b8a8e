// SPDX-License-Identifier: MIT
// The operating system: see os.h. Linux, with what /proc and cgroup files say.
#include "runtime/os.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/log.h"

uint64_t os_time_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

double os_seconds(void)
{
    return 1e-9 * (double)os_time_ns();
}

uint64_t os_memory_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

// The number in a one-line file; 0 where the file is missing or says "max".
static uint64_t number_in_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    unsigned long long number = 0;
    if (fscanf(file, "%llu", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static uint64_t smaller_limit(uint64_t limit, uint64_t other)
{
    return other && other < limit ? other : limit;
}

// A limit may be set at any level above the process's own cgroup: walk up to the root.
static uint64_t group_limit(const char *root, char *group, const char *name, uint64_t limit)
{
    for (;;) {
        char path[4096];
        snprintf(path, sizeof path, "%s%.3900s/%s", root, group, name);
        limit = smaller_limit(limit, number_in_file(path));
        char *slash = strrchr(group, '/');
        if (!slash || !group[0])
            return limit;
        *slash = 0;
    }
}

// Version 2: "0::/group"; version 1: "4:memory:/group". Inside a container the group's path may be
// the host's, and its files lie at the root.
uint64_t os_memory_limit(void)
{
    uint64_t limit = os_memory_bytes();
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file)
        return limit;
    char line[4096];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *memory = strstr(line, ":memory:");
        if (strncmp(line, "0::", 3) == 0)
            limit = group_limit("/sys/fs/cgroup", line + 3, "memory.max", limit);
        else if (memory)
            limit = group_limit("/sys/fs/cgroup/memory", memory + strlen(":memory:"),
                                "memory.limit_in_bytes", limit);
    }
    fclose(file);
    return limit;
}

uint64_t os_memory_for_buffers(void)
{
    const uint64_t limit = os_memory_limit();
    return limit - limit / 8;
}

// A line of such a file of /proc as "VmRSS:    1234 kB".
static uint64_t line_bytes(const char *path, const char *key)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    const size_t length = strlen(key);
    unsigned long long kib = 0;
    char line[256];
    while (fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0 && sscanf(line + length, " %llu", &kib) == 1)
            break;
    fclose(file);
    return (uint64_t)kib * 1024;
}

uint64_t os_resident_bytes(void)
{
    return line_bytes("/proc/self/status", "VmRSS:");
}

uint64_t os_resident_peak(void)
{
    return line_bytes("/proc/self/status", "VmHWM:");
}

uint64_t os_resident_of(const void *memory, uint64_t bytes)
{
    enum { PAGES = 4096 };
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), first = (uint64_t)(uintptr_t)memory,
                   end = (first + bytes + page - 1) / page * page;
    uint64_t resident = 0;
    unsigned char there[PAGES];
    for (uint64_t at = first / page * page; at < end; at += PAGES * page) {
        const uint64_t some = end - at < PAGES * page ? end - at : PAGES * page;
        if (mincore((void *)(uintptr_t)at, some, there) != 0) continue; // no memory of its own
        for (uint64_t i = 0; i < some / page; i++) resident += there[i] & 1;
    }
    return resident * page;
}

// Of a group with a limit, what this process has is taken; what others of the group have is not
// known.
uint64_t os_memory_available(void)
{
    const uint64_t limit = os_memory_limit(), own = os_resident_bytes(),
                   machine = line_bytes("/proc/meminfo", "MemAvailable:");
    return smaller_limit(limit > own ? limit - own : 0, machine);
}

bool os_cache_folder(char *path, size_t bytes)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *own = getenv("VKMOE_CACHE");
    int length = -1;
    if (own && own[0])
        length = snprintf(path, bytes, "%s", own);
    else if (cache && cache[0] == '/') // the specification: a relative path is to be ignored
        length = snprintf(path, bytes, "%s/vkmoe", cache);
    else if (home && home[0] == '/')
        length = snprintf(path, bytes, "%s/.cache/vkmoe", home);
    return length > 0 && (size_t)length < bytes;
}

static void out_of_memory(size_t bytes)
{
    log_error("out of host memory: %zu bytes more were needed; close other programs or use a "
              "smaller batch",
              bytes);
    _exit(1);
}

void *os_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        out_of_memory(bytes);
    return memory;
}

void *os_grow(void *memory, size_t old_bytes, size_t new_bytes)
{
    uint8_t *grown = realloc(memory, new_bytes ? new_bytes : 1);
    if (!grown)
        out_of_memory(new_bytes);
    if (new_bytes > old_bytes)
        memset(grown + old_bytes, 0, new_bytes - old_bytes);
    return grown;
}

char *os_strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    return memcpy(os_alloc(bytes), text, bytes);
}

void *os_pages(uint64_t bytes)
{
    void *pages =
        mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        out_of_memory(bytes);
    madvise(pages, bytes, MADV_HUGEPAGE); // a wish
    return pages;
}

void os_pages_free(void *pages, uint64_t bytes)
{
    if (pages)
        munmap(pages, bytes ? bytes : 1);
}

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    if (interrupts++)
        _exit(128 + number);
}

void os_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool os_interrupted(void)
{
    return interrupts != 0;
}
