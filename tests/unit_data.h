// SPDX-License-Identifier: MIT
// What the tests of the data share: a tokenizer of bytes, data of one path, and what a split holds.
#pragma once

#include "tests/unit.h"

#include "src/data.h"

static struct tokenizer *tokenizer; // made for the group, read by all tests

UNIT_HELPER int make_tokenizer(void **state)
{
    (void)state;
    tokenizer = tokenizer_create_bytes();
    return 0;
}

UNIT_HELPER int drop_tokenizer(void **state)
{
    (void)state;
    tokenizer_destroy(&tokenizer);
    return 0;
}

UNIT_HELPER struct data *open_with(const char *path, uint32_t seq_len, double fraction,
                                   uint64_t seed)
{
    return data_open(&(struct data_params){
        .path = &path, .path_count = 1, .tokenizer = tokenizer, .vocab_size = 259,
        .seq_len = seq_len, .held_out_fraction = fraction, .seed = seed});
}

UNIT_HELPER struct data *open_good(const char *path, uint32_t seq_len, double fraction,
                                   uint64_t seed)
{
    struct data *data = open_with(path, seq_len, fraction, seed);
    if (!data) fail_msg("not opened: %s", unit_log.last);
    unit_assert_silent();
    return data;
}

// All targets of a split in natural order; checks inputs and padding on the way. free() it.
UNIT_HELPER uint32_t *read_split(const struct data *data, enum data_split split, uint32_t context)
{
    const uint32_t seq_len = data_seq_len(data);
    const uint64_t windows = data_windows(data, split), tokens = data_tokens(data, split);
    uint32_t *all = calloc(windows * seq_len + 1, sizeof *all);
    uint32_t *inputs = malloc(seq_len * sizeof *inputs);
    assert_int_equal(windows, (tokens + seq_len - 1) / seq_len);
    for (uint64_t w = 0; w < windows; w++)
        data_window_at(data, split, w, inputs, all + w * seq_len, true);
    for (uint64_t i = 0; i < windows * seq_len; i++)
        if ((all[i] == DATA_MASKED) != (i >= tokens)) fail_msg("target %d masked or not", (int)i);
    for (uint64_t w = 0; w < windows; w++) {
        uint32_t *targets = malloc(seq_len * sizeof *targets);
        data_window_at(data, split, w, inputs, targets, false);
        for (uint32_t i = 0; i < seq_len; i++) {
            const uint64_t at = w * seq_len + i;
            if (at < tokens) assert_int_equal(inputs[i], at ? all[at - 1] : context);
            assert_true(inputs[i] != DATA_MASKED); // padding inputs are ids too
            assert_int_equal(targets[i], at ? all[at] : DATA_MASKED);
        }
        free(targets);
    }
    free(inputs);
    return all;
}

// The split's targets are these documents in this order, each with its end-of-text.
UNIT_HELPER void assert_stream(const struct data *data, enum data_split split,
                               const char *const *text, size_t count)
{
    uint32_t *all = read_split(data, split, TOKENIZER_EOT);
    uint64_t at = 0, bytes = 0;
    for (size_t d = 0; d < count; d++) {
        for (const char *c = text[d]; *c; c++, bytes++) assert_int_equal(all[at++], (uint8_t)*c);
        assert_int_equal(all[at++], TOKENIZER_EOT);
    }
    assert_int_equal(data_tokens(data, split), at);
    assert_int_equal(data_bytes(data, split), bytes);
    assert_int_equal(data_documents(data, split), count);
    free(all);
}

UNIT_HELPER void make_folder(const char *name)
{
    assert_int_equal(mkdir(unit_path(name), 0777), 0);
}

// A shard with these ids, `width` bytes each.
UNIT_HELPER const char *write_shard(const char *name, const uint32_t *ids, int32_t count,
                                    uint32_t width)
{
    struct bytes file = {0};
    int32_t header[256] = {width == 2 ? 20240520 : 20240801, 1, count};
    bytes_append(&file, header, sizeof header);
    for (int32_t i = 0; i < count; i++) {
        const uint16_t narrow = (uint16_t)ids[i];
        bytes_append(&file, width == 2 ? (const void *)&narrow : &ids[i], width);
    }
    const char *path = unit_write(name, file.data, file.count);
    bytes_free(&file);
    return path;
}
