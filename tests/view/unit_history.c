// SPDX-License-Identifier: MIT
// The reader behind the viewers: columns of metrics.jsonl, steps and picks of routing.trace, maps
// of load, files that grow, are cut, replaced, damaged or of another run.
#include "tests/view/planted.h"
#include "tools/view/history.h"

static struct history *open_here(void)
{
    struct history *h = history_open(unit_folder);
    assert_non_null(h);
    history_poll(h, 0);
    assert_true(history_complete(h));
    return h;
}

static void append(const char *name, const char *text)
{
    FILE *file = fopen(unit_path(name), "ab");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static double at(const struct history *h, const char *name, int layer, uint32_t row)
{
    const struct history_series *s = history_find(h, name, layer);
    if (!s) fail_msg("no series %s", name);
    return s->value[row];
}

// ---- metrics.jsonl

static void lines_become_columns(void **state)
{
    (void)state;
    unit_write_text("metrics.jsonl",
        "{\"step\": 1, \"loss\": 5.5, \"lr\": 1e-3, \"name\": \"a]b\\\"\", \"layers\": ["
        "{\"layer\": 2, \"load\": [1, 2, [3]], \"entropy\": 0.5, \"losses\": {\"balance\": 1.25},"
        " \"max_expert\": 3, \"together\": [[0, 1, 0.5]], \"alarm\": true},"
        "{\"layer\": 3, \"load\": [], \"entropy\": null}]}\n"
        "{\"step\": 1, \"eval_loss\": 5.25, \"bpb\": 7}\n"
        "{\"step\": 4, \"loss\": null, \"skipped\": true}\n");
    struct history *h = open_here();
    assert_int_equal(h->rows, 2);
    assert_true(h->first_step == 1 && h->last_step == 4);
    unit_assert_near(at(h, "loss", -1, 0), 5.5, 0);
    unit_assert_near(at(h, "bpb", -1, 0), 7, 0);
    unit_assert_near(at(h, "entropy", 2, 0), 0.5, 0);
    unit_assert_near(at(h, "losses.balance", 2, 0), 1.25, 0);
    unit_assert_near(at(h, "skipped", -1, 1), 1, 0);
    assert_true(isnan(at(h, "loss", -1, 1)) && isnan(at(h, "bpb", -1, 1)));
    assert_null(history_find(h, "entropy", 3));
    assert_int_equal(h->alarms, 1);
    assert_true(h->alarm[0].step == 1 && h->alarm[0].layer == 2 && h->alarm[0].expert == 3);
    assert_true(history_row(h, 0) == HISTORY_NONE && history_row(h, 3) == 0);
    assert_true(history_row(h, 4) == 1 && history_row(h, 99) == 1);
    history_close(&h);
    unit_assert_silent();
}

static void it_grows_is_torn_and_replaced(void **state)
{
    (void)state;
    unit_write_text("metrics.jsonl", "{\"step\": 1, \"loss\": 4}\n{\"step\": 2, \"lo");
    struct history *h = open_here();
    assert_int_equal(h->rows, 1);
    assert_false(history_poll(h, 0));
    append("metrics.jsonl", "ss\": 3}\n");
    const uint64_t version = h->version;
    assert_true(history_poll(h, 0));
    assert_true(h->version > version);
    assert_int_equal(h->rows, 2);
    unit_assert_near(at(h, "loss", -1, 1), 3, 0);
    // resumed: another file under the name, with fewer steps
    unit_write_text("next", "{\"step\": 1, \"loss\": 9}\n");
    char from[8192];
    snprintf(from, sizeof from, "%s", unit_path("next"));
    assert_int_equal(rename(from, unit_path("metrics.jsonl")), 0);
    assert_true(history_poll(h, 0));
    assert_int_equal(h->rows, 1);
    unit_assert_near(at(h, "loss", -1, 0), 9, 0);
    history_close(&h);
}

static void lines_that_make_no_sense_say_nothing(void **state)
{
    (void)state;
    unit_write_text("metrics.jsonl",
        "{\"step\": 1, \"loss\": 4}\n\n[]\nnonsense\n{\"loss\": 4}\n{\"step\": -1, \"loss\": 1}\n"
        "{\"step\": 1e99}\n{\"step\": 2, \"loss\": 1e, \"lr\": 3}\n{\"step\": 1, \"loss\": 5}\n"
        "{\"step\": 3, \"layers\": [{\"entropy\": 1}]}\n{\"step\": 4, \"loss\": 2}\n");
    struct history *h = open_here();
    unit_assert_near(at(h, "loss", -1, 0), 4, 0);
    unit_assert_near(at(h, "loss", -1, history_row(h, 4)), 2, 0);
    assert_int_equal(h->last_step, 4);
    history_close(&h);
    unit_assert_silent();
}

// ---- routing.trace

enum { EXPERTS = 6 };
static const float uneven[EXPERTS] = {12, 0, 3, 3, 3, 3}; // of 24: 3 times, 0, 0.75 ...

static struct trace_writer *write_trace(const struct config *c, uint32_t first, uint32_t last)
{
    struct trace_writer *w = trace_create(
        &(struct trace_params){.path = unit_path("routing.trace"), .config = c});
    assert_non_null(w);
    for (uint32_t step = first; step <= last; step++) planted_step(w, c, step, uneven);
    return w;
}

static void picks_and_tokens_come_back(void **state)
{
    (void)state;
    const struct config c = planted_config(2, EXPERTS, 2, 5);
    struct trace_writer *w = write_trace(&c, 1, 3);
    struct history *h = open_here();
    uint32_t picks[EXPERTS];
    assert_true(h->experts == EXPERTS && h->layers == 2 && h->steps == 3 && h->last_step == 3);
    assert_true(h->layer[1].number == 1 && h->layer[1].top_k == 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(history_counts(h, 2, i, picks));
        for (uint32_t e = 0; e < EXPERTS; e++) assert_int_equal(picks[e], uneven[e]);
    }
    assert_false(history_counts(h, 3, 0, picks));
    assert_false(history_counts(h, 0, 2, picks));
    struct history_tokens tokens;
    assert_true(history_tokens(h, 1, &tokens));
    assert_true(tokens.count == 5 && tokens.id[4] == 'e');
    assert_true(tokens.pick[1][4 * 2] == 4 && tokens.pick[1][4 * 2 + 1] == 5);
    planted_step(w, &c, 4, uneven);
    assert_true(history_poll(h, 0));
    assert_true(h->steps == 4 && history_traced(h, 9) == 3 && history_traced(h, 0) == HISTORY_NONE);
    trace_close(&w);
    history_close(&h);
    unit_assert_silent();
}

static void a_map_shows_means(void **state)
{
    (void)state;
    const struct config c = planted_config(1, EXPERTS, 1, 0);
    const float other[EXPERTS] = {0, 12, 3, 3, 3, 3};
    struct trace_writer *w = write_trace(&c, 1, 4);
    for (uint32_t step = 5; step <= 9; step++) planted_step(w, &c, step, other);
    trace_close(&w);
    struct history *h = open_here();
    struct history_map *map = history_map_create(h);
    // a column a step, a row an expert
    const struct history_view all = {0, 1, 9, 100, 100};
    assert_true(history_map_show(map, &all));
    assert_false(history_map_show(map, &all));
    assert_true(isnan(history_map_load(map, 0, 0)));
    while (!history_map_done(map)) history_map_work(map, 0.001);
    unit_assert_near(history_map_load(map, 0, 0), 3, 1e-6);
    unit_assert_near(history_map_load(map, 3, 1), 0, 0);
    unit_assert_near(history_map_idle(map, 3, 1), 1, 0);
    unit_assert_near(history_map_load(map, 4, 1), 3, 1e-6);
    unit_assert_near(history_map_load(map, 8, 5), 0.75, 1e-6);
    assert_true(isnan(history_map_load(map, 9, 0)) && isnan(history_map_load(map, 0, 6)));
    // steps 1-3, 4-6, 7-9; experts 0-1, 2-3, 4-5
    const struct history_view few = {0, 1, 9, 3, 3};
    assert_true(history_map_show(map, &few));
    history_map_work(map, 0);
    assert_true(history_map_done(map));
    for (uint32_t i = 0; i < 3; i++) {
        unit_assert_near(history_map_load(map, i, 0), 1.5, 1e-6);
        unit_assert_near(history_map_idle(map, i, 0), 0.5, 1e-6);
        unit_assert_near(history_map_load(map, i, 2), 0.75, 1e-6);
    }
    history_map_destroy(&map);
    history_close(&h);
}

static void steps_between_the_traced_show_the_one_before(void **state)
{
    (void)state;
    const struct config c = planted_config(1, EXPERTS, 1, 0);
    struct trace_writer *w = trace_create(
        &(struct trace_params){.path = unit_path("routing.trace"), .config = &c});
    planted_step(w, &c, 1, uneven);
    planted_step(w, &c, 10, uneven);
    trace_close(&w);
    struct history *h = open_here();
    struct history_map *map = history_map_create(h);
    history_map_show(map, &(struct history_view){0, 1, 10, 10, 6});
    history_map_work(map, 0);
    for (uint32_t column = 0; column < 10; column++)
        unit_assert_near(history_map_load(map, column, 0), 3, 1e-6);
    history_map_destroy(&map);
    history_close(&h);
}

// ---- what is wrong

static void what_is_no_run_is_named(void **state)
{
    (void)state;
    assert_null(history_open(unit_path("none")));
    unit_assert_line("none", "no such folder");
    assert_null(history_open(unit_folder));
    unit_assert_line(unit_folder, "no metrics.jsonl and no routing.trace");
    unit_write_text("routing.trace", ""); // of a run that has just begun
    struct history *h = open_here();
    assert_true(h->experts == 0 && h->steps == 0 && h->last_step == 0);
    history_close(&h);
    unit_assert_silent();
    unit_write_text("routing.trace", "vkmoetrc");
    assert_null(history_open(unit_folder));
    unit_assert_line("routing.trace", "not a routing trace");
}

static void a_trace_of_another_config_is_named(void **state)
{
    (void)state;
    const struct config c = planted_config(1, EXPERTS, 1, 0);
    struct trace_writer *w = write_trace(&c, 1, 1);
    trace_close(&w);
    char *text = unit_read(UNIT_SOURCE_ROOT "/assets/tiny.json", NULL); // 8 experts
    unit_write_text("config.json", text);
    free(text);
    assert_null(history_open(unit_folder));
    unit_assert_line("a trace of 6 experts", "config.json beside it has 8");
}

static void a_torn_trace_is_read_up_to_the_tear(void **state)
{
    (void)state;
    const struct config c = planted_config(2, EXPERTS, 2, 5);
    struct trace_writer *w = write_trace(&c, 1, 5);
    trace_close(&w);
    size_t bytes;
    char *whole = unit_read(unit_path("routing.trace"), &bytes);
    uint32_t picks[EXPERTS];
    for (size_t cut = bytes; cut > 48; cut -= 7) {
        unit_write("routing.trace", whole, cut);
        struct history *h = open_here();
        struct history_tokens tokens;
        for (uint32_t i = 0; i < h->steps; i++) {
            history_counts(h, i, 1, picks);
            history_tokens(h, i, &tokens);
        }
        if (h->steps > 1) assert_true(history_counts(h, h->steps - 2, 1, picks));
        history_close(&h);
    }
    unit_assert_silent();
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(lines_become_columns),
        UNIT(it_grows_is_torn_and_replaced),
        UNIT(lines_that_make_no_sense_say_nothing),
        UNIT(picks_and_tokens_come_back),
        UNIT(a_map_shows_means),
        UNIT(steps_between_the_traced_show_the_one_before),
        UNIT(what_is_no_run_is_named),
        UNIT(a_trace_of_another_config_is_named),
        UNIT(a_torn_trace_is_read_up_to_the_tear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
