// SPDX-License-Identifier: MIT
// The linter of patterns: a good set has no finding, each kind of fault has its own and no other.
#include "tests/unit.h"

#include "src/fct_lint.h"

static struct arena *arena;
static struct { int count; char last[1024]; } told;

static int setup(void **state)
{
    arena = arena_create("fct");
    told.count = 0;
    return unit_setup(state);
}

static int teardown(void **state)
{
    arena_destroy(&arena);
    return unit_teardown(state);
}

static void keep(void *user, const struct fct_fault *f)
{
    (void)user;
    told.count++;
    snprintf(told.last, sizeof told.last, "%s:%llu: %s: found %s, wanted %s", f->file,
             (unsigned long long)f->line, f->field, f->found, f->wanted);
}

static struct fct_lint_report lint(const char *path)
{
    struct fct_lint_report report;
    told.count = 0;
    assert_true(fct_lint(&path, 1, arena, keep, NULL, &report));
    unit_assert_silent();
    assert_int_equal(report.findings, told.count);
    return report;
}

// The last word of number `i`: no two texts share a run of five words, or their beginning.
static void put_text(struct bytes *out, const char *field, unsigned i)
{
    bytes_printf(out, "\"%s\": \"%s%u", field, field, i);
    for (unsigned w = 0; w < 6; w++) bytes_printf(out, " %c%u%s", 'a' + w, i, field);
    bytes_printf(out, "\"");
}

// One pattern a line, `field` of line `at` (from 0) is `text` instead.
static const char *write_set(const char *name, const char *domain, unsigned count, unsigned at,
                             const char *field, const char *text)
{
    static const char *const payload[] = {"trigger", "prior_belief", "update", "analogy",
                                          "action_delta", "ripple"};
    struct bytes out = {0};
    for (unsigned i = 0; i < count; i++) {
        const bool here = field && i == at;
        for (size_t f = 0; f < COUNT_OF(payload); f++) {
            bytes_printf(&out, f ? ", " : "{");
            if (here && strcmp(field, payload[f]) == 0)
                bytes_printf(&out, "\"%s\": \"%s\"", field, text);
            else
                put_text(&out, payload[f], i + (unsigned)(uint8_t)name[0] * 1000);
        }
        bytes_printf(&out, ", \"pattern\": \"%s %c%u\"",
                     here && !strcmp(field, "pattern") ? text : "name", name[0], i);
        bytes_printf(&out, ", \"domain\": \"%s\"}\n",
                     here && !strcmp(field, "domain") ? text : domain);
    }
    const char *path = unit_write(name, out.data, out.count);
    bytes_free(&out);
    return path;
}

static void a_good_set_has_none(void **state)
{
    (void)state;
    write_set("alpha.jsonl", "alpha", 4, 0, NULL, NULL);
    write_set("beta.jsonl", "beta", 5, 0, NULL, NULL);
    const struct fct_lint_report r = lint(unit_folder);
    if (told.count) fail_msg("%s", told.last);
    assert_int_equal(r.patterns, 9);
    assert_int_equal(r.domains, 2);
    assert_string_equal(r.domain[1].name, "beta");
    assert_int_equal(r.domain[0].patterns, 4);
    assert_true(r.domain[0].bytes[FCT_UPDATE] > 4 * FCT_PAYLOAD_LEAST);
}

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct { const char *field, *text, *found, *wanted; } bad[] = {
    {"update", "a short text", "alpha.jsonl:2: update: found 12 bytes", "wanted 40 to 300"},
    {"update", HUNDRED HUNDRED HUNDRED "1", ":2: update: found 301 bytes", "wanted 40 to 300"},
    {"pattern", HUNDRED, ":2: pattern: found 103 bytes", "wanted 3 to 60"},
    {"trigger", "a line that is long enough for a payload\\nand its end",
     "control character (0x0a)", "one line"},
    {"trigger", "a line that is long enough for a payload ", ":2: trigger: found spaces",
     "one space"},
    {"trigger", "a line that is long  enough for a payload", ":2: trigger: found spaces",
     "one space"},
    {"domain", "gamma", ":2: domain: found \"gamma\"", "\"alpha\", the name of the file"},
    {"ripple", "a line that is [UPDATE] long enough for a payload",
     ":2: ripple: found the tag [UPDATE]", "no tag"},
    // those of line 1: its update word by word, with other marks; six and then nine of its words
    {"ripple", "Update97000: a97000update; B97000update c97000update d97000update, e97000update "
     "f97000update!", ":2: ripple: found the words of",
     "alpha.jsonl:1: update, wanted a text of its own"},
    {"ripple", "x update97000 a97000update b97000update c97000update d97000update y z",
     "found 33% of its runs of 5 words", NULL},
    {"ripple", "x update97000 a97000update b97000update c97000update d97000update e97000update z",
     ":2: ripple: found 66% of its runs of 5 words in", "alpha.jsonl:1: update, wanted below 50%"},
};

static void each_fault_has_its_finding(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        // two patterns: a domain of its own beside one would be out of balance, too
        lint(write_set("alpha.jsonl", "alpha", 2, 1, bad[i].field, bad[i].text));
        if (told.count != (bad[i].wanted ? 1 : 0)) fail_msg("%d: %s", told.count, told.last);
        if (!bad[i].wanted) continue;
        if (!strstr(told.last, bad[i].found) || !strstr(told.last, bad[i].wanted))
            fail_msg("%s", told.last);
    }
}

static void names_and_openings_are_own(void **state)
{
    (void)state;
    struct bytes two = {0};
    size_t size;
    char *text = unit_read(write_set("alpha.jsonl", "alpha", 1, 0, NULL, NULL), &size);
    bytes_append(&two, text, size);
    char *other = unit_read(write_set("alpha.jsonl", "alpha", 2, 0, NULL, NULL), &size), *line;
    line = strchr(other, '\n') + 1;
    memcpy(strstr(line, "name a1"), "NAME-a0", 7);
    bytes_append(&two, line, strlen(line));
    lint(unit_write("alpha.jsonl", two.data, two.count));
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.last, "alpha.jsonl:2: pattern: found the words of "));
    two.count = 0;
    for (unsigned i = 0; i < 4; i++) { // the fourth with one beginning
        free(other);
        char update[128];
        snprintf(update, sizeof update, "One two three, %u four%u five%u six%u seven%u eight%u", i,
                 i, i, i, i, i);
        other = unit_read(write_set("alpha.jsonl", "alpha", 4, i, "update", update), &size);
        line = other;
        for (unsigned k = 0; k < i; k++) line = strchr(line, '\n') + 1;
        bytes_append(&two, line, (size_t)(strchr(line, '\n') + 1 - line));
        lint(unit_write("alpha.jsonl", two.data, two.count));
        assert_int_equal(told.count, i == 3);
    }
    assert_non_null(strstr(told.last, "alpha.jsonl:4: update: found \"one two three\""));
    bytes_free(&two);
    free(text), free(other);
}

static void domains_are_balanced(void **state)
{
    (void)state;
    write_set("alpha.jsonl", "alpha", 3, 0, NULL, NULL);
    write_set("beta.jsonl", "beta", 4, 0, NULL, NULL);
    lint(unit_folder);
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.last, "alpha.jsonl:3: domain: found 3 patterns of alpha beside 4"));
}

// The reader's faults are findings, file by file; what is readable is looked at all the same.
static void unreadable_lines_are_findings(void **state)
{
    (void)state;
    struct fct_lint_report r;
    const char *path = unit_path("none.jsonl");
    lint(unit_write_text("alpha.jsonl", "{\"trigger\": 1}\nno\n\xff\n"));
    assert_int_equal(told.count, 10);
    assert_non_null(strstr(told.last, "alpha.jsonl:3: line: found invalid UTF-8"));
    assert_false(fct_lint(&path, 1, arena, keep, NULL, &r));
    unit_assert_line("none.jsonl", "no such file");
}

// assets/fct: 290 patterns in the fourteen domains, and nothing to find.
static void our_own_patterns_are_clean(void **state)
{
    (void)state;
    static const char *const domain[] = {
        "biology", "cognition", "complexity", "economics", "energy", "information", "language",
        "mathematics", "philosophy", "physics", "scale", "social", "systems", "time"};
    const struct fct_lint_report r = lint(UNIT_SOURCE_ROOT "/assets/fct");
    if (told.count) fail_msg("%s", told.last);
    assert_int_equal(r.patterns, 290);
    assert_int_equal(r.domains, COUNT_OF(domain));
    for (uint32_t i = 0; i < r.domains; i++) assert_string_equal(r.domain[i].name, domain[i]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_good_set_has_none), TEST(each_fault_has_its_finding),
        TEST(names_and_openings_are_own), TEST(domains_are_balanced),
        TEST(unreadable_lines_are_findings), TEST(our_own_patterns_are_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
