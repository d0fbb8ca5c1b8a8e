// SPDX-License-Identifier: MIT
// Patterns -> sequences: one pattern's four, byte by byte, mask and all, with a byte-level and with
// a trained tokenizer; what is held out, by domain and by pattern; what controls and exchanges
// change and what they leave; domains as data of their own.
#include "tests/unit.h"

#include "src/fct_render.h"
#include "src/fct_source.h"
#include "src/stats_spread.h"
#include "src/tokenizer_train.h"

static const struct fct_pattern pattern = {
    .field = {[FCT_TRIGGER] = "a jam", [FCT_PRIOR_BELIEF] = "more lanes", [FCT_UPDATE] = "it fills",
              [FCT_ANALOGY] = "as a sink", [FCT_ACTION_DELTA] = "toll", [FCT_RIPPLE] = "homes move",
              [FCT_PATTERN] = "induced", [FCT_DOMAIN] = "systems"}};

static struct tokenizer *tagged(struct tokenizer *plain)
{
    assert_string_equal(fct_tag_missing(plain), "[OBSERVE]");
    struct tokenizer *t = tokenizer_extend(plain, fct_tags, FCT_TAG_TOKENS);
    assert_int_equal(tokenizer_count(t), tokenizer_count(plain) + 16);
    assert_null(fct_tag_missing(t));
    tokenizer_destroy(&plain);
    return t;
}

// The text of ids, tags too; what is scored between braces.
static void show(const struct tokenizer *t, const uint32_t *ids, const uint8_t *scored,
                 size_t count, struct bytes *out)
{
    for (size_t i = 0; i < count; i++) {
        const bool begins = scored[i] && (i == 0 || !scored[i - 1]);
        if (begins) bytes_append(out, "{", 1);
        if (tokenizer_is_special(t, ids[i])) {
            const char *text = tokenizer_id_text(t, ids[i]);
            bytes_append(out, text, strlen(text));
        } else {
            tokenizer_decode(t, &ids[i], 1, out);
        }
        if (scored[i] && (i + 1 == count || !scored[i + 1])) bytes_append(out, "}", 1);
    }
    bytes_append(out, "", 1);
}

static const char *const golden[FCT_TASKS] = {
    "[OBSERVE]a jam[/OBSERVE][PRIOR]more lanes[/PRIOR][UPDATE]{it fills}[/UPDATE]",
    "[OBSERVE]a jam[/OBSERVE][UPDATE]it fills[/UPDATE][RIPPLE]{homes move}[/RIPPLE]",
    "[PATTERN]induced[/PATTERN][DOMAIN]systems[/DOMAIN][OBSERVE]a jam[/OBSERVE]"
    "[ANALOGY]{as a sink}[/ANALOGY]",
    "[OBSERVE]a jam[/OBSERVE][UPDATE]it fills[/UPDATE][ACT]{toll}[/ACT]"};

static void assert_golden(const struct tokenizer *t)
{
    struct fct_sequence sequence = {0};
    for (enum fct_task task = 0; task < FCT_TASKS; task++) {
        struct bytes text = {0};
        assert_true(fct_render(t, &pattern, &pattern, task, &sequence));
        show(t, sequence.encoding.id, sequence.scored, sequence.encoding.count, &text);
        assert_string_equal((const char *)text.data, golden[task]);
        bytes_free(&text);
    }
    fct_sequence_free(&sequence);
}

static void one_pattern_byte_by_byte(void **state)
{
    (void)state;
    struct tokenizer *t = tagged(tokenizer_create_bytes());
    assert_golden(t);
    struct fct_sequence sequence = {0};
    assert_true(fct_render(t, &pattern, &pattern, FCT_TASK_ACT, &sequence));
    static const uint32_t ids[] = {259, 'a', ' ', 'j', 'a', 'm', 260, 263, 'i', 't', ' ', 'f', 'i',
                                   'l', 'l', 's', 264, 269, 't', 'o', 'l', 'l', 270};
    assert_int_equal(sequence.encoding.count, COUNT_OF(ids));
    assert_memory_equal(sequence.encoding.id, ids, sizeof ids);
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        assert_int_equal(sequence.scored[i], i >= 18 && i < 22);
    fct_sequence_free(&sequence);
    tokenizer_destroy(&t);
}

static void one_pattern_in_merged_bytes(void **state)
{
    (void)state;
    static const char text[] = "a jam, more lanes, it fills as a sink fills, toll homes move, it "
                               "fills, more lanes, a jam, homes move as a sink";
    struct tokenizer_trainer *trainer =
        tokenizer_trainer_create(&(struct tokenizer_training){.vocab_size = 275});
    assert_non_null(trainer);
    assert_true(tokenizer_trainer_add(trainer, text, sizeof text - 1));
    struct tokenizer_trained report;
    struct tokenizer *plain = tokenizer_trainer_finish(trainer, &report);
    assert_non_null(plain);
    assert_true(report.merges > 5);
    struct tokenizer *t = tagged(plain);
    assert_golden(t);
    struct fct_sequence sequence = {0};
    assert_true(fct_render(t, &pattern, &pattern, FCT_TASK_UPDATE, &sequence));
    assert_true(sequence.encoding.count < 23 + 6); // its 23 letters are fewer tokens
    fct_sequence_free(&sequence);
    tokenizer_trainer_destroy(&trainer);
    tokenizer_destroy(&t);
}

// ---- as data

enum { PATTERNS = 5 }; // of a domain

static void write_patterns(void)
{
    static const char *const domains[] = {"lore", "physics", "systems"};
    struct bytes text = {0};
    for (size_t d = 0; d < COUNT_OF(domains); d++)
        for (int i = 0; i < PATTERNS; i++)
            bytes_printf(&text,
                         "{\"trigger\": \"T%zu%d\", \"prior_belief\": \"P%zu%d\", \"update\": "
                         "\"U%zu%d\", \"analogy\": \"A%zu%d\", \"action_delta\": \"D%zu%d\", "
                         "\"ripple\": [\"R%zu%d.\"], \"pattern\": \"N%zu%d\", "
                         "\"domain\": \"%s\"}\n",
                         d, i, d, i, d, i, d, i, d, i, d, i, d, i, domains[d]);
    unit_write("patterns.jsonl", text.data, text.count);
    bytes_free(&text);
}

struct documents_of { struct documents all; struct tokenizer *tokenizer; };

static void collect(struct documents_of *own, enum config_fct_control control,
                    enum data_exchange exchange, double held_out, uint64_t seed)
{
    char path[8300];
    snprintf(path, sizeof path, "fct:%s", unit_path("patterns.jsonl"));
    const char *paths = path;
    own->tokenizer = tagged(tokenizer_create_bytes());
    const struct data_params params = {
        .path = &paths, .path_count = 1, .tokenizer = own->tokenizer, .vocab_size = 275,
        .seq_len = 64, .fct_control = control, .fct_exchange = exchange,
        .held_out_fraction = held_out, .seed = seed};
    assert_true(documents_collect(&own->all, &params));
    assert_int_equal(own->all.count, 3 * PATTERNS * FCT_TASKS);
}

static void drop(struct documents_of *own)
{
    documents_finish(&own->all);
    tokenizer_destroy(&own->tokenizer);
}

static void text_of(const struct documents_of *own, uint64_t index, struct bytes *out)
{
    const struct document *d = &own->all.document[index];
    uint32_t *ids = malloc(d->count * sizeof *ids);
    for (uint64_t i = 0; i < d->count; i++)
        ids[i] = d->width == 2 ? ((const uint16_t *)d->start)[i] : ((const uint32_t *)d->start)[i];
    out->count = 0;
    show(own->tokenizer, ids, d->scored, d->count, out);
    free(ids);
}

// The two digits behind "T" of "T01", or "{U" of "{U02}": domain and pattern.
static int number_behind(const char *text, const char *mark)
{
    const char *at = strstr(text, mark);
    assert_non_null(at);
    return (at[strlen(mark)] - '0') * 10 + at[strlen(mark) + 1] - '0';
}

static void held_out_by_pattern_and_domain(void **state)
{
    (void)state;
    struct documents_of own = {0};
    struct bytes text = {0};
    write_patterns();
    for (uint64_t seed = 0; seed < 8; seed++) {
        uint32_t held[3] = {0};
        collect(&own, CONFIG_FCT_AS_IT_IS, DATA_EXCHANGE_NONE, 0.4, seed);
        for (uint64_t i = 0; i < own.all.count; i++) {
            const uint8_t split = own.all.document[i].split;
            assert_int_equal(split, own.all.document[i - i % FCT_TASKS].split); // all four alike
            text_of(&own, i, &text);
            const int input = number_behind((const char *)text.data, "[OBSERVE]T");
            if (split == 1 + DATA_HELD_OUT) held[input / 10]++;
            // systems and physics come before a domain that ARCHE3 does not have
            assert_int_equal(input / 10, i < 20 ? 2 : i < 40 ? 1 : 0);
        }
        for (int d = 0; d < 3; d++) assert_int_equal(held[d], 2 * FCT_TASKS);
        drop(&own);
        own = (struct documents_of){0};
    }
    bytes_free(&text);
}

// Which pattern's payload stands behind which inputs, over all documents of a split.
static void pairs_of(const struct documents_of *own, uint8_t split, int *payload_of)
{
    static const char *const mark[] = {"{U", "{R", "{A", "{D"};
    struct bytes text = {0};
    for (uint64_t i = 0; i < own->all.count; i++) {
        if (own->all.document[i].split != split) continue;
        text_of(own, i, &text);
        const int input = number_behind((const char *)text.data, "[OBSERVE]T"),
                  payload = number_behind((const char *)text.data, mark[i % FCT_TASKS]);
        if (i % FCT_TASKS) assert_int_equal(payload_of[input], payload); // one for all tasks
        payload_of[input] = payload;
    }
    bytes_free(&text);
}

static void assert_permuted(const int *payload_of, uint32_t count, bool in_domain)
{
    uint32_t seen = 0, times[30] = {0};
    for (int i = 0; i < 30; i++) {
        if (payload_of[i] < 0) continue;
        assert_int_not_equal(payload_of[i], i);
        if (in_domain) assert_int_equal(payload_of[i] / 10, i / 10);
        times[payload_of[i]]++;
        seen++;
    }
    assert_int_equal(seen, count);
    for (int i = 0; i < 30; i++) assert_true(times[i] == (payload_of[i] >= 0));
}

static void assert_as_it_is(const int *payload_of)
{
    for (int i = 0; i < 30; i++) assert_true(payload_of[i] < 0 || payload_of[i] == i);
}

static void controls_change_one_split(void **state)
{
    (void)state;
    static const struct {
        enum config_fct_control control;
        enum data_exchange exchange;
        bool train, held_out, in_domain; // that are permuted
    } cases[] = {
        {CONFIG_FCT_AS_IT_IS, DATA_EXCHANGE_NONE, false, false, false},
        {CONFIG_FCT_SHUFFLE, DATA_EXCHANGE_NONE, true, false, true},
        {CONFIG_FCT_SHUFFLE_ALL, DATA_EXCHANGE_NONE, true, false, false},
        {CONFIG_FCT_AS_IT_IS, DATA_EXCHANGE_ALL, false, true, false},
        {CONFIG_FCT_AS_IT_IS, DATA_EXCHANGE_IN_DOMAIN, false, true, true},
    };
    write_patterns();
    for (size_t c = 0; c < COUNT_OF(cases); c++) {
        struct documents_of own = {0};
        int train[30], held_out[30];
        memset(train, 0xff, sizeof train);
        memset(held_out, 0xff, sizeof held_out);
        collect(&own, cases[c].control, cases[c].exchange, 0.4, 3);
        pairs_of(&own, 1 + DATA_TRAIN, train);
        pairs_of(&own, 1 + DATA_HELD_OUT, held_out);
        if (cases[c].train) assert_permuted(train, 9, cases[c].in_domain);
        else assert_as_it_is(train);
        if (cases[c].held_out) assert_permuted(held_out, 6, cases[c].in_domain);
        else assert_as_it_is(held_out);
        drop(&own);
    }
}

static void tags_keep_the_layout(void **state)
{
    (void)state;
    struct documents_of plain = {0}, control = {0};
    struct bytes a = {0}, b = {0};
    uint64_t other = 0, letters = 0;
    write_patterns();
    collect(&plain, CONFIG_FCT_AS_IT_IS, DATA_EXCHANGE_NONE, 0.4, 3);
    collect(&control, CONFIG_FCT_TAGS, DATA_EXCHANGE_NONE, 0.4, 3);
    for (uint64_t i = 0; i < plain.all.count; i++) {
        text_of(&plain, i, &a);
        text_of(&control, i, &b);
        assert_int_equal(a.count, b.count);
        if (plain.all.document[i].split == 1 + DATA_HELD_OUT) {
            assert_string_equal((const char *)a.data, (const char *)b.data);
            continue;
        }
        for (size_t k = 0, tag = 0; k < a.count; k++) {
            tag = a.data[k] == '[' ? 1 : a.data[k] == ']' ? 0 : tag;
            const bool free = !tag && strchr("TPUADRN0123456789", a.data[k]) && a.data[k];
            if (!free && !(a.data[k] >= 'a' && a.data[k] <= 'z'))
                assert_int_equal(a.data[k], b.data[k]); // tags, braces, the full stop
            letters += free;
            other += free && a.data[k] != b.data[k];
        }
    }
    assert_true(other > letters * 3 / 4);
    bytes_free(&a);
    bytes_free(&b);
    drop(&plain);
    drop(&control);
}

static void domains_are_data_of_their_own(void **state)
{
    (void)state;
    char path[8300];
    const char *paths = path;
    write_patterns();
    snprintf(path, sizeof path, "fct:%s", unit_path("patterns.jsonl"));
    struct tokenizer *t = tagged(tokenizer_create_bytes());
    struct data *all = data_open(&(struct data_params){
        .path = &paths, .path_count = 1, .tokenizer = t, .vocab_size = 275, .seq_len = 64,
        .held_out_fraction = 0.4, .seed = 3});
    assert_non_null(all);
    assert_int_equal(data_domain_count(all), 3);
    assert_string_equal(data_domain_name(all, 0), "systems");
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++) {
        uint64_t documents = 0, tokens = 0, scored = 0, bytes = 0;
        for (uint32_t d = 0; d < 3; d++) {
            struct data *own = data_of_domain(all, d);
            uint32_t inputs[64], targets[64], kinds[64], seen = 0;
            for (uint64_t w = 0; w < data_windows(own, split); w++) {
                data_window(own, split, w, inputs, targets);
                for (int i = 0; i < 64; i++) seen += targets[i] != DATA_MASKED;
                data_window_domains(own, split, w, kinds, NULL);
                for (int i = 0; i < 64; i++) assert_true(kinds[i] == d || kinds[i] == DATA_MASKED);
            }
            assert_int_equal(seen, data_scored(own, split)); // an epoch has each target once
            documents += data_documents(own, split);
            tokens += data_tokens(own, split);
            scored += data_scored(own, split);
            bytes += data_bytes(own, split);
            data_close(&own);
        }
        assert_int_equal(documents, data_documents(all, split));
        assert_int_equal(tokens, data_tokens(all, split));
        assert_int_equal(scored, data_scored(all, split));
        assert_int_equal(bytes, data_bytes(all, split));
    }
    data_close(&all);
    tokenizer_destroy(&t);
    unit_log.lines = 0;
}

static void spreads_are_students(void **state)
{
    (void)state;
    const double values[] = {1, 2, 6};
    const struct spread s = spread_of(values, 3), one = spread_of(values, 1);
    unit_assert_near(s.mean, 3, 1e-12);
    unit_assert_near(s.deviation, sqrt(7), 1e-12);
    unit_assert_near(s.half, 4.303 * sqrt(7.0 / 3), 1e-9);
    assert_true(isnan(one.half) && one.count == 1 && isnan(spread_of(values, 0).mean));
    double many[61] = {0};
    many[0] = 1; // t of 60 is 2.0003
    unit_assert_near(spread_of(many, 61).half / (spread_of(many, 61).deviation / sqrt(61)), 2.0003,
                     2e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(one_pattern_byte_by_byte), UNIT(one_pattern_in_merged_bytes),
        UNIT(held_out_by_pattern_and_domain), UNIT(controls_change_one_split),
        UNIT(tags_keep_the_layout), UNIT(domains_are_data_of_their_own),
        UNIT(spreads_are_students),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
