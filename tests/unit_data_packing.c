// SPDX-License-Identifier: MIT
// Whole documents in windows: where each begins, what is padding, what each input may see, and that
// every token still is a target once.
#include "tests/unit_data.h"

static struct data *open_packed(enum data_packing packing, uint32_t seq_len, bool boundaries)
{
    const char *path = unit_folder;
    return data_open(&(struct data_params){.path = &path, .path_count = 1, .tokenizer = tokenizer,
                                           .vocab_size = 259, .seq_len = seq_len,
                                           .packing = packing, .boundaries = boundaries});
}

static void write_texts(const char *const *text, size_t count)
{
    char name[] = "d0.txt";
    for (size_t i = 0; i < count; i++, name[1]++) unit_write_text(name, text[i]);
}

// Inputs and targets of a window as text: an end-of-text is '|', padding '.'.
static void assert_window(const struct data *data, uint64_t index, const char *in, const char *out)
{
    enum { SEQ = 8 };
    uint32_t inputs[SEQ], targets[SEQ];
    char a[SEQ + 1] = "", b[SEQ + 1] = "";
    assert_int_equal(data_seq_len(data), SEQ);
    data_window_at(data, DATA_TRAIN, index, inputs, targets, true);
    for (int i = 0; i < SEQ; i++) {
        a[i] = inputs[i] == TOKENIZER_EOT ? '|' : (char)inputs[i];
        b[i] = targets[i] == TOKENIZER_EOT ? '|' : targets[i] == DATA_MASKED ? '.'
                                                                            : (char)targets[i];
    }
    assert_string_equal(a, in);
    assert_string_equal(b, out);
}

static void whole_documents_keep_together(void **state)
{
    (void)state;
    static const char *const text[] = {"abc", "de", "fghi", "0123456789ABCDEFG", "x", "1234567"};
    write_texts(text, COUNT_OF(text));
    struct data *data = open_packed(DATA_WHOLE, 8, false);
    assert_non_null(data);
    assert_window(data, 0, "|abc|de|", "abc|de|.");  // one place is left
    assert_window(data, 1, "|fghi|||", "fghi|...");
    assert_window(data, 2, "|0123456", "01234567");  // longer than a window: goes on
    assert_window(data, 3, "789ABCDE", "89ABCDEF");
    assert_window(data, 4, "FG|x||||", "G|x|....");
    assert_window(data, 5, "|1234567", "1234567|");  // fits exactly
    assert_int_equal(data_windows(data, DATA_TRAIN), 6);
    assert_int_equal(data_tokens(data, DATA_TRAIN), 34 + 6);
    assert_int_equal(data_scored(data, DATA_TRAIN), 34 + 6);
    uint64_t bytes = 0;
    for (uint64_t w = 0; w < 6; w++) bytes += data_window_bytes(data, DATA_TRAIN, w);
    assert_int_equal(bytes, 34);
    assert_int_equal(data_bytes(data, DATA_TRAIN), 34);
    uint32_t domains[8], documents[8];
    static const uint32_t of[] = {DATA_MASKED, 0, 0, 0, 0, 1, 1, 1};
    data_window_domains(data, DATA_TRAIN, 0, domains, documents);
    assert_memory_equal(documents, of, sizeof of);
    static const uint32_t next[] = {DATA_MASKED, 2, 2, 2, 2, 2, DATA_MASKED, DATA_MASKED};
    data_window_domains(data, DATA_TRAIN, 1, domains, documents);
    assert_memory_equal(documents, next, sizeof next);
    data_close(&data);
}

// What does not fit is told once; the order of documents stays; nothing is lost at any length.
static void every_token_is_a_target_once_in_both_packings(void **state)
{
    (void)state;
    char text[40][64], *all = calloc(1, 4096);
    size_t length = 0;
    const char *given[COUNT_OF(text)];
    for (size_t d = 0; d < COUNT_OF(text); d++) {
        const uint32_t count = 1 + (uint32_t)rng_below(3, 4, d, 60);
        for (uint32_t i = 0; i < count; i++) text[d][i] = (char)('a' + (d + i) % 26);
        text[d][count] = 0;
        given[d] = text[d];
        memcpy(all + length, text[d], count);
        length += count;
        all[length++] = '|';
    }
    char name[] = "d00.txt";
    for (size_t d = 0; d < COUNT_OF(text); d++) {
        name[1] = (char)('0' + d / 10), name[2] = (char)('0' + d % 10);
        unit_write_text(name, given[d]);
    }
    static const uint32_t lengths[] = {1, 2, 3, 31, 32, 33, 61, 64, 4000};
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        for (enum data_packing packing = DATA_STREAM; packing <= DATA_WHOLE; packing++) {
            const uint32_t seq = lengths[i];
            struct data *data = open_packed(packing, seq, false);
            uint32_t *inputs = malloc(2 * seq * sizeof *inputs), *targets = inputs + seq;
            uint64_t at = 0, padding = 0;
            for (uint64_t w = 0; w < data_windows(data, DATA_TRAIN); w++) {
                data_window_at(data, DATA_TRAIN, w, inputs, targets, true);
                for (uint32_t k = 0; k < seq; k++) {
                    padding += targets[k] == DATA_MASKED;
                    if (targets[k] == DATA_MASKED) continue;
                    const uint32_t wanted = all[at] == '|' ? TOKENIZER_EOT : (uint8_t)all[at];
                    const bool fresh = at == 0 || all[at - 1] == '|';
                    assert_int_equal(targets[k], wanted);
                    if (fresh) assert_int_equal(inputs[k], TOKENIZER_EOT);
                    else assert_int_equal(inputs[k], (uint8_t)all[at - 1]);
                    at++;
                }
            }
            assert_int_equal(at, length);
            assert_int_equal(data_windows(data, DATA_TRAIN) * seq, length + padding);
            if (packing == DATA_STREAM) assert_true(padding < seq);
            free(inputs);
            data_close(&data);
        }
    free(all);
}

static void begins_are_where_the_document_of_the_target_does(void **state)
{
    (void)state;
    static const char *const text[] = {"abc", "de", "fghi"};
    write_texts(text, COUNT_OF(text));
    struct data *data = open_packed(DATA_STREAM, 4, true); // abc|de|f ghi|
    uint32_t begins[12];
    static const uint32_t first[] = {0, 0, 0, 0}, second[] = {0, 0, 0, 3}, third[] = {0, 0, 0, 0},
                          row[] = {0, 0, 0, 0, 4, 4, 4, 7, 7, 7, 7, 7};
    data_window_begins(data, DATA_TRAIN, 0, 1, begins);
    assert_memory_equal(begins, first, sizeof first);
    data_window_begins(data, DATA_TRAIN, 1, 1, begins);
    assert_memory_equal(begins, second, sizeof second);
    data_window_begins(data, DATA_TRAIN, 2, 1, begins);
    assert_memory_equal(begins, third, sizeof third);
    data_window_begins(data, DATA_TRAIN, 0, 3, begins);
    assert_memory_equal(begins, row, sizeof row);
    assert_int_equal(data_scored(data, DATA_TRAIN), data_tokens(data, DATA_TRAIN));
    data_close(&data);

    data = open_packed(DATA_WHOLE, 8, true); // abc|de|. fghi|...
    static const uint32_t whole[] = {0, 0, 0, 0, 4, 4, 4, 7, 0, 0, 0, 0};
    data_window_begins(data, DATA_TRAIN, 0, 1, begins);
    assert_memory_equal(begins, whole, 8 * sizeof *whole);
    uint32_t two[16];
    static const uint32_t padded[] = {0, 0, 0, 0, 4, 4, 4, 7, 8, 8, 8, 8, 8, 13, 14, 15};
    data_window_begins(data, DATA_TRAIN, 0, 2, two);
    assert_memory_equal(two, padded, sizeof padded);
    data_close(&data);
}

// ids:random has documents of 64 ids without an end: the first of each but the split's has none but
// another document's token in front of it.
static void foreign_first_tokens_are_no_targets(void **state)
{
    (void)state;
    const char *path = "ids:random";
    struct data_params params = {.path = &path, .path_count = 1, .vocab_size = 100, .seq_len = 96,
                                 .boundaries = true};
    struct data *data = data_open(&params);
    uint32_t inputs[96], targets[96], begins[96];
    assert_int_equal(data_tokens(data, DATA_TRAIN) - data_scored(data, DATA_TRAIN),
                     data_documents(data, DATA_TRAIN) - 1);
    for (uint64_t w = 0; w < 4; w++) {
        data_window_at(data, DATA_TRAIN, w, inputs, targets, true);
        data_window_begins(data, DATA_TRAIN, w, 1, begins);
        for (uint32_t i = 0; i < 96; i++) {
            const uint64_t place = w * 96 + i;
            assert_int_equal(targets[i] == DATA_MASKED, place && place % 64 == 0);
            assert_int_equal(begins[i], place % 64 > i ? 0 : i - place % 64);
        }
    }
    data_close(&data);
    params.packing = DATA_WHOLE; // each begins a window: nothing is foreign
    data = data_open(&params);
    assert_int_equal(data_tokens(data, DATA_TRAIN), data_scored(data, DATA_TRAIN));
    data_close(&data);
}

static void packing_is_in_the_fingerprint(void **state)
{
    (void)state;
    unit_write_text("a.txt", "abc");
    struct data *stream = open_packed(DATA_STREAM, 8, false),
                *automatic = open_packed(DATA_PACKING_AUTO, 8, false),
                *whole = open_packed(DATA_WHOLE, 8, false);
    assert_true(data_fingerprint(stream) == data_fingerprint(automatic));
    assert_true(data_fingerprint(stream) != data_fingerprint(whole));
    data_close(&stream);
    data_close(&automatic);
    data_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(whole_documents_keep_together),
        UNIT(every_token_is_a_target_once_in_both_packings),
        UNIT(begins_are_where_the_document_of_the_target_does),
        UNIT(foreign_first_tokens_are_no_targets),
        UNIT(packing_is_in_the_fingerprint),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, drop_tokenizer);
}
