// SPDX-License-Identifier: MIT
// What the fuzzers of file readers share: the log lines of one try, what must hold, libFuzzer's
// entry (build with -DVKMOE_LIBFUZZER -fsanitize=fuzzer,address) and without it the loop that
// mutates a small corpus, seeded, for a few seconds: FUZZ_NAME [SECONDS] [SEED]. Before it is
// included FUZZ_NAME names the program and FUZZ_WORDS the pieces of its format's JSON; try_one
// returns 1 where a case was taken. No case may be read outside: run them under ASan.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/log.h"
#include "src/base.h"

static int lines;

static void count_line(void *user, enum log_level level, const char *line)
{
    (void)user, (void)level;
    lines += strchr(line, '\n') ? 2 : 1;
}

static void require(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, FUZZ_NAME ": %s\n", what);
    abort();
}

// A copy that ends where the case does, so that ASan sees one byte too far. To be freed.
static inline void *fuzz_exact(const uint8_t *data, size_t size)
{
    void *exact = malloc(size ? size : 1);
    require(exact != NULL, "no memory");
    memcpy(exact, data, size);
    return exact;
}

// The case as a file without a folder, for what reads files only. To be closed.
static inline int fuzz_file(const uint8_t *data, size_t size, char path[40])
{
    const int file = memfd_create("fuzz", 0);
    require(file >= 0 && write(file, data, size) == (ssize_t)size, "no memory for a file");
    snprintf(path, 40, "/proc/self/fd/%d", file);
    return file;
}

#ifdef VKMOE_LIBFUZZER
static int try_one(const uint8_t *data, size_t size);
int        LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set(count_line, NULL, LOG_DEBUG);
    try_one(data, size);
    return 0;
}
#else
enum { MOST_BYTES = 4096 };

struct mutator { uint64_t seed, stream, index; };
static uint64_t pick(struct mutator *m, uint64_t bound)
{
    return rng_below(m->seed, m->stream, m->index++, bound);
}

// The pieces of JSON and the numbers that parsers trip over.
static const char *const words[] = {
    "-1", "0", "1e9", "1e400", "9007199254740991", "18446744073709551616", "0.5", "null",
    "true", "[]", "{}", "\"", "\\u0000", "\\ud800", ",", ":", "]", "}", "[", "{", "\"shape\"",
    "4294967296", "\"a\"", " ", "\n", FUZZ_WORDS};

static size_t replace(uint8_t *out, size_t size, size_t at, size_t old, const void *text,
                      size_t length)
{
    if (at > size || old > size - at || size - old + length > MOST_BYTES) return size;
    memmove(out + at + length, out + at + old, size - at - old);
    memmove(out + at, text, length);
    return size - old + length;
}

static size_t mutate(struct mutator *m, uint8_t *out, size_t size)
{
    const size_t at = size ? pick(m, size) : 0, run = pick(m, 8);
    const char *word = words[pick(m, COUNT_OF(words))];
    const uint8_t byte = (uint8_t)pick(m, 256), digit = (uint8_t)('0' + pick(m, 10));
    switch (pick(m, 7)) {
    case 0: return size ? (out[at] ^= (uint8_t)(1u << pick(m, 8)), size) : 0;
    case 1: return replace(out, size, at, size ? 1 : 0, &byte, 1);
    case 2: return replace(out, size, at, run, word, strlen(word));
    case 3: return replace(out, size, at, run, word, 0);
    case 4: return at; // cut off
    case 5: return replace(out, size, at, 0, out, min_u64(run * 16, size));
    default:
        for (size_t i = at; i < size; i++) // a number of the header
            if (out[i] >= '0' && out[i] <= '9') return out[i] = digit, size;
        return size;
    }
}

struct fuzz {
    const char *cases, *taken; // what the last line calls them: "files", "taken"
    uint64_t    seeds;         // whole cases, that others are made from
    uint64_t    mutations;     // of a case, at most
    uint64_t    taken_share;   // fewer than one in so many may be taken
    size_t    (*make_seed)(uint8_t *out, uint64_t which); // at most MOST_BYTES
    // What must hold for any case; 1 where it was taken. May put checksums and lengths right first,
    // as m picks; m NULL: the case is whole. whole: the bytes that it had.
    int       (*attempt)(struct mutator *m, uint8_t *data, size_t size, uint64_t which,
                         size_t whole);
    // Where whole cases are texts, and any bytes are a case as they are.
    const char *const *text;
    int              (*try_one)(const uint8_t *data, size_t size);
};

static inline size_t fuzz_seed(const struct fuzz *f, uint8_t *out, uint64_t which)
{
    if (f->make_seed) return f->make_seed(out, which);
    const size_t length = strlen(f->text[which]);
    memcpy(out, f->text[which], length);
    return length;
}

static inline int fuzz_attempt(const struct fuzz *f, struct mutator *m, uint8_t *data, size_t size,
                               uint64_t which, size_t whole)
{
    return f->attempt ? f->attempt(m, data, size, which, whole) : f->try_one(data, size);
}

static inline int fuzz_run(const struct fuzz *f, int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 2;
    struct mutator m = {.seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1};
    const clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    uint8_t *seed = malloc(f->seeds * MOST_BYTES), bytes[2 * MOST_BYTES];
    size_t *size = malloc(f->seeds * sizeof *size);
    uint64_t taken = 0;
    log_set(count_line, NULL, LOG_DEBUG);
    for (uint64_t i = 0; i < f->seeds; i++) {
        size[i] = fuzz_seed(f, seed + i * MOST_BYTES, i);
        memcpy(bytes, seed + i * MOST_BYTES, size[i]);
        require(fuzz_attempt(f, NULL, bytes, size[i], i, size[i]), "what is whole was refused");
    }
    for (m.stream = 1; clock() < end; m.stream++) {
        m.index = 0;
        const uint64_t which = pick(&m, f->seeds), times = 1 + pick(&m, f->mutations);
        size_t count = size[which];
        memcpy(bytes, seed + which * MOST_BYTES, count);
        for (uint64_t i = 0; i < times; i++) count = mutate(&m, bytes, count);
        taken += (uint64_t)fuzz_attempt(f, &m, bytes, count, which, size[which]);
    }
    printf(FUZZ_NAME ": seed %llu, %llu %s, %llu %s\n", (unsigned long long)m.seed,
           (unsigned long long)m.stream - 1, f->cases, (unsigned long long)taken, f->taken);
    require(m.stream > 100 && taken > 0 && taken < m.stream / f->taken_share,
            "the mutations are too mild or too wild");
    free(seed), free(size);
    return 0;
}
#endif
