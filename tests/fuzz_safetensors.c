// SPDX-License-Identifier: MIT
// The safetensors parser against damaged files. What must hold for any input: no access outside the
// file, one log line if it is refused and none if it is taken, and in a taken file tensors that
// cover the data exactly and are found by name.
#define FUZZ_NAME "fuzz_safetensors"
#define FUZZ_WORDS "\"F32\"", "\"U8\"", "\"dtype\"", "\"__metadata__\":{}"
#include "tests/fuzz.h"

#include "src/safetensors.h"

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
    uint8_t *exact = fuzz_exact(data, size);
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

#ifndef VKMOE_LIBFUZZER

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

// Half of the mutated headers get their length put right, so that they are read at all.
static void fix_length(uint8_t *out, size_t size, size_t data)
{
    if (size < 8 + data) return;
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)((uint64_t)(size - 8 - data) >> 8 * i);
}

static int attempt(struct mutator *m, uint8_t *data, size_t size, uint64_t which, size_t whole)
{
    (void)whole;
    if (m && pick(m, 2)) fix_length(data, size, data_bytes[which]);
    return try_one(data, size);
}

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(headers), 6, 2, make_seed, attempt};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
