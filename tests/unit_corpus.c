// SPDX-License-Identifier: MIT
// Sources by weight, filters and duplicates: proportions exact over any number of epochs, the same
// order from any place on, and of planted documents exactly those go that the rules name.
#include "tests/unit_data.h"

#include "src/config_fields.h"
#include "src/corpus.h"
#include "src/corpus_mix.h"
#include "src/corpus_near.h"

// ---- weights

static void weights_are_read_or_refused(void **state)
{
    (void)state;
    static const struct { const char *path, *rest; double weight; } good[] = {
        {"a.txt", "a.txt", 0}, {"3*a.txt", "a.txt", 3}, {"0.5*dir/b", "dir/b", 0.5},
        {"1e2*x", "x", 100}, {"./3*x", "./3*x", 0}, {"3x", "3x", 0}, {"*x", "*x", 0},
        {"2*toy:sort", "toy:sort", 2}, {"2*3*x", "3*x", 2},
    };
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        const char *rest;
        double weight;
        assert_true(corpus_weight(good[i].path, &rest, &weight));
        assert_string_equal(rest, good[i].rest);
        assert_string_equal(corpus_path(good[i].path), good[i].rest);
        assert_true(weight == good[i].weight);
    }
    static const char *const bad[] = {"0*a", "-1*a", "nan*a", "inf*a", "-inf*a", "1e7*a", "1e999*a",
                                      "-0*a"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const char *rest;
        double weight;
        assert_false(corpus_weight(bad[i], &rest, &weight));
        unit_assert_line(bad[i], "wanted a number above 0, at most 1e+06");
        assert_null(open_with(bad[i], 4, 0, 1)); // as --data
        unit_assert_line(bad[i], "wanted a number above 0");
    }
    assert_null(open_with("3*", 4, 0, 1));
    unit_assert_line("--data 3*", "no path behind the weight");
    assert_true(data_without_text("3*a.bin") && !data_without_text("3*a.txt"));
}

// Each window as often as its source's weight says, ± 1 at any moment, exactly over whole passes.
static void a_mix_is_exact(void **state)
{
    (void)state;
    static const uint64_t windows[] = {5, 12, 1};
    static const double weights[] = {3, 0.5, 4};
    struct corpus_mix mix = {.key = 77};
    for (int s = 0; s < 3; s++) assert_true(corpus_mix_add(&mix, "x", weights[s], windows[s]));
    assert_int_equal(mix.epoch, 15 + 6 + 4);
    assert_int_equal(mix.windows, 18);
    uint32_t seen[18] = {0}, orders = 0;
    for (uint64_t epoch = 0; epoch < 6; epoch++) {
        uint32_t drawn[3] = {0};
        for (uint64_t i = 0; i < mix.epoch; i++) {
            const uint64_t index = corpus_mix_index(&mix, epoch * mix.epoch + i);
            seen[index]++;
            drawn[corpus_mix_source(&mix, index)]++;
            orders += epoch > 0 && index != corpus_mix_index(&mix, i);
        }
        assert_true(drawn[0] == 15 && drawn[1] == 6 && drawn[2] == 4);
        for (uint32_t w = 0; w < 18; w++) {
            const double wanted = weights[w < 5 ? 0 : w < 17 ? 1 : 2] * (double)(epoch + 1);
            assert_true(fabs(seen[w] - wanted) <= (epoch % 2 ? 0 : 0.5));
        }
    }
    assert_true(orders > 100); // of 125: another order in each epoch
    assert_false(corpus_mix_add(&mix, "tiny", 0.01, 7));
    unit_assert_line("--data tiny: a weight of 0.01 gives none of its 7 windows", "0.0714");
    while (mix.sources < CORPUS_MOST_SOURCES) assert_true(corpus_mix_add(&mix, "x", 1, 1));
    assert_false(corpus_mix_add(&mix, "x", 1, 1));
    unit_assert_line("more than 64 sources", "fewer");
}

static struct data *open_mix(const char *const *path, int count, double fraction)
{
    return data_open(&(struct data_params){
        .path = path, .path_count = count, .tokenizer = tokenizer, .vocab_size = 259, .seq_len = 8,
        .held_out_fraction = fraction, .seed = 5});
}

// Windows of a mix are of one source; the same bytes wherever the run is taken up; every source is
// in both splits; each held-out document is there once.
static void sources_are_mixed_by_weight(void **state)
{
    (void)state;
    char a[8300], b[8300], c[8300], text[400];
    memset(text, 'a', 80);
    text[80] = 0;
    snprintf(a, sizeof a, "3*%s", unit_write_text("a.txt", text)); // 64 + 16 held out: 8 windows
    memset(text, 'b', 200);
    text[200] = 0;
    snprintf(b, sizeof b, "%s", unit_write_text("b.txt", text)); // 160: 20 windows
    make_folder("c");
    unit_write_text("c/1.md", "cccccccccc");
    unit_write_text("c/2.md", "ccccccccccccccc"); // one of them is held out
    snprintf(c, sizeof c, "0.5*%s", unit_path("c"));
    const char *const path[] = {a, b, c};
    struct data *data = open_mix(path, 3, 0.2), *again = open_mix(path, 3, 0.2);
    if (!data) fail_msg("not opened: %s", unit_log.last);
    assert_non_null(strstr(data_summary(data), "windows an epoch: 24 of "));
    assert_int_equal(data_windows(data, DATA_TRAIN), 8 + 20 + 2);
    assert_int_equal(data_epoch(data, DATA_TRAIN), 24 + 20 + 1);
    assert_int_equal(data_documents(data, DATA_HELD_OUT), 3);
    assert_int_equal(data_epoch(data, DATA_HELD_OUT), data_windows(data, DATA_HELD_OUT));
    uint32_t inputs[8], targets[8], other[2][8];
    for (uint64_t epoch = 0, at = 0; epoch < 4; epoch++) {
        uint64_t drawn[128] = {0};
        for (uint64_t i = 0; i < 45; i++, at++) {
            data_window(data, DATA_TRAIN, at, inputs, targets);
            data_window(again, DATA_TRAIN, at, other[0], other[1]); // no other was asked for before
            assert_memory_equal(inputs, other[0], sizeof inputs);
            assert_memory_equal(targets, other[1], sizeof targets);
            for (int t = 0; t < 8; t++)
                if (targets[t] < 128) assert_int_equal(targets[t], targets[0]);
            drawn[targets[0]]++;
        }
        assert_true(drawn['a'] == 24 && drawn['b'] == 20 && drawn['c'] == 1);
    }
    uint32_t domains[8], documents[8];
    data_window_domains(data, DATA_TRAIN, 29, domains, documents); // the last of c
    assert_int_equal(documents[0], 2);
    assert_string_equal(data_domain_name(data, domains[0]), "markdown");
    assert_int_equal(data_window_domain(data, DATA_TRAIN, 28), domains[0]);
    assert_int_equal(data_window_bytes(data, DATA_TRAIN, 0), 8);
    const uint64_t fingerprint = data_fingerprint(data);
    data_close(&data);
    data_close(&again);

    a[0] = '2'; // another mix is another order
    data = open_mix(path, 3, 0.2);
    assert_true(data_fingerprint(data) != fingerprint);
    data_close(&data);
    data = open_mix(path, 3, 1); // an evaluation reads each once
    assert_int_equal(data_tokens(data, DATA_HELD_OUT), 81 + 201 + 11 + 16);
    data_close(&data);
    unit_assert_silent();
}

static void without_weights_nothing_is_mixed(void **state)
{
    (void)state;
    const char *const path[] = {unit_write_text("a.txt", "aaa"), unit_write_text("b.txt", "bb")};
    struct data *data = open_mix(path, 2, 0);
    assert_int_equal(data_windows(data, DATA_TRAIN), 1); // a window of both
    assert_int_equal(data_epoch(data, DATA_TRAIN), 1);
    assert_null(strstr(data_summary(data), "epoch"));
    data_close(&data);
}

// ---- filters

static struct document text_of(const char *text)
{
    return (struct document){.start = text, .count = strlen(text), .bytes = strlen(text),
                             .width = 1};
}

static void each_filter_has_its_reason(void **state)
{
    (void)state;
    const struct config_corpus none = config_defaults.corpus;
    static const struct {
        struct config_corpus rules;
        const char *text;
        enum corpus_reason reason;
    } cases[] = {
        {{.min_bytes = 5, .max_repeated_lines = 1}, "abcd", CORPUS_SHORT},
        {{.min_bytes = 5, .max_repeated_lines = 1}, "abcde", CORPUS_KEPT},
        {{.max_bytes = 4, .max_repeated_lines = 1}, "abcde", CORPUS_LONG},
        {{.max_bytes = 5, .max_repeated_lines = 1}, "abcde", CORPUS_KEPT},
        {{.min_words = 3, .max_repeated_lines = 1}, " one\ntwo ", CORPUS_WORDS},
        {{.min_words = 3, .max_repeated_lines = 1}, " one\ttwo one", CORPUS_KEPT},
        {{.min_unique_words = 3, .max_repeated_lines = 1}, "one two one", CORPUS_UNIQUE_WORDS},
        {{.min_unique_words = 3, .max_repeated_lines = 1}, "one two One", CORPUS_KEPT},
        {{.min_letters = 0.5, .max_repeated_lines = 1}, "ab 123", CORPUS_LETTERS},
        {{.min_letters = 0.4, .max_repeated_lines = 1}, "ab 123", CORPUS_KEPT},
        {{.min_letters = 1, .max_repeated_lines = 1}, "\xc3\xa9t\xc3\xa9\n", CORPUS_KEPT},
        {{.max_repeated_lines = 0.3}, "abc\nabc\n\n\nxyz", CORPUS_LINES}, // 3 of 9
        {{.max_repeated_lines = 0.34}, "abc\n abc\nxyz", CORPUS_KEPT},
        {{.max_repeated_lines = 0}, "a\nb\n\n\n", CORPUS_KEPT}, // blank lines do not count
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct document document = text_of(cases[i].text);
        if (corpus_filter(&cases[i].rules, &document) != cases[i].reason)
            fail_msg("case %zu: %d", i, corpus_filter(&cases[i].rules, &document));
        assert_int_equal(corpus_filter(&none, &document), CORPUS_KEPT);
    }
    static const uint16_t ids[] = {1, 2, 3};
    const struct document shard = {.start = ids, .count = 3, .bytes = 3, .width = 2};
    const struct config_corpus words = {.min_words = 100, .min_letters = 1};
    assert_int_equal(corpus_filter(&words, &shard), CORPUS_KEPT);
}

static struct data *open_filtered(const struct config_corpus *corpus)
{
    const char *path = unit_folder;
    return data_open(&(struct data_params){
        .path = &path, .path_count = 1, .tokenizer = tokenizer, .vocab_size = 259, .seq_len = 16,
        .seed = 1, .corpus = corpus});
}

static void what_was_dropped_is_said(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "short", "one two three four", "1 2 3 4 5 6 7 8 9 10", "one  two\nthree four\n",
        "a long text that goes on and on"};
    char name[20];
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        snprintf(name, sizeof name, "%zu.txt", i);
        unit_write_text(name, texts[i]);
    }
    struct config_corpus rules = config_defaults.corpus;
    struct data *data = open_filtered(&rules);
    assert_null(strstr(data_summary(data), "dropped"));
    assert_int_equal(data_documents(data, DATA_TRAIN), 5);
    const uint64_t all = data_fingerprint(data);
    data_close(&data);
    rules.min_bytes = 6;
    rules.max_bytes = 30;
    rules.min_letters = 0.5;
    rules.dedup = CONFIG_DEDUP_EXACT;
    data = open_filtered(&rules);
    assert_non_null(strstr(data_summary(data),
        "; dropped 4 of 5 documents: 1 under min_bytes 6, 1 over max_bytes 30, 1 under min_letters "
        "0.5, 1 the same as another"));
    static const char *const wanted[] = {"one two three four"};
    assert_stream(data, DATA_TRAIN, wanted, 1);
    assert_true(data_fingerprint(data) != all);
    data_close(&data);
    rules.min_words = 100;
    assert_null(open_filtered(&rules));
    unit_assert_line("the filters leave none of 5 documents: 1 under min_bytes 6",
                     "under min_words 100");
}

// ---- duplicates

static void white_space_makes_no_other_text(void **state)
{
    (void)state;
    static const char *const same[] = {"a b c", " a b c ", "a\tb\r\n\nc\n", "a  b  c"};
    static const char *const other[] = {"a b C", "ab c", "a b c d", "a b", ""};
    const struct document first = text_of(same[0]);
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        const struct document document = text_of(same[i]);
        assert_true(corpus_equal(&first, &document) && corpus_equal(&document, &first));
        assert_int_equal(corpus_hash(&first), corpus_hash(&document));
    }
    for (size_t i = 0; i < COUNT_OF(other); i++) {
        const struct document document = text_of(other[i]);
        assert_false(corpus_equal(&first, &document) || corpus_equal(&document, &first));
        assert_true(corpus_hash(&first) != corpus_hash(&document));
    }
    // longer than what is hashed at once, different in one place near the end
    char *a = malloc(40001), *b = malloc(40001);
    for (int i = 0; i < 40000; i++) a[i] = b[i] = (char)('a' + i % 23);
    a[40000] = b[40000] = 0;
    struct document left = text_of(a), right = text_of(b);
    assert_int_equal(corpus_hash(&left), corpus_hash(&right));
    b[39000]++;
    assert_true(corpus_hash(&left) != corpus_hash(&right) && !corpus_equal(&left, &right));
    free(a);
    free(b);
}

// `count` words of a vocabulary of many; from `changed` on other ones.
static char *words(uint64_t seed, uint32_t count, uint32_t changed)
{
    struct bytes text = {0};
    for (uint32_t i = 0; i < count; i++)
        bytes_printf(&text, "w%llu ", (unsigned long long)rng_below(seed + (i >= changed), 9, i,
                                                                    1000000));
    return (char *)text.data;
}

static double index_of(const struct document *a, const struct document *b)
{
    uint64_t count[2], *set[2] = {corpus_shingles(a, &count[0]), corpus_shingles(b, &count[1])};
    const double index = corpus_jaccard(set[0], count[0], set[1], count[1]);
    free(set[0]);
    free(set[1]);
    return index;
}

static void the_jaccard_index_is_exact(void **state)
{
    (void)state;
    const struct document a = text_of("one two three four five six seven");
    const struct document same = text_of("One, two: three-four FIVE\nsix seven.");
    const struct document b = text_of("one two three four five six eight"); // 2 of 4 runs
    const struct document few = text_of("one two"), few_too = text_of("two one");
    assert_true(index_of(&a, &same) == 1 && index_of(&a, &b) == 0.5);
    assert_true(index_of(&few, &few) == 1 && index_of(&few, &few_too) == 0);
    assert_true(index_of(&a, &few) == 0);
    const struct document nothing = text_of("... --- ...");
    assert_true(index_of(&nothing, &nothing) == 0); // no words, so no near text
    static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5};
    const struct document left = {.start = ids, .count = 7, .width = 4};
    const struct document right = {.start = ids, .count = 12, .width = 4};
    unit_assert_near(index_of(&left, &right), 3.0 / 7, 1e-12); // 12345 comes twice
    for (double t = 0.3; t <= 1; t += 0.05) {
        const struct corpus_bands bands = corpus_bands(t);
        assert_true(bands.rows >= 1 && bands.bands * bands.rows <= CORPUS_HASHES);
        assert_true(pow(1 - pow(t, bands.rows), bands.bands) < 1e-3);
    }
}

// Pairs whose index is computed apart: exactly those at the threshold and above are found.
static void near_texts_are_found_from_the_threshold_on(void **state)
{
    (void)state;
    enum { PAIRS = 60, WORDS = 204 }; // 200 runs of five
    static const double thresholds[] = {0.5, 0.8, 0.95};
    for (size_t t = 0; t < COUNT_OF(thresholds); t++) {
        struct document document[2 * PAIRS];
        char *text[2 * PAIRS];
        for (uint32_t i = 0; i < PAIRS; i++) { // from equal down to an index of about 0.2
            text[2 * i] = words(100 * i, WORDS, WORDS);
            text[2 * i + 1] = words(100 * i, WORDS, WORDS - 2 * i);
            for (int j = 0; j < 2; j++) document[2 * i + j] = text_of(text[2 * i + j]);
        }
        struct corpus_seen *seen = corpus_seen_create(document, thresholds[t]);
        uint32_t near = 0;
        for (uint32_t i = 0; i < 2 * PAIRS; i++) {
            uint64_t of = 0;
            const enum corpus_twin twin = corpus_seen_add(seen, i, &of);
            if (i % 2 == 0 || index_of(&document[i - 1], &document[i]) < thresholds[t]) {
                assert_int_equal(twin, CORPUS_NEW);
                continue;
            }
            assert_int_equal(twin, i == 1 ? CORPUS_EXACT_TWIN : CORPUS_NEAR_TWIN);
            assert_int_equal(of, i - 1);
            near++;
        }
        assert_true(near >= 3 && near < PAIRS);
        corpus_seen_destroy(&seen);
        for (uint32_t i = 0; i < 2 * PAIRS; i++) free(text[i]);
    }
}

// What is scored makes another document; which is near to no other.
static void lessons_are_not_near(void **state)
{
    (void)state;
    uint16_t ids[100];
    uint8_t first[100] = {1}, second[100] = {0, 1};
    for (uint16_t i = 0; i < 100; i++) ids[i] = i;
    struct document document[5];
    for (int i = 0; i < 5; i++)
        document[i] = (struct document){.start = ids, .count = i == 3 ? 99 : 100, .width = 2};
    document[1].scored = document[3].scored = first;
    document[2].scored = second;
    struct corpus_seen *seen = corpus_seen_create(document, 0.5);
    uint64_t of;
    for (uint64_t i = 0; i < 4; i++) assert_int_equal(corpus_seen_add(seen, i, &of), CORPUS_NEW);
    assert_int_equal(corpus_seen_add(seen, 4, &of), CORPUS_EXACT_TWIN);
    assert_int_equal(of, 0);
    document[4].scored = second;
    assert_int_equal(corpus_seen_add(seen, 4, &of), CORPUS_EXACT_TWIN);
    assert_int_equal(of, 2);
    document[4] = document[0];
    document[4].count = 98; // without a mask it is near
    assert_int_equal(corpus_seen_add(seen, 4, &of), CORPUS_NEAR_TWIN);
    corpus_seen_destroy(&seen);
}

// Many documents: the tables grow, the first of each set of duplicates stays, in order.
static void the_first_of_many_stays(void **state)
{
    (void)state;
    enum { KINDS = 700, COUNT = 3 * KINDS };
    struct documents all = {.document = calloc(COUNT, sizeof *all.document), .count = COUNT};
    for (uint32_t i = 0; i < COUNT; i++) {
        char *text = words(10 * (i % KINDS), 60, i < 2 * KINDS ? 60 : 59); // 55 of 57 runs
        all.document[i] = text_of(text);
    }
    struct document *const before = malloc(COUNT * sizeof *before);
    memcpy(before, all.document, COUNT * sizeof *before);
    struct config_corpus rules = config_defaults.corpus;
    rules.dedup = CONFIG_DEDUP_NEAR;
    struct corpus_counts counts;
    assert_true(corpus_select(&all, &rules, &counts));
    assert_true(counts.by[CORPUS_SAME] == KINDS && counts.by[CORPUS_NEAR] == KINDS);
    assert_int_equal(all.count, KINDS);
    assert_memory_equal(all.document, before, KINDS * sizeof *before);
    memcpy(all.document, before, COUNT * sizeof *before);
    all.count = COUNT;
    rules.dedup = CONFIG_DEDUP_EXACT;
    assert_true(corpus_select(&all, &rules, &counts));
    assert_true(counts.by[CORPUS_SAME] == KINDS && counts.by[CORPUS_KEPT] == 2 * KINDS);
    for (uint32_t i = 0; i < COUNT; i++) free((void *)before[i].start);
    free(before);
    free(all.document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(weights_are_read_or_refused),
        UNIT(a_mix_is_exact),
        UNIT(sources_are_mixed_by_weight),
        UNIT(without_weights_nothing_is_mixed),
        UNIT(each_filter_has_its_reason),
        UNIT(what_was_dropped_is_said),
        UNIT(white_space_makes_no_other_text),
        UNIT(the_jaccard_index_is_exact),
        UNIT(near_texts_are_found_from_the_threshold_on),
        UNIT(lessons_are_not_near),
        UNIT(the_first_of_many_stays),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, drop_tokenizer);
}
