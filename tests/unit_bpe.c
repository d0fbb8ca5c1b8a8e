// SPDX-License-Identifier: MIT
// Byte pairs: what the package `tokenizers` 0.23 makes of tests/golden/mixed.txt (27 scripts, code,
// emoji, marks, spaces of all kinds) is kept in tokenizers.golden.json, ids, offsets and the merges
// that its trainer finds; tools/compare_tokenizers.py wrote both. GPT-2's and Mistral's own files
// are no part of this repository: VKMOE_DATA or ../shared/data has them, or they are skipped.
#include "tests/unit.h"

#include <cjson/cJSON.h>

#include "src/tokenizer.h"
#include "src/tokenizer_train.h"

static char  *mixed;
static size_t mixed_bytes;
static cJSON *golden;

static int open_golden(void **state)
{
    (void)state;
    mixed = unit_read(UNIT_SOURCE_ROOT "/tests/golden/mixed.txt", &mixed_bytes);
    char *text = unit_read(UNIT_SOURCE_ROOT "/tests/golden/tokenizers.golden.json", NULL);
    golden = cJSON_Parse(text);
    free(text);
    return golden ? 0 : -1;
}

static int close_golden(void **state)
{
    (void)state;
    free(mixed);
    cJSON_Delete(golden);
    return 0;
}

static uint64_t fnv(uint64_t hash, uint32_t number)
{
    for (int i = 0; i < 4; i++) hash = (hash ^ (number >> 8 * i & 255)) * 0x100000001b3u;
    return hash;
}

static void assert_hash(const char *name, const char *what, uint64_t hash)
{
    char found[20];
    const cJSON *wanted = cJSON_GetObjectItem(cJSON_GetObjectItem(golden, name), what);
    snprintf(found, sizeof found, "%016llx", (unsigned long long)hash);
    if (!wanted || strcmp(found, wanted->valuestring) != 0)
        fail_msg("%s: %s: %s, wanted %s", name, what, found, wanted ? wanted->valuestring : "?");
}

// Ids and offsets, which the package gives in characters.
static void assert_golden(const struct tokenizer *t, const char *name, unsigned flags)
{
    struct encoding e = {.with_spans = true};
    uint32_t *place = calloc(mixed_bytes + 1, sizeof *place), characters = 0;
    for (size_t i = 0; i < mixed_bytes; i++) {
        characters += i > 0 && (mixed[i] & 0xc0) != 0x80;
        place[i] = characters;
    }
    place[mixed_bytes] = characters + 1;
    assert_true(tokenizer_encode(t, mixed, mixed_bytes, flags | TOKENIZER_SPECIAL, &e));
    uint64_t ids = 0xcbf29ce484222325u, offsets = ids;
    for (size_t i = 0; i < e.count; i++) {
        const uint64_t begin = e.span[i].begin, end = e.span[i].end;
        ids = fnv(ids, e.id[i]);
        offsets = fnv(fnv(offsets, place[begin]), end > begin ? place[end - 1] + 1 : place[end]);
    }
    assert_hash(name, "ids", ids);
    assert_hash(name, "offsets", offsets);
    free(place);
    encoding_free(&e);
}

// An expression by its name, or by its text; the vocabulary of mixed.txt.
static struct tokenizer *train(const char *expression, uint32_t ids)
{
    struct tokenizer_trained report;
    struct tokenizer_trainer *trainer = tokenizer_trainer_create(
        &(struct tokenizer_training){.vocab_size = ids, .expression = expression});
    assert_non_null(trainer);
    assert_true(tokenizer_trainer_add(trainer, mixed, mixed_bytes));
    struct tokenizer *t = tokenizer_trainer_finish(trainer, &report);
    tokenizer_trainer_destroy(&trainer);
    assert_non_null(t);
    assert_int_equal(report.bytes, mixed_bytes);
    return t;
}

static void training_gives_the_merges_of_the_package(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "llama3", "qwen2"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct tokenizer *t = train(names[i], 1003), *again = train(names[i], 1003);
        assert_int_equal(tokenizer_count(t), 1003);
        assert_true(tokenizer_fingerprint(t) == tokenizer_fingerprint(again));
        assert_true(tokenizer_save(t, unit_path("own.json")));
        char *text = unit_read(unit_path("own.json"), NULL);
        cJSON *root = cJSON_Parse(text);
        const cJSON *merge, *merges = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "model"),
                                                          "merges");
        uint64_t hash = 0xcbf29ce484222325u;
        cJSON_ArrayForEach(merge, merges)
            for (int part = 0; part < 2; part++)
                hash = fnv(hash, tokenizer_id(t, cJSON_GetArrayItem(merge, part)->valuestring));
        assert_hash(names[i], "merges", hash);
        assert_golden(t, names[i], 0);
        cJSON_Delete(root);
        free(text);
        tokenizer_destroy(&t);
        tokenizer_destroy(&again);
    }
    unit_assert_silent();
}

static void assert_comes_back(const struct tokenizer *t, const char *text, size_t bytes)
{
    struct encoding e = {.with_spans = true};
    struct bytes back = {0};
    assert_true(tokenizer_encode(t, text, bytes, 0, &e));
    tokenizer_decode_whole(t, e.id, e.count, &back);
    assert_int_equal(back.count, bytes);
    if (bytes) assert_memory_equal(back.data, text, bytes);
    uint64_t at = 0, sum = 0;
    for (size_t i = 0; i < e.count; i++) { // byte-level tokens lie side by side
        assert_int_equal(e.span[i].begin, at);
        at = e.span[i].end;
        sum += tokenizer_id_bytes(t, e.id[i]);
    }
    assert_int_equal(at, bytes);
    assert_int_equal(sum, bytes);
    bytes_free(&back);
    encoding_free(&e);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    struct tokenizer *t = train("llama3", 700);
    char text[4096];
    assert_comes_back(t, "", 0);
    assert_comes_back(t, mixed, mixed_bytes);
    for (uint64_t stream = 0; stream < 300; stream++) {
        const size_t bytes = rng_below(1, stream, 0, sizeof text);
        for (size_t i = 0; i < bytes; i++) {
            const uint64_t any = rng_below(2, stream, i, 512);
            text[i] = any < 256 ? (char)any : mixed[rng_below(3, stream, i, mixed_bytes)];
        }
        assert_comes_back(t, text, bytes);
    }
    tokenizer_destroy(&t);
    unit_assert_silent();
}

// In a group the expression is not known by name, so all of it goes through PCRE2.
static void the_scanners_cut_as_the_expressions_do(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "llama3", "qwen2"};
    static const char *const parts[] = {
        "a", "Z", "'", "'s", "'LL", "'re", "'T", "'\xc5\xbf", " ", "  ", "\n", "\r\n", "\t",
        "\x0b", "\x1c", "0", "12", "3456", ".", "(", "\xc3\xa9", "\xe4\xb8\x80",
        "\xc2\xa0", "\xe3\x80\x80", "\xd9\xa3", "\xcc\x81", "\xff", "\xe2\x82", "\x7f", "_", "word",
        "\xc2\x85", "\xe2\x80\xa8"};
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        char wrapped[512];
        snprintf(wrapped, sizeof wrapped, "(?:%s)", tokenizer_expression(names[n]));
        struct tokenizer *scanned = train(names[n], 900), *matched = train(wrapped, 900);
        for (uint64_t stream = 0; stream < 3000; stream++) {
            struct bytes text = {0};
            struct encoding a = {0}, b = {0};
            for (uint64_t i = rng_below(4, stream, 0, 12); i > 0; i--)
                bytes_printf(&text, "%s", parts[rng_below(5, stream, i, COUNT_OF(parts))]);
            const char *from = text.data ? (const char *)text.data : "";
            assert_true(tokenizer_encode(scanned, from, text.count, 0, &a));
            assert_true(tokenizer_encode(matched, from, text.count, 0, &b));
            assert_int_equal(a.count, b.count);
            for (size_t i = 0; i < a.count; i++) assert_int_equal(a.id[i], b.id[i]);
            bytes_free(&text);
            encoding_free(&a);
            encoding_free(&b);
        }
        tokenizer_destroy(&scanned);
        tokenizer_destroy(&matched);
    }
    unit_assert_silent();
}

// One word of a megabyte: the heap takes over from the array, and both give the same.
static void a_long_word_is_no_trouble(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    struct tokenizer *t = train("llama3", 1003);
    char *text = malloc(LONG);
    for (size_t i = 0; i < LONG; i++) text[i] = "abcdefgh"[rng_below(6, 0, i, 8)];
    assert_comes_back(t, text, LONG);
    for (size_t bytes = 90; bytes < 104; bytes++) { // around the length where the way changes
        struct encoding one = {0}, two = {0};
        assert_true(tokenizer_encode(t, text, bytes, 0, &one));
        memset(text + LONG / 2, '!', 1);
        assert_comes_back(t, text, bytes);
        assert_true(tokenizer_encode(t, text, bytes, 0, &two)); // now from the table
        assert_int_equal(one.count, two.count);
        assert_memory_equal(one.id, two.id, one.count * sizeof *one.id);
        encoding_free(&one);
        encoding_free(&two);
    }
    free(text);
    tokenizer_destroy(&t);
    unit_assert_silent();
}

static void vocabularies_are_as_large_as_the_text_allows(void **state)
{
    (void)state;
    struct tokenizer_trained report;
    const struct tokenizer_training small = {.vocab_size = 258}, odd = {.vocab_size = 300,
                                                                      .expression = "\\b"};
    assert_null(tokenizer_trainer_create(&small));
    unit_assert_line("vocab: found 258", "259");
    assert_null(tokenizer_trainer_create(&odd));
    unit_assert_line("pattern", "\\b");
    struct tokenizer_trainer *trainer = tokenizer_trainer_create(
        &(struct tokenizer_training){.vocab_size = 5000});
    assert_true(tokenizer_trainer_add(trainer, "banana banana", 13));
    struct tokenizer *t = tokenizer_trainer_finish(trainer, &report);
    assert_int_equal(report.words, 2);
    assert_int_equal(report.unique, 2);
    // an (4), ban (2), banan (2), banana (2): then no pair is there twice
    assert_int_equal(report.merges, 4);
    assert_int_equal(tokenizer_count(t), 256 + 4 + 3);
    assert_int_equal(tokenizer_eot(t), 260);
    tokenizer_trainer_destroy(&trainer);
    tokenizer_destroy(&t);
}

// ---- files that are not ours

static const char *shared(const char *name)
{
    static char path[4096];
    const char *folder = getenv("VKMOE_DATA");
    if (!folder) folder = UNIT_SOURCE_ROOT "/../shared/data";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void mistral_is_encoded_as_the_package_does(void **state)
{
    (void)state;
    const char *path = shared("mistral-tokenizer/tokenizer.json");
    if (access(path, R_OK) != 0) skip();
    struct tokenizer *t = tokenizer_load(path);
    assert_non_null(t);
    assert_golden(t, "mistral", TOKENIZER_TEMPLATE);
    assert_string_equal(tokenizer_id_text(t, tokenizer_eot(t)), "</s>");
    tokenizer_destroy(&t);
    unit_assert_silent();
}

// GPT-2's file in one piece: its vocabulary, and its merges as lines behind a first one.
static char *gpt2_file(void)
{
    char *vocab = unit_read(shared("gpt2-tokenizer/vocab.json"), NULL);
    char *merges = unit_read(shared("gpt2-tokenizer/merges.txt"), NULL), *line = merges;
    cJSON *root = cJSON_Parse("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": "
                              "false}, \"decoder\": {\"type\": \"ByteLevel\"}, \"added_tokens\": ["
                              "{\"id\": 50256, \"content\": \"<|endoftext|>\", \"special\": "
                              "true}]}");
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddItemToObject(model, "vocab", cJSON_Parse(vocab));
    cJSON *list = cJSON_AddArrayToObject(model, "merges");
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        if (*line && *line != '#') cJSON_AddItemToArray(list, cJSON_CreateString(line));
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    free(vocab);
    free(merges);
    return text;
}

static void gpt2_is_encoded_as_the_package_does(void **state)
{
    (void)state;
    if (access(shared("gpt2-tokenizer/vocab.json"), R_OK) != 0) skip();
    char *text = gpt2_file();
    struct tokenizer *t = tokenizer_parse("gpt2", text, strlen(text));
    assert_non_null(t);
    assert_golden(t, "gpt2 file", 0);
    assert_comes_back(t, mixed, mixed_bytes);
    tokenizer_destroy(&t);
    cJSON_free(text);
    unit_assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(training_gives_the_merges_of_the_package),
        UNIT(any_bytes_come_back),
        UNIT(the_scanners_cut_as_the_expressions_do),
        UNIT(a_long_word_is_no_trouble),
        UNIT(vocabularies_are_as_large_as_the_text_allows),
        UNIT(mistral_is_encoded_as_the_package_does),
        UNIT(gpt2_is_encoded_as_the_package_does),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
