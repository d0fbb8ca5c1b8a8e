// SPDX-License-Identifier: MIT
// The safetensors parser against damaged files. LLVMFuzzerTestOneInput is libFuzzer's entry (build
// with -DVKMOE_LIBFUZZER -fsanitize=fuzzer,address); without libFuzzer main mutates its own small
// corpus, seeded, for a few seconds: fuzz_safetensors [SECONDS] [SEED]. What must hold for any
// input: no access outside the file (run it under ASan), one log line if it is refused and none if
// it is taken, and in a taken file tensors that cover the data exactly and are found by name.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/log.h"
#include "src/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int lines;

static void count_line(void *user, enum log_level level, const char *line)
{
    (void)user, (void)level;
    lines += strchr(line, '\n') ? 2 : 1;
}

static void require(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "fuzz_safetensors: %s\n", what);
    abort();
}

static void check_taken(const struct safetensors *file)
{
    uint64_t end = 0;
    unsigned sum = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensor[i];
        require(tensor->begin == end && tensor->end >= tensor->begin,
                "a hole or an overlap was taken");
        require(safetensors_find(file, tensor->name) == tensor,
                "a tensor is not found by its name");
        if (tensor->dtype >= 0)
            require(tensor->count * dtype_bytes((enum dtype)tensor->dtype) ==
                        tensor->end - tensor->begin,
                    "a wrong size was taken");
        for (uint64_t b = tensor->begin; b < tensor->end; b++)
            sum += file->data[b]; // ASan sees each byte
        end = tensor->end;
    }
    require(end == file->bytes && sum <= 255 * end, "bytes behind the last tensor were taken");
}

// Returns 1 where the file was taken (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1); // so that one byte too far is seen
    memcpy(exact, data, size);
    lines = 0;
    struct safetensors *file = safetensors_parse("fuzz", exact, size);
    require(lines == (file ? 0 : 1),
            "not exactly one line for a refused file, none for a good one");
    const int taken = file != NULL;
    if (file) check_taken(file);
    safetensors_close(&file);
    free(exact);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set(count_line, NULL, LOG_DEBUG);
    try_one(data, size);
    return 0;
}

#ifndef VKMOE_LIBFUZZER

enum { MOST_BYTES = 4096 };

static const char *const headers[] = {
    "{}",
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_"
    "offsets\":[0,24]}}   ",
    "{\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"I64\","
    "\"shape\":[],\"data_offsets\":[8,16]},"
    "\"c\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[16,16]},\"d\\u0041\":{\"dtype\":"
    "\"F16\",\"shape\":[1,1,1,1],"
    "\"data_offsets\":[16,18]}}",
    "{\"x\":{\"shape\":[2],\"data_offsets\":[3,5],\"dtype\":\"U8\"},\"y\":{\"dtype\":\"F6_E2M3\","
    "\"shape\":[4],\"data_offsets\":[0,3]}}",
};
static const size_t data_bytes[] = {0, 24, 18, 5};

static size_t make_seed(uint8_t *out, uint64_t which)
{
    const size_t length = strlen(headers[which]);
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(out + 8, headers[which], length);
    memset(out + 8 + length, 0x5a, data_bytes[which]);
    return 8 + length + data_bytes[which];
}

struct mutator { uint64_t seed, stream, index; };
static uint64_t pick(struct mutator *m, uint64_t bound)
{
    return rng_below(m->seed, m->stream, m->index++, bound);
}

// The pieces of JSON and the numbers that parsers trip over.
static const char *const words[] = {"-1",
                                    "0",
                                    "1e9",
                                    "1e400",
                                    "9007199254740991",
                                    "18446744073709551616",
                                    "0.5",
                                    "null",
                                    "true",
                                    "[]",
                                    "{}",
                                    "\"",
                                    "\\u0000",
                                    "\\ud800",
                                    ",",
                                    ":",
                                    "]",
                                    "}",
                                    "[",
                                    "{",
                                    "\"F32\"",
                                    "\"U8\"",
                                    "\"dtype\"",
                                    "\"shape\"",
                                    "4294967296",
                                    "\"__metadata__\":{}",
                                    "\"a\"",
                                    " ",
                                    "\n"};

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

// Half of the mutated headers get their length put right, so that they are read at all.
static void fix_length(uint8_t *out, size_t size, size_t data)
{
    if (size < 8 + data) return;
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)((uint64_t)(size - 8 - data) >> 8 * i);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 2;
    struct mutator m = {.seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1};
    const clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    uint8_t bytes[2 * MOST_BYTES];
    uint64_t taken = 0;
    log_set(count_line, NULL, LOG_DEBUG);
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        const size_t size = make_seed(bytes, i);
        require(try_one(bytes, size), "an undamaged file was refused");
    }
    for (m.stream = 1; clock() < end; m.stream++) {
        m.index = 0;
        const uint64_t which = pick(&m, COUNT_OF(headers)), times = 1 + pick(&m, 6);
        size_t size = make_seed(bytes, which);
        for (uint64_t i = 0; i < times; i++) size = mutate(&m, bytes, size);
        if (pick(&m, 2)) fix_length(bytes, size, data_bytes[which]);
        taken += (uint64_t)try_one(bytes, size);
    }
    printf("fuzz_safetensors: seed %llu, %llu files, %llu taken\n", (unsigned long long)m.seed,
           (unsigned long long)m.stream - 1, (unsigned long long)taken);
    require(m.stream > 100 && taken > 0 && taken < m.stream / 2,
            "the mutations are too mild or too wild");
    return 0;
}

#endif
