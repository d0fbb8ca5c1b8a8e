// SPDX-License-Identifier: MIT
// Readers of evaluation tasks: what each format becomes, what is refused with file and line;
// examples for --shots; when a generated answer is right; what scores say of chance.
#include "tests/unit.h"

#include "src/score_measure.h"

static struct task *parse_as(const char *text, enum task_format format)
{
    return task_parse("task.jsonl", text, strlen(text), format);
}

static struct task *parse(const char *text)
{
    struct task *task = parse_as(text, TASK_AUTO);
    if (!task) fail_msg("refused: %s", unit_log.last);
    return task;
}

static void assert_prompt(const struct task *task, uint64_t index, uint32_t shots, uint64_t seed,
                          const char *wanted)
{
    struct bytes out = {0};
    assert_true(task_prompt(task, index, shots, seed, &out));
    assert_string_equal((const char *)out.data, wanted);
    bytes_free(&out);
}

static void test_own(void **state)
{
    (void)state;
    struct task *t = parse("{\"good\": \"a\", \"bad\": \"b\", \"id\": \"x\", \"domain\": \"d\"}\n\n"
                           "{\"prompt\": \"p \", \"choices\": [\"q\", \"r\", \"s\"], \"answer\": "
                           "2}\r\n"
                           "{\"prompt\": \"p\", \"answer\": \"q\", \"stop\": [\"\\n\"], "
                           "\"max_tokens\": 5}\n"
                           "{\"prompt\": \"p\", \"regex\": \"^ *[0-9]+$\"}\n"
                           "{\"text\": \"t\\u00e9\"}");
    assert_int_equal(t->format, TASK_OWN);
    assert_int_equal(t->count, 5);
    const struct task_item *i = t->item;
    assert_true(i[0].kind == TASK_PAIRS && i[1].kind == TASK_CHOICE && i[2].kind == TASK_GENERATE &&
                i[3].match == TASK_REGEX && i[4].kind == TASK_TEXT);
    assert_string_equal(i[0].id, "x");
    assert_string_equal(i[0].choice[1], "b");
    assert_true(i[1].answer == 2 && i[1].line == 3 && i[1].choice_count == 3);
    assert_true(i[2].max_tokens == 5 && i[2].stop_count == 1);
    assert_string_equal(i[4].choice[0], "t\xc3\xa9");
    assert_prompt(t, 1, 0, 0, "p ");
    assert_true(task_matches(&i[2], " q\n", 3) && !task_matches(&i[2], "qq", 2));
    assert_true(task_matches(&i[3], " 12", 3) && !task_matches(&i[3], "a 12", 4));
    assert_int_equal(task_stop(&i[2], "ab\ncd\n", 6), 2);
    assert_int_equal(task_stop(&i[2], "ab", 2), 2);
    task_close(&t);
    unit_assert_silent();
}

static void test_mmlu(void **state)
{
    (void)state;
    static const char text[] = "What is 1, or 2?,0,1,2,3,B\r\n"
                               "\"Say \"\"a\"\"\nand b\",w,x,\"y, z\",\"\"\"\",D\n";
    struct task *t = task_parse("x.csv", text, sizeof text - 1, TASK_AUTO);
    assert_true(!t); // a question with a comma is quoted in these files
    unit_assert_line("x.csv:1:", "7 columns; wanted 6");
    static const char good[] = "\"What is 1, or 2?\",0,1,2,3,B\r\n"
                               "\"Say \"\"a\"\"\nand b\",w,x,\"y, z\",\"\"\"\",D\n";
    assert_non_null(t = task_parse("x.csv", good, sizeof good - 1, TASK_AUTO));
    assert_true(t->format == TASK_MMLU && t->count == 2);
    assert_true(t->item[0].answer == 1 && t->item[1].answer == 3 && t->item[1].line == 2);
    assert_prompt(t, 1, 0, 0, "The following are multiple choice questions (with answers).\n\n"
                              "Say \"a\"\nand b\nA. w\nB. x\nC. y, z\nD. \"\nAnswer:");
    assert_string_equal(t->item[0].choice[1], " B");
    task_close(&t);
    t = parse("{\"question\": \"q\", \"subject\": \"s\", \"choices\": [\"a\", \"b\"], \"answer\": "
        "1}");
    assert_prompt(t, 0, 0, 0, "The following are multiple choice questions (with answers) about "
                              "s.\n\nq\nA. a\nB. b\nAnswer:");
    task_close(&t);
}

static void test_others(void **state)
{
    (void)state;
    static const char *const arc[] = {
        "{\"id\": \"M_1\", \"question\": {\"stem\": \"why\", \"choices\": [{\"text\": \"a\", "
        "\"label\": "
        "\"1\"}, {\"text\": \"b\", \"label\": \"2\"}, {\"text\": \"c\", \"label\": \"3\"}]}, "
        "\"answerKey\": \"3\"}",
        "{\"id\": \"M_1\", \"question\": \"why\", \"choices\": {\"text\": [\"a\", \"b\", \"c\"], "
        "\"label\": [\"A\", \"B\", \"C\"]}, \"answerKey\": \"C\"}"};
    struct task *t;
    for (int i = 0; i < 2; i++) {
        t = parse(arc[i]);
        assert_true(t->format == TASK_ARC && t->item[0].answer == 2);
        assert_string_equal(t->item[0].choice[0], " a");
        assert_prompt(t, 0, 0, 0, "Question: why\nAnswer:");
        task_close(&t);
    }
    t = parse("{\"ind\": 24, \"activity_label\": \"Roof\", \"ctx\": \"[header] How [title] Go. "
        "he\", "
              "\"endings\": [\"is [substeps] up.\", \"b\"], \"label\": \"1\"}");
    assert_true(t->format == TASK_HELLASWAG && t->item[0].answer == 1);
    assert_prompt(t, 0, 0, 0, "Roof: How. Go. he");
    assert_string_equal(t->item[0].choice[0], " is up.");
    task_close(&t);
    t = parse("{\"question\": \"How many?\", \"answer\": \"2*600=<<2*600=1200>>1200\\n#### "
        "1,200\"}");
    const struct task_item *i = &t->item[0];
    assert_true(t->format == TASK_GSM8K && i->match == TASK_NUMBER);
    assert_prompt(t, 0, 0, 0, "Question: How many?\nAnswer:");
    static const struct { const char *text; bool right; } said[] = {
        {"so 1200.", true}, {"1,200 #### 7", false}, {"#### 1,200.00 and 3", true}, {"1200 of 3",
            false},
        {"", false}, {"$1200", true}, {"-1200", false}, {"####", false}};
    for (size_t k = 0; k < COUNT_OF(said); k++)
        if (task_matches(i, said[k].text, strlen(said[k].text)) != said[k].right)
            fail_msg("%s", said[k].text);
    task_close(&t);
    t = parse("{\"task_id\": \"HumanEval/0\", \"prompt\": \"def f():\\n\", "
        "\"canonical_solution\": \"x\", "
              "\"test\": \"y\", \"entry_point\": \"f\"}");
    assert_true(t->format == TASK_HUMANEVAL && t->item[0].match == TASK_SAMPLE);
    assert_int_equal(task_stop(&t->item[0], "    return 1\n\ndef g", 19), 13);
    task_close(&t);
    t = parse_as("no { JSON\n", TASK_PLAIN);
    assert_string_equal(t->item[0].choice[0], "no { JSON\n");
    task_close(&t);
}

// ---- what is refused

static void refuse(const char *text, const char *place, const char *why)
{
    struct task *t = parse_as(text, TASK_AUTO);
    if (t) fail_msg("taken: %s", text);
    unit_assert_line(place, why);
}

static void test_refused(void **state)
{
    (void)state;
#define GOOD "{\"good\": \"a\", \"bad\": \"b\"}\n"
    refuse(GOOD "{\"good\": \"a\"}", "task.jsonl:2:", "no \"bad\"");
    refuse(GOOD "{\"good\": \"a\", \"bad\": 3}", "task.jsonl:2:", "not a string: \"bad\"");
    refuse(GOOD "{\"good\": \"a\", \"bad\": \"\"}", "task.jsonl:2:", "\"bad\" is empty");
    refuse(GOOD "{}", "task.jsonl:2:", "no item");
    refuse(GOOD "[1]", "task.jsonl:2:", "not an object");
    refuse(GOOD "{\"good\": \"a\"", "task.jsonl:2:", "not JSON at byte 12");
    refuse(GOOD "{\"good\": \"a\", \"bad\": \"b\"} x", "task.jsonl:2:", "not JSON");
    refuse(GOOD "{\"good\": \"\\u0000a\", \"bad\": \"b\"}", "task.jsonl:2:", "zero character");
    refuse(GOOD "{\"good\": \"\xff\"}", "task.jsonl:2:", "no UTF-8 at byte 10");
    refuse(GOOD "{\"kind\": \"odd\"}", "task.jsonl:2:", "pairs, choice, generate or text");
    refuse("{\"prompt\": \"p\"}", "task.jsonl:1:", "no right answer");
    refuse("{\"prompt\": \"p\", \"answer\": \" \"}", "task.jsonl:1:", "no right answer");
    refuse("{\"prompt\": \"p\", \"answer\": \"a\", \"regex\": \"b\"}", "task.jsonl:1:",
           "no right answer");
    refuse("{\"prompt\": \"p\", \"regex\": \"(\"}", "task.jsonl:1:",
           "does not compile at character 1");
    refuse("{\"prompt\": \"p\", \"answer\": \"a\", \"stop\": \"x\"}", "task.jsonl:1:", "\"stop\"");
    refuse("{\"prompt\": \"p\", \"answer\": \"a\", \"max_tokens\": 0}", "task.jsonl:1:",
           "\"max_tokens\"");
    refuse("{\"choices\": [\"a\", \"b\"]}", "task.jsonl:1:", "no right answer: \"answer\" is not "
           "there");
    refuse("{\"choices\": [\"a\", \"b\"], \"answer\": 2}", "task.jsonl:1:",
           "out of range; wanted 0 to 1");
    refuse("{\"choices\": [\"a\", \"b\"], \"answer\": 0.5}", "task.jsonl:1:", "out of range");
    refuse("{\"choices\": [\"a\", \"b\"], \"answer\": -1}", "task.jsonl:1:", "out of range");
    refuse("{\"choices\": [\"a\", \"b\"], \"answer\": \"b\"}", "task.jsonl:1:", "no right answer");
    refuse("{\"choices\": [\"a\", \"\"], \"answer\": 0}", "task.jsonl:1:",
           "\"choices\"[1] is empty");
    refuse("{\"choices\": [\"a\", 2], \"answer\": 0}", "task.jsonl:1:",
           "\"choices\"[1] is not a string");
    refuse("{\"choices\": [\"a\"], \"answer\": 0}", "task.jsonl:1:", "wanted an array of 2 to 64");
    refuse("{\"endings\": [\"a\", \"b\"], \"ctx\": \"c\", \"label\": \"\"}", "task.jsonl:1:",
           "no right answer");
    refuse("{\"question\": \"q\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", "
           "\"B\"]}, "
           "\"answerKey\": \"D\"}", "task.jsonl:1:", "no choice's label");
    refuse("{\"question\": \"q\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", "
           "\"B\", \"C\"]}, "
           "\"answerKey\": \"C\"}", "task.jsonl:1:", "more entries");
    refuse("{\"question\": \"q\", \"answer\": \"12\"}", "task.jsonl:1:", "#### and a number");
    refuse("{\"question\": {\"stem\": \"q\", \"choices\": [{\"text\": \"a\"}, {\"label\": "
           "\"B\"}]}, "
           "\"answerKey\": \"A\"}", "task.jsonl:1:", "not a string");
    refuse("", "task.jsonl:", "empty");
    refuse(" \n\n", "task.jsonl:", "empty");
    refuse("PAR1....", "task.jsonl:", "parquet is not read");
    refuse("\x1f\x8b....", "task.jsonl:", "gunzip");
    refuse("hello", "task.jsonl:", "neither lines of JSON objects nor .csv");
    refuse("{\"good\": \"a\", \"bad\": \"b\", \"dev\": true}", "task.jsonl:", "nothing to score");
    static const struct { const char *text, *place, *why; } csv[] = {
        {"q,a,b,c,d,A\nq,a,b,c,A\n", ":2:", "5 columns"},
        {"q,a,b,c,d,E\n", ":1:", "the last column is \"E\""},
        {"question,A,B,C,D,answer\n", ":1:", "the last column is \"answer\""},
        {"q,a,,c,d,A\n", ":1:", "column 3 is empty"},
        {"\"q\nq,a,b,c,d,A\n", ":1:", "a quote that nothing closes"},
        {"\"q\" x,a,b,c,d,A\n", ":1:", "behind the closing quote"},
        {"q\xff,a,b,c,d,A\n", ":1:", "no UTF-8"},
    };
    for (size_t i = 0; i < COUNT_OF(csv); i++) {
        assert_null(task_parse("m.csv", csv[i].text, strlen(csv[i].text), TASK_AUTO));
        unit_assert_line(csv[i].place, csv[i].why);
    }
}

static void test_huge(void **state)
{
    (void)state;
    char *text = malloc(TASK_MOST_LINE + 100);
    memset(text, 'a', TASK_MOST_LINE + 100);
    memcpy(text, GOOD, sizeof GOOD - 1);
    memcpy(text + sizeof GOOD - 1, "{\"text\": \"", 10);
    assert_null(task_parse("t", text, TASK_MOST_LINE + 100, TASK_AUTO));
    unit_assert_line("t:2:", "at most 16777216 are read");
    free(text);
}

// ---- files and examples

static const char *put(const char *name, const char *text)
{
    char folder[64];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(name, '/') - name), name);
    mkdir(unit_path("mmlu"), 0777);
    mkdir(unit_path(folder), 0777);
    return unit_write_text(name, text);
}

static void test_folder(void **state)
{
    (void)state;
    put("mmlu/test/high_school_physics_test.csv", "q1,a,b,c,d,A\nq2,a,b,c,d,B\n");
    put("mmlu/test/anatomy_test.csv", "q3,a,b,c,d,C\n");
    put("mmlu/dev/high_school_physics_dev.csv", "s1,a,b,c,d,A\ns2,a,b,c,d,B\ns3,a,b,c,d,C\n");
    put("mmlu/dev/anatomy_dev.csv", "s4,a,b,c,d,D\n");
    struct task_params params = {.path = unit_path("mmlu"), .shots = 1};
    struct task *t = task_open(&params);
    assert_true(t && t->count == 3 && t->dev_count == 4);
    assert_string_equal(t->item[0].domain, "anatomy");
    assert_prompt(t, 0, 1, 0, "The following are multiple choice questions (with answers) about "
                  "anatomy.\n\ns4\nA. a\nB. b\nC. c\nD. d\nAnswer: D\n\nq3\nA. a\nB. b\nC. c\nD. "
                  "d\nAnswer:");
    struct bytes out = {0}, again = {0};
    assert_true(task_prompt(t, 1, 3, 7, &out) && task_prompt(t, 1, 3, 7, &again));
    assert_string_equal((char *)out.data, (char *)again.data);
    assert_non_null(strstr((char *)out.data, "about high school physics.\n\n"));
    for (int i = 1; i <= 3; i++)
        assert_non_null(strstr((char *)out.data, i == 1 ? "s1\n" : i == 2 ? "s2\n" : "s3\n"));
    assert_null(strstr((char *)out.data, "s4\n"));
    unit_assert_silent();
    assert_false(task_prompt(t, 0, 2, 0, &out));
    unit_assert_line("anatomy_test.csv:1:", "--shots 2: found 1 examples");
    bytes_free(&out), bytes_free(&again);
    const uint64_t whole = t->fingerprint;
    task_close(&t);
    // one file of it finds its examples too; fewer items are another task
    params.path = unit_path("mmlu/test/high_school_physics_test.csv");
    assert_non_null(t = task_open(&params));
    assert_true(t->dev_count == 3 && t->fingerprint != whole);
    const uint64_t one = t->fingerprint;
    task_close(&t);
    params.limit = 1;
    assert_non_null(t = task_open(&params));
    assert_true(t->count == 1 && t->fingerprint != one);
    task_close(&t);
    params = (struct task_params){.path = put("mmlu/x/own.jsonl", GOOD), .shots = 1};
    assert_null(task_open(&params));
    unit_assert_line("own.jsonl", "name their file with --dev");
    params.path = unit_path("mmlu/none.jsonl");
    assert_null(task_open(&params));
    unit_assert_line("none.jsonl", "no such file");
    params.path = unit_path("mmlu"), params.shots = 0, params.format = TASK_OWN;
    assert_null(task_open(&params));
    unit_assert_line("anatomy_test.csv:1:", "not JSON");
}

static void test_shots_beside(void **state)
{
    (void)state;
    put("mmlu/gsm/test.jsonl", "{\"question\": \"q\", \"answer\": \"x #### 3\"}\n");
    put("mmlu/gsm/train.jsonl", "{\"question\": \"a\", \"answer\": \"b #### 4\"}\n");
    struct task *t = task_open(&(struct task_params){.path = unit_path("mmlu/gsm/test.jsonl"),
        .shots = 1});
    assert_non_null(t);
    assert_prompt(t, 0, 1, 0, "Question: a\nAnswer: b #### 4\n\nQuestion: q\nAnswer:");
    task_close(&t);
    put("mmlu/own/t.jsonl", "{\"prompt\": \"1+1=\", \"answer\": \"2\", \"dev\": true}\n"
                            "{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n");
    assert_non_null(t = task_open(&(struct task_params){.path = unit_path("mmlu/own/t.jsonl"),
        .shots = 1}));
    assert_prompt(t, 0, 1, 0, "1+1=2\n\n1+2=");
    task_close(&t);
}

// ---- scores

// Pairs of which `right` of `count` are right.
static struct score_metric score_pairs(uint32_t right, uint32_t count, char verdict[80])
{
    struct bytes text = {0};
    for (uint32_t i = 0; i < count; i++) bytes_printf(&text, "%s", GOOD);
    struct task *t = parse((const char *)text.data);
    struct score_answer *a = score_answers_create(t);
    for (uint32_t i = 0; i < count; i++) {
        a[i].done = true;
        a[i].tokens[0] = 1, a[i].tokens[1] = 4; // by the mean, not by the sum
        a[i].logp[0] = -2, a[i].logp[1] = i < right ? -9 : -7;
    }
    const struct score_metric m = score_measure(t, a, MEASURE_PAIRS, NULL, 300);
    score_verdict(&m, MEASURE_PAIRS, verdict);
    score_answers_destroy(&a, t);
    task_close(&t);
    bytes_free(&text);
    return m;
}

static void test_chance(void **state)
{
    (void)state;
    char verdict[80];
    struct score_metric m = score_pairs(9, 20, verdict);
    assert_string_equal(verdict, "not distinguishable from chance (p = 0.82)");
    unit_assert_near(m.value, 0.45, 1e-12);
    unit_assert_near(m.interval.low, 0.2581978582556242, 1e-12);
    assert_true(m.chance == 0.5 && m.right == 9 && m.count == 20);
    score_pairs(3, 6, verdict);
    assert_string_equal(verdict, "not distinguishable from chance (p = 1.00)");
    score_pairs(16, 20, verdict);
    assert_string_equal(verdict, "above chance (p = 0.0118)");
    score_pairs(4, 20, verdict);
    assert_string_equal(verdict, "below chance (p = 0.0118)");
    score_pairs(60, 60, verdict);
    assert_string_equal(verdict, "above chance (p < 0.0001)");
}

static void test_choices(void **state)
{
    (void)state;
    struct task *t = parse("{\"choices\": [\" aaaa\", \"b\"], \"answer\": 0}\n"
                           "{\"choices\": [\"aa\", \"bb\", \"cc\"], \"answer\": 2, \"domain\": "
                           "\"d\"}\n");
    struct score_answer *a = score_answers_create(t);
    a[0].logp[0] = -4, a[0].logp[1] = -2; // a byte: -1 (its space is not counted), -2
    a[1].logp[0] = a[1].logp[2] = -3, a[1].logp[1] = -5;
    a[0].done = a[1].done = true;
    assert_true(score_picked(&t->item[0], &a[0], MEASURE_SUM) == 1 &&
                score_picked(&t->item[0], &a[0], MEASURE_BYTES) == 0);
    struct score_metric m = score_measure(t, a, MEASURE_SUM, NULL, 300);
    assert_true(m.right == 0 && m.count == 2 && m.mixed && m.ties == 1);
    unit_assert_near(m.chance, (1 / 2.0 + 1 / 3.0) / 2, 1e-15);
    unit_assert_near(m.p, 0.5, 1e-12);
    m = score_measure(t, a, MEASURE_BYTES, NULL, 300);
    assert_int_equal(m.right, 1);
    m = score_measure(t, a, MEASURE_SUM, "d", 300);
    assert_true(m.count == 1 && !m.mixed);
    a[0].logp[0] = NAN;
    assert_false(score_right(&t->item[0], &a[0], MEASURE_BYTES));
    score_answers_destroy(&a, t);
    task_close(&t);
}

static void test_compare(void **state)
{
    (void)state;
    struct bytes text = {0};
    for (uint32_t i = 0; i < 30; i++) bytes_printf(&text, "%s", GOOD);
    struct task *t = parse((const char *)text.data);
    struct score_answer *a = score_answers_create(t), *b = score_answers_create(t);
    for (uint32_t i = 0; i < 30; i++) {
        a[i].done = b[i].done = true;
        for (int k = 0; k < 2; k++) a[i].tokens[k] = b[i].tokens[k] = 1;
        a[i].logp[1] = b[i].logp[1] = -5;
        a[i].logp[0] = i < 10 ? -4 : -6, b[i].logp[0] = i < 2 ? -6 : i < 18 ? -4 : -6;
    }
    const struct score_difference d = score_compare(t, a, b, MEASURE_PAIRS, 1);
    assert_true(d.count == 30 && d.only_a == 2 && d.only_b == 8);
    unit_assert_near(d.p, 0.109375, 1e-12);
    unit_assert_near(d.margin.value, (8 * 2 - 2 * 2) / 30.0, 1e-12);
    assert_true(d.margin.interval.low < d.margin.value && d.margin.interval.high > d.margin.value);
    score_answers_destroy(&a, t), score_answers_destroy(&b, t);
    task_close(&t);
    bytes_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(test_own), UNIT(test_mmlu), UNIT(test_others), UNIT(test_refused), UNIT(test_huge),
        UNIT(test_folder), UNIT(test_shots_beside), UNIT(test_chance), UNIT(test_choices),
            UNIT(test_compare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
