// SPDX-License-Identifier: MIT
// Splits and windows: every token is a target exactly once an epoch, the order, the held-out split;
// and segments, baselines, toy tasks.
#include "tests/unit_data.h"

#include "src/baseline.h"
#include "src/data_toy.h"

// ---- windows

static void every_token_is_a_target_once(void **state)
{
    (void)state;
    static const char *const text[] = {"one", "a", "three, and a longer document\n", "4", "fifth"};
    char name[] = "d0.txt";
    for (size_t i = 0; i < COUNT_OF(text); i++, name[1]++) unit_write_text(name, text[i]);
    static const uint32_t lengths[] = {1, 2, 3, 7, 31, 32, 33, 43, 44, 45, 1000};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        struct data *data = open_good(unit_folder, lengths[i], 0, 1);
        assert_stream(data, DATA_TRAIN, text, COUNT_OF(text));
        assert_int_equal(data_windows(data, DATA_HELD_OUT), 0);
        uint64_t bytes = 0;
        for (uint64_t w = 0; w < data_windows(data, DATA_TRAIN); w++)
            bytes += data_window_bytes(data, DATA_TRAIN, w);
        assert_int_equal(bytes, data_bytes(data, DATA_TRAIN));
        data_close(&data);
        assert_null(data);
    }
}

static struct data *open_bytes(uint64_t bytes, uint32_t seq_len, uint64_t seed)
{
    char *text = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) text[i] = (char)('a' + i % 23);
    const char *path = unit_write("text.txt", text, bytes);
    free(text);
    return open_good(path, seq_len, 0, seed);
}

static void every_epoch_is_a_permutation(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 1000, 4099};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        const uint64_t count = counts[i];
        struct data *data = open_bytes(2 * count - 1, 2, 7); // and an end-of-text
        assert_int_equal(data_windows(data, DATA_TRAIN), count);
        for (uint64_t epoch = 0; epoch < 5; epoch++) {
            bool *seen = calloc(count, sizeof *seen);
            for (uint64_t p = epoch * count; p < (epoch + 1) * count; p++) {
                const uint64_t index = data_window_index(data, DATA_TRAIN, p);
                uint32_t a[2][2], b[2][2];
                assert_true(index < count);
                assert_false(seen[index]);
                seen[index] = true;
                data_window(data, DATA_TRAIN, p, a[0], a[1]);
                data_window_at(data, DATA_TRAIN, index, b[0], b[1], true);
                assert_memory_equal(a, b, sizeof a);
            }
            free(seen);
        }
        data_close(&data);
    }
}

// Places at which two orders agree: about one in a random pair of permutations.
static uint64_t agreements(const struct data *a, uint64_t from_a, const struct data *b,
                           uint64_t from_b, uint64_t count)
{
    uint64_t same = 0;
    for (uint64_t i = 0; i < count; i++)
        same += data_window_index(a, DATA_TRAIN, from_a + i)
            == data_window_index(b, DATA_TRAIN, from_b + i);
    return same;
}

static void orders_differ_by_epoch_and_seed(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct data *one = open_bytes(2 * COUNT - 1, 2, 1), *two = open_bytes(2 * COUNT - 1, 2, 2);
    struct data *again = open_bytes(2 * COUNT - 1, 2, 1);
    assert_int_equal(agreements(one, 0, again, 0, COUNT), COUNT);
    assert_true(agreements(one, 0, one, COUNT, COUNT) < 12);
    assert_true(agreements(one, COUNT, one, 2 * COUNT, COUNT) < 12);
    assert_true(agreements(one, 0, two, 0, COUNT) < 12);
    uint64_t unmoved = 0, neighbours = 0;
    for (uint64_t p = 0; p < COUNT; p++) {
        const uint64_t index = data_window_index(one, DATA_TRAIN, p);
        unmoved += index == p;
        neighbours += p && index == data_window_index(one, DATA_TRAIN, p - 1) + 1;
    }
    assert_true(unmoved < 12 && neighbours < 12);
    // far into a run: the position is 64 bits wide
    assert_true(data_window_index(one, DATA_TRAIN, 1ull << 60) < COUNT);
    data_close(&one);
    data_close(&two);
    data_close(&again);
}

// In an epoch of a shuffled order the mean index of the first half is near the middle.
static void order_is_spread(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    struct data *data = open_bytes(2 * COUNT - 1, 2, 3);
    double sum = 0;
    for (uint64_t p = 0; p < COUNT / 2; p++) sum += (double)data_window_index(data, DATA_TRAIN, p);
    // standard error of the mean of half the permutation: COUNT / sqrt(12 * COUNT)
    unit_assert_near(sum / (COUNT / 2), COUNT / 2.0, 5 * COUNT / sqrt(12.0 * COUNT));
    data_close(&data);
}

static void large_files_are_mapped(void **state)
{
    (void)state;
    const uint64_t bytes = (16 << 20) + 12345;
    struct data *data = open_bytes(bytes, 1000, 1);
    const uint64_t last = data_windows(data, DATA_TRAIN) - 1;
    uint32_t inputs[1000], targets[1000];
    data_window_at(data, DATA_TRAIN, last, inputs, targets, true);
    const uint64_t count = bytes + 1 - last * 1000;
    assert_int_equal(targets[count - 2], 'a' + (bytes - 1) % 23);
    assert_int_equal(targets[count - 1], TOKENIZER_EOT);
    assert_int_equal(targets[count], DATA_MASKED);
    data_close(&data);
}

// ---- splits

static void one_document_is_cut_like_nanogpt(void **state)
{
    (void)state;
    // tinyshakespeare's size: nanoGPT trains on int(n * 0.9) = 1003854 characters
    char *text = malloc(1115394);
    for (size_t i = 0; i < 1115394; i++) text[i] = (char)('a' + rng_below(1, 2, i, 26));
    struct data *data = open_good(unit_write("t.txt", text, 1115394), 64, 0.1, 5);
    assert_string_equal(data_summary(data),
                        "1 document (text 1): 1003854 tokens to train on, 111541 held out");
    assert_int_equal(data_tokens(data, DATA_TRAIN), 1003854);
    assert_int_equal(data_bytes(data, DATA_TRAIN), 1003854);
    assert_int_equal(data_tokens(data, DATA_HELD_OUT), 111540 + 1); // and the end-of-text
    assert_int_equal(data_bytes(data, DATA_HELD_OUT), 111540);
    uint32_t *train = read_split(data, DATA_TRAIN, TOKENIZER_EOT);
    uint32_t *held_out = read_split(data, DATA_HELD_OUT, TOKENIZER_EOT);
    for (size_t i = 0; i < 1115394; i++) {
        const uint32_t id = i < 1003854 ? train[i] : held_out[i - 1003854];
        if (id != (uint8_t)text[i]) fail_msg("byte %zu differs", i);
    }
    assert_int_equal(held_out[111540], TOKENIZER_EOT);
    free(train);
    free(held_out);
    free(text);
    data_close(&data);
}

enum { DOCUMENTS = 200 };

// A .jsonl of documents "<index>:xxxx" of odd lengths.
static const char *write_documents(void)
{
    struct bytes lines = {0};
    for (uint64_t i = 0; i < DOCUMENTS; i++) {
        bytes_printf(&lines, "{\"text\": \"%llu:", (unsigned long long)i);
        for (uint64_t n = rng_below(1, 1, i, 300); n > 0; n--) bytes_printf(&lines, "x");
        bytes_printf(&lines, "\"}\n");
    }
    const char *path = unit_write("documents.jsonl", lines.data, lines.count);
    bytes_free(&lines);
    return path;
}

// Counts which documents a split holds; each must begin with its number and end whole.
static void mark_documents(const struct data *data, enum data_split split, int *seen)
{
    uint32_t *all = read_split(data, split, TOKENIZER_EOT);
    int number = 0;
    bool in_number = true;
    for (uint64_t i = 0; i < data_tokens(data, split); i++) {
        if (in_number && all[i] >= '0' && all[i] <= '9') {
            number = 10 * number + (int)(all[i] - '0');
        } else if (in_number) {
            assert_int_equal(all[i], ':');
            seen[number]++;
            in_number = false;
        } else if (all[i] == TOKENIZER_EOT) {
            in_number = true;
            number = 0;
        } else {
            assert_int_equal(all[i], 'x');
        }
    }
    assert_true(in_number); // the last document is whole
    free(all);
}

static void no_document_straddles_the_split(void **state)
{
    (void)state;
    const char *path = write_documents();
    static const double fractions[] = {0.01, 0.1, 0.5, 0.9};
    for (size_t f = 0; f < COUNT_OF(fractions); f++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            struct data *data = open_good(path, 64, fractions[f], seed);
            int train[DOCUMENTS] = {0}, held_out[DOCUMENTS] = {0};
            mark_documents(data, DATA_TRAIN, train);
            mark_documents(data, DATA_HELD_OUT, held_out);
            for (int i = 0; i < DOCUMENTS; i++) assert_int_equal(train[i] + held_out[i], 1);
            const double part = (double)data_bytes(data, DATA_HELD_OUT);
            const double all = part + (double)data_bytes(data, DATA_TRAIN);
            assert_true(part >= fractions[f] * all && part <= 1.25 * fractions[f] * all);
            data_close(&data);
        }
}

static void held_out_documents_depend_on_the_seed_alone(void **state)
{
    (void)state;
    const char *path = write_documents();
    int first[DOCUMENTS] = {0}, again[DOCUMENTS] = {0}, other[DOCUMENTS] = {0}, same = 0;
    struct data *data = open_good(path, 64, 0.1, 1);
    const uint64_t print = data_fingerprint(data);
    mark_documents(data, DATA_HELD_OUT, first);
    data_close(&data);
    data = open_good(path, 100, 0.1, 1);
    assert_true(data_fingerprint(data) != print);
    mark_documents(data, DATA_HELD_OUT, again);
    data_close(&data);
    data = open_good(path, 64, 0.1, 2);
    assert_true(data_fingerprint(data) != print);
    mark_documents(data, DATA_HELD_OUT, other);
    data_close(&data);
    data = open_good(path, 64, 0.1, 1);
    assert_true(data_fingerprint(data) == print);
    data_close(&data);
    assert_memory_equal(first, again, sizeof first);
    for (int i = 0; i < DOCUMENTS; i++) same += first[i] && other[i];
    assert_true(same < 12); // of about 20
}

static void small_sets_keep_both_splits(void **state)
{
    (void)state;
    // the large document would overshoot: the small one is held out whatever the seed
    unit_write_text("small.txt", "0123456789");
    char large[2000];
    memset(large, 'x', sizeof large);
    unit_write("large.txt", large, sizeof large);
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct data *data = open_good(unit_folder, 16, 0.1, seed);
        assert_int_equal(data_bytes(data, DATA_HELD_OUT), 10);
        assert_int_equal(data_bytes(data, DATA_TRAIN), 2000);
        data_close(&data);
        data = open_good(unit_folder, 16, 0.99, seed); // something is left to train on
        assert_int_equal(data_documents(data, DATA_TRAIN), 1);
        assert_int_equal(data_documents(data, DATA_HELD_OUT), 1);
        data_close(&data);
    }
    struct data *data = open_good(unit_folder, 16, 1, 1); // for eval
    assert_int_equal(data_windows(data, DATA_TRAIN), 0);
    assert_int_equal(data_bytes(data, DATA_HELD_OUT), 2010);
    data_close(&data);
}

// ---- segments

static void segments_are_a_stable_sort(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 3, 31, 257, 1000};
    static const uint32_t bounds[] = {1, 2, 259, 300, 70000, 1u << 31};
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (size_t b = 0; b < COUNT_OF(bounds); b++) {
            const uint32_t count = counts[c];
            uint32_t ids[1000], order[1001], begin[1002], id[1001], kept = 0;
            for (uint32_t i = 0; i < count; i++) {
                ids[i] = (uint32_t)rng_below(c, b, i, bounds[b]);
                if (i % 5 == 4) ids[i] = DATA_MASKED;
                kept += ids[i] != DATA_MASKED;
            }
            order[count] = begin[count + 1] = id[count] = 0xdeadbeef; // canaries
            const uint32_t segments = data_segments(ids, count, order, begin, id);
            assert_int_equal(order[count], 0xdeadbeef);
            assert_int_equal(begin[count + 1], 0xdeadbeef);
            assert_int_equal(id[count], 0xdeadbeef);
            assert_int_equal(begin[0], 0);
            assert_int_equal(begin[segments], kept);
            bool seen[1000] = {0};
            for (uint32_t s = 0; s < segments; s++) {
                assert_true(begin[s] < begin[s + 1]);
                assert_true(s == 0 || id[s - 1] < id[s]);
                for (uint32_t i = begin[s]; i < begin[s + 1]; i++) {
                    assert_int_equal(ids[order[i]], id[s]);
                    assert_true(i == begin[s] || order[i - 1] < order[i]);
                    assert_false(seen[order[i]]);
                    seen[order[i]] = true;
                }
            }
        }
}

// ---- baselines

static void baseline_is_what_the_hand_computes(void **state)
{
    (void)state;
    // trained: a a b b a b; held out: a b and the end-of-text; 257 ids
    struct data *data = open_good(unit_write_text("t.txt", "aabbabab"), 3, 0.25, 1);
    struct baseline got;
    assert_true(baseline_measure(data, &got));
    const double p_a = (3 + 2.0 / 257) / 8, p_eot = (2.0 / 257) / 8;
    unit_assert_near(got.order0, -(2 * log2(p_a) + log2(p_eot)) / 2, 1e-12);
    // after end-of-text: a once; after a: a once, b twice; after b: a once, b once
    const double a_after_eot = (1 + 1 * p_a) / 2, b_after_a = (2 + 2 * p_a) / 5;
    const double eot_after_b = 2 * p_eot / 4;
    unit_assert_near(got.bigram, -(log2(a_after_eot) + log2(b_after_a) + log2(eot_after_b)) / 2,
                     1e-12);
    unit_assert_near(got.entropy, 3 * log2(3) / 2, 1e-12);
    assert_int_equal(got.train_tokens, 6);
    assert_int_equal(got.tokens, 3);
    assert_int_equal(got.bytes, 2);
    data_close(&data);
}

// Text of independent bytes: order 0 reaches its entropy, a bigram model gains nothing. Text that
// alternates: a bigram model needs almost nothing.
static void baselines_know_what_they_model(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    char *text = malloc(COUNT);
    for (size_t i = 0; i < COUNT; i++) text[i] = "aaab"[rng_below(1, 9, i, 4)];
    struct baseline got;
    struct data *data = open_good(unit_write("a.txt", text, COUNT), 100, 0.1, 1);
    assert_true(baseline_measure(data, &got));
    const double wanted = -(0.75 * log2(0.75) + 0.25 * log2(0.25));
    unit_assert_near(got.entropy, wanted, 0.02);
    unit_assert_near(got.order0, wanted, 0.02);
    unit_assert_near(got.bigram, wanted, 0.02);
    assert_true(got.order0 >= got.entropy);
    data_close(&data);
    for (size_t i = 0; i < COUNT; i++) text[i] = "ab"[i % 2];
    data = open_good(unit_write("a.txt", text, COUNT), 100, 0.1, 1);
    assert_true(baseline_measure(data, &got));
    unit_assert_near(got.order0, 1, 0.01);
    assert_true(got.bigram < 0.01);
    data_close(&data);
    free(text);
}

static void baseline_needs_both_splits(void **state)
{
    (void)state;
    const char *path = unit_write_text("t.txt", "text");
    struct baseline got;
    for (int fraction = 0; fraction < 2; fraction++) {
        struct data *data = open_good(path, 3, fraction, 1);
        assert_false(baseline_measure(data, &got));
        unit_assert_line("baseline", "held-out");
        data_close(&data);
    }
    static const uint32_t ids[] = {1, 2, 8192, 256, 5, 256};
    path = write_shard("s.bin", ids, 6, 2);
    struct data *data = data_open(&(struct data_params){
        .path = &path, .path_count = 1, .tokenizer = tokenizer, .vocab_size = 10000, .seq_len = 3,
        .held_out_fraction = 0.2});
    assert_non_null(data);
    assert_false(baseline_measure(data, &got));
    unit_assert_silent(); // a run of such ids does without
    data_close(&data);
}

// ---- toy tasks

static bool line_is_right(const char *line)
{
    char task[16], in[32], out[32] = "", wanted[32] = "";
    if (sscanf(line, "%15s %31[^=]=%31s", task, in, out) < 2) return false;
    const size_t length = strlen(in);
    uint32_t sum = 0, depth = 0;
    char stack[32];
    for (size_t i = 0; i < length; i++) {
        wanted[i] = in[strcmp(task, "reverse") == 0 ? length - 1 - i : i];
        sum += (uint32_t)(in[i] - '0');
        if (strchr("([{", in[i])) stack[depth++] = in[i];
        else if (strchr(")]}", in[i]) && depth-- == 0) return false;
        else if (in[i] == ')' && stack[depth] != '(') return false;
        else if (in[i] == ']' && stack[depth] != '[') return false;
        else if (in[i] == '}' && stack[depth] != '{') return false;
    }
    for (size_t i = 0; i + 1 < length && strcmp(task, "sort") == 0; i++)
        for (size_t j = 0; j + 1 < length; j++)
            if (wanted[j] > wanted[j + 1]) {
                const char swap = wanted[j];
                wanted[j] = wanted[j + 1];
                wanted[j + 1] = swap;
            }
    if (strcmp(task, "sum") == 0) snprintf(wanted, sizeof wanted, "%u", sum % 10);
    if (strcmp(task, "brackets") == 0) {
        memset(wanted, 0, sizeof wanted);
        for (uint32_t i = 0; i < depth; i++) {
            const char open = stack[depth - 1 - i];
            wanted[i] = open == '(' ? ')' : open == '[' ? ']' : '}';
        }
    }
    return strcmp(out, wanted) == 0;
}

static void toy_tasks_are_solved_by_what_they_print(void **state)
{
    (void)state;
    struct data *data = open_good("toy:all", 64, 0, 1);
    struct data *two = open_good("toy:sum,toy:sort", 64, 0, 7);
    uint32_t *all = read_split(data, DATA_TRAIN, tokenizer_eot(tokenizer)), lines = 0, length = 0;
    char line[80];
    for (uint64_t i = 0; i < data_tokens(data, DATA_TRAIN); i++) {
        if (all[i] == tokenizer_eot(tokenizer)) continue;
        line[length++] = (char)all[i];
        if (all[i] != '\n') continue;
        line[length - 1] = 0;
        if (!line_is_right(line)) fail_msg("wrong: %s", line);
        length = 0, lines++;
    }
    free(all);
    assert_int_equal(lines, 5 * TOY_EXAMPLES);
    assert_int_equal(data_domain_count(data), 5);
    assert_int_equal(data_domain_count(two), 2);
    assert_int_equal(data_documents(two, DATA_TRAIN), 2 * TOY_EXAMPLES);
    data_close(&data), data_close(&two);
    assert_null(open_with("toy:copy,toy:add", 64, 0, 1));
    unit_assert_line("\"add\"", "toy:sort");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(every_token_is_a_target_once),
        UNIT(every_epoch_is_a_permutation),
        UNIT(orders_differ_by_epoch_and_seed),
        UNIT(order_is_spread),
        UNIT(large_files_are_mapped),
        UNIT(one_document_is_cut_like_nanogpt),
        UNIT(no_document_straddles_the_split),
        UNIT(held_out_documents_depend_on_the_seed_alone),
        UNIT(small_sets_keep_both_splits),
        UNIT(toy_tasks_are_solved_by_what_they_print),
        UNIT(segments_are_a_stable_sort),
        UNIT(baseline_is_what_the_hand_computes),
        UNIT(baselines_know_what_they_model),
        UNIT(baseline_needs_both_splits),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, drop_tokenizer);
}
