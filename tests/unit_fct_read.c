// SPDX-License-Identifier: MIT
// Patterns from lines: good ones of every form, and bad lines of every kind, each one clear line
// with its file and number.
#include "tests/unit.h"

#include "src/fct_read.h"

#define REST                                                                                  \
    "\"prior_belief\": \"p\", \"update\": \"u\", \"analogy\": \"a\", \"action_delta\": \"d\", "  \
    "\"ripple\": \"r\", \"pattern\": \"n\", \"domain\": \"m\""
#define GOOD "{\"trigger\": \"t\", " REST "}"

static struct arena *arena;

static int setup(void **state)
{
    arena = arena_create("fct");
    return unit_setup(state);
}

static int teardown(void **state)
{
    arena_destroy(&arena);
    return unit_teardown(state);
}

static const char *value(const struct fct_patterns *patterns, uint64_t i, enum fct_field field)
{
    assert_true(i < patterns->count);
    return patterns->pattern[i].field[field];
}

static void fields_are_read(void **state)
{
    (void)state;
    static const char text[] =
        "\n{\"domain\": \"m\", \"pattern\": \"n\", \"ripple\": [\"One.\", \"two\", \"three\"], "
        "\"action_delta\": [\"d [see 3] [A] [a]\"], \"analogy\": \"a\", "
        "\"update\": \"u\\u00e9\\n\", "
        "\"prior_belief\": \"p\", \"trigger\": \"t \xe2\x82\xac\"}\r\n  \n" GOOD;
    const char *path = unit_write_text("a.jsonl", text);
    struct fct_patterns patterns = {0};
    assert_true(fct_read(path, arena, &patterns));
    unit_assert_silent();
    assert_int_equal(patterns.count, 2);
    assert_string_equal(value(&patterns, 0, FCT_TRIGGER), "t \xe2\x82\xac");
    assert_string_equal(value(&patterns, 0, FCT_PRIOR_BELIEF), "p");
    assert_string_equal(value(&patterns, 0, FCT_UPDATE), "u\xc3\xa9\n");
    assert_string_equal(value(&patterns, 0, FCT_ANALOGY), "a");
    assert_string_equal(value(&patterns, 0, FCT_ACTION_DELTA), "d [see 3] [A] [a]");
    assert_string_equal(value(&patterns, 0, FCT_RIPPLE), "One. two; three");
    assert_string_equal(value(&patterns, 0, FCT_PATTERN), "n");
    assert_string_equal(value(&patterns, 0, FCT_DOMAIN), "m");
    assert_string_equal(patterns.pattern[0].file, path);
    assert_int_equal(patterns.pattern[0].line, 2);
    assert_int_equal(patterns.pattern[1].line, 4);
    assert_string_equal(value(&patterns, 1, FCT_TRIGGER), "t");
}

static void a_folder_is_its_files_by_name(void **state)
{
    (void)state;
    char line[512];
    static const char *const name[] = {"b.jsonl", "a.jsonl", ".c.jsonl", "d.json", "e.jsonl.tmp"};
    struct fct_patterns patterns = {0};
    assert_false(fct_read(unit_folder, arena, &patterns));
    unit_assert_line(unit_folder, "no .jsonl file");
    for (size_t i = 0; i < COUNT_OF(name); i++) {
        snprintf(line, sizeof line, "{\"trigger\": \"%s\", " REST "}\n", name[i]);
        unit_write_text(name[i], line);
    }
    assert_int_equal(mkdir(unit_path("f.jsonl"), 0777), 0);
    assert_true(fct_read(unit_folder, arena, &patterns));
    unit_assert_silent();
    assert_int_equal(patterns.count, 2);
    assert_string_equal(value(&patterns, 0, FCT_TRIGGER), "a.jsonl");
    assert_string_equal(value(&patterns, 1, FCT_TRIGGER), "b.jsonl");
    assert_true(fct_read(unit_path("a.jsonl"), arena, &patterns)); // appends
    assert_int_equal(patterns.count, 3);
    assert_false(fct_read(unit_path("none.jsonl"), arena, &patterns));
    unit_assert_line("none.jsonl", "no such file");
    assert_int_equal(patterns.count, 3);
}

static const struct { const char *line, *field, *wanted; } bad[] = {
    {"nonsense", "bad.jsonl:3: line: ", "found no JSON"},
    {"{\"trigger\": \"t\", " REST, ": line: ", "found no JSON"},
    {GOOD GOOD, ": line: ", "one object a line"},
    {"[" GOOD "]", ": line: ", "found a list"},
    {"\"text\"", ": line: ", "found a string"},
    {"7", ": line: ", "found a number"},
    {"null", ": line: ", "found null"},
    {"{\"trigger\": \"\\ud800\", " REST "}", ": line: ", "found no JSON"},
    {"{\"trigger\": \"\xff\", " REST "}", ": line: ", "invalid UTF-8 (byte 0xff at column 14)"},
    {"{\"trigger\": \"\xc0\xaf\", " REST "}", ": line: ", "invalid UTF-8 (byte 0xc0 at column 14)"},
    {"{\"trigger\": \"\xed\xa0\x80\", " REST "}", ": line: ", "invalid UTF-8"},
    {"{\"trigger\": \"a\\u0000b\", " REST "}", ": line: ", "a zero character"},
    {"{" REST "}", ": trigger: ", "found none, wanted one"},
    {"{\"trigger\": \"\", " REST "}", ": trigger: ", "an empty text"},
    {"{\"trigger\": \" \\t\", " REST "}", ": trigger: ", "only white space"},
    {"{\"trigger\": 3, " REST "}", ": trigger: ", "found a number, wanted a string"},
    {"{\"trigger\": null, " REST "}", ": trigger: ", "found null, wanted a string"},
    {"{\"trigger\": false, " REST "}", ": trigger: ", "found true or false, wanted a string"},
    {"{\"trigger\": [\"t\"], " REST "}", ": trigger: ", "found a list, wanted a string"},
    {"{\"trigger\": {}, " REST "}", ": trigger: ", "found an object, wanted a string"},
    {"{\"trigger\": \"a\", \"trigger\": \"b\", " REST "}", ": trigger: ", "it twice"},
    {"{\"trigger\": \"a\", \"note\": \"b\", " REST "}", ": note: ", "a field of this name"},
    {"{\"Trigger\": \"a\", " REST "}", ": Trigger: ", "a field of this name"},
    {"{\"trigger\": \"a [UPDATE] b\", " REST "}", ": trigger: ", "the tag [UPDATE]"},
    {"{\"trigger\": \"a[/ACT]\", " REST "}", ": trigger: ", "the tag [/ACT]"},
    {"{\"trigger\": \"[[a] [NEW_TAG2]\", " REST "}", ": trigger: ", "the tag [NEW_TAG2]"},
};

static const struct { const char *ripple, *field, *wanted; } bad_lists[] = {
    {"[]", ": ripple: ", "an empty list"},
    {"[1]", ": ripple: ", "found a number in the list, wanted strings"},
    {"[\"a\", [\"b\"]]", ": ripple: ", "found a list in the list"},
    {"[\"a\", null]", ": ripple: ", "found null in the list"},
    {"[\"a\", \"\"]", ": ripple: ", "an empty text"},
    {"[\"a\", \"[ACT]\"]", ": ripple: ", "the tag [ACT]"},
    {"{}", ": ripple: ", "found an object, wanted a string or a list of strings"},
};

static void assert_refused(const char *line, const char *field, const char *wanted)
{
    struct bytes text = {0};
    struct fct_patterns patterns = {0};
    bytes_printf(&text, "%s\n\n%s\n%s\n", GOOD, line, "more nonsense");
    assert_false(fct_read(unit_write("bad.jsonl", text.data, text.count), arena, &patterns));
    bytes_free(&text);
    assert_int_equal(patterns.count, 0);
    if (!strstr(unit_log.last, "bad.jsonl:3: ")) fail_msg("no place: %s", unit_log.last);
    unit_assert_line(field, wanted);
}

static void bad_lines_are_one_line(void **state)
{
    (void)state;
    char line[1024];
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_refused(bad[i].line, bad[i].field, bad[i].wanted);
    for (size_t i = 0; i < COUNT_OF(bad_lists); i++) {
        snprintf(line, sizeof line,
                 "{\"trigger\": \"t\", \"prior_belief\": \"p\", \"update\": \"u\", "
                 "\"analogy\": \"a\", \"action_delta\": \"d\", \"pattern\": \"n\", "
                 "\"domain\": \"m\", \"ripple\": %s}", bad_lists[i].ripple);
        assert_refused(line, bad_lists[i].field, bad_lists[i].wanted);
    }
}

static void a_long_line_is_refused_unread(void **state)
{
    (void)state;
    struct bytes text = {0};
    struct fct_patterns patterns = {0};
    for (size_t i = 0; i <= FCT_LINE_BYTES; i++) bytes_append(&text, "x", 1);
    assert_false(fct_read(unit_write("long.jsonl", text.data, text.count), arena, &patterns));
    unit_assert_line("long.jsonl:1: line: ", "found 65537 bytes, wanted at most 65536");
    text.data[4] = 0;
    assert_false(fct_read(unit_write("zero.jsonl", text.data, 20), arena, &patterns));
    unit_assert_line("zero.jsonl:1: line: ", "a zero character");
    bytes_free(&text);
    assert_false(fct_read(unit_write_text("empty.jsonl", ""), arena, &patterns));
    unit_assert_line("empty.jsonl:1: line: ", "found no pattern");
    assert_false(fct_read(unit_write_text("blank.jsonl", "\n \n"), arena, &patterns));
    unit_assert_line("blank.jsonl:2: line: ", "found no pattern");
}

static void count_fault(void *user, const struct fct_fault *fault)
{
    uint64_t *sum = user;
    sum[0]++;
    sum[1] += fault->line;
}

// A linter wants them all, and the good lines beside them.
static void all_faults_are_told(void **state)
{
    (void)state;
    static const char text[] = GOOD "\nno\n{}\n" GOOD "\n{\"trigger\": 1, \"x\": 2, " REST "}\n";
    struct fct_patterns patterns = {0};
    uint64_t sum[2] = {0};
    assert_false(fct_parse("x", text, sizeof text - 1, arena, count_fault, sum, &patterns));
    unit_assert_silent();
    assert_int_equal(patterns.count, 2);
    assert_int_equal(patterns.pattern[1].line, 4);
    assert_int_equal(sum[0], 1 + 8 + 2);
    assert_int_equal(sum[1], 2 + 8 * 3 + 2 * 5);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(fields_are_read), TEST(a_folder_is_its_files_by_name), TEST(bad_lines_are_one_line),
        TEST(a_long_line_is_refused_unread), TEST(all_faults_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
