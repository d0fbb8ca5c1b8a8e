// SPDX-License-Identifier: MIT
// The byte-level tokenizer and its tokenizer.json, and files that are damaged or ask for what is
// not supported. The characters that stand for bytes are compared with
// a list made by GPT-2's own bytes_to_unicode; the file was loaded into the Python package
// `tokenizers` 0.23 and gave the same ids, and the checks below pin what made it do so.
#include "tests/unit.h"

#include <cjson/cJSON.h>

#include "src/tokenizer.h"

static const char byte_characters[] =
    "ĀāĂăĄąĆćĈĉĊċČčĎďĐđĒēĔĕĖėĘęĚěĜĝĞğ"
    "Ġ!\"#$%&'()*+,-./0123456789:;<=>?"
    "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_"
    "`abcdefghijklmnopqrstuvwxyz{|}~ġ"
    "ĢģĤĥĦħĨĩĪīĬĭĮįİıĲĳĴĵĶķĸĹĺĻļĽľĿŀŁ"
    "ł¡¢£¤¥¦§¨©ª«¬Ń®¯°±²³´µ¶·¸¹º»¼½¾¿"
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞß"
    "àáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";

static void bytes_have_their_own_ids(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    assert_int_equal(tokenizer_count(tokenizer), 259);
    assert_int_equal(tokenizer_eot(tokenizer), 256);
    char text[256];
    struct encoding e = {0};
    for (int i = 0; i < 256; i++) text[i] = (char)i;
    assert_true(tokenizer_encode(tokenizer, text, 256, 0, &e));
    assert_int_equal(e.count, 256);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(e.id[i], i);
        assert_int_equal(tokenizer_byte_ids(tokenizer)[i], i);
        assert_int_equal(tokenizer_id_bytes(tokenizer, i), 1);
    }
    struct bytes back = {0};
    tokenizer_decode(tokenizer, e.id, 256, &back);
    assert_int_equal(back.count, 256);
    assert_memory_equal(back.data, text, 256);
    bytes_free(&back);
    assert_true(tokenizer_encode(tokenizer, "", 0, 0, &e));
    assert_int_equal(e.count, 256); // nothing was appended
    encoding_free(&e);
    tokenizer_destroy(&tokenizer);
    assert_null(tokenizer);
    tokenizer_destroy(&tokenizer);
}

static void special_tokens_are_no_text(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    const uint32_t ids[] = {'a', TOKENIZER_EOT, 'b', TOKENIZER_PAD, 259, 0xffffffff, 'c'};
    struct bytes text = {0};
    tokenizer_decode(tokenizer, ids, COUNT_OF(ids), &text);
    assert_int_equal(text.count, 3);
    assert_memory_equal(text.data, "abc", 3);
    assert_int_equal(tokenizer_id_bytes(tokenizer, TOKENIZER_EOT), 0);
    assert_int_equal(tokenizer_id_bytes(tokenizer, 1u << 30), 0);
    struct encoding e = {0};
    assert_true(tokenizer_encode(tokenizer, "<|endoftext|>", 13, 0, &e));
    assert_int_equal(e.count, 13);
    assert_int_equal(e.id[0], '<'); // quoting a token does not make one
    e.count = 0;
    assert_true(tokenizer_encode(tokenizer, "a<|endoftext|>b", 15, TOKENIZER_SPECIAL, &e));
    assert_int_equal(e.count, 3); // asking for it does
    assert_int_equal(e.id[1], TOKENIZER_EOT);
    encoding_free(&e);
    bytes_free(&text);
    tokenizer_destroy(&tokenizer);
}

static void saved_file_is_what_tokenizers_reads(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    const char *path = unit_path("tokenizer.json");
    assert_true(tokenizer_save(tokenizer, path));
    unit_assert_silent();
    char *text = unit_read(path, NULL);
    cJSON *root = cJSON_Parse(text), *model = cJSON_GetObjectItem(root, "model");
    const cJSON *vocab = cJSON_GetObjectItem(model, "vocab");
    assert_int_equal(cJSON_GetArraySize(vocab), 256);
    const char *at = byte_characters;
    for (int id = 0; id < 256; id++) {
        const int length = (*at & 0x80) ? 2 : 1;
        char key[3] = {at[0], length == 2 ? at[1] : 0, 0};
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(vocab, key);
        assert_non_null(item);
        assert_int_equal(item->valueint, id);
        at += length;
    }
    assert_int_equal(*at, 0);
    static const char *const special[] = {"<|endoftext|>", "<|bos|>", "<|pad|>"};
    const cJSON *added = cJSON_GetObjectItem(root, "added_tokens");
    assert_int_equal(cJSON_GetArraySize(added), 3);
    for (int i = 0; i < 3; i++) {
        const cJSON *token = cJSON_GetArrayItem(added, i);
        assert_int_equal(cJSON_GetObjectItem(token, "id")->valueint, 256 + i);
        assert_string_equal(cJSON_GetObjectItem(token, "content")->valuestring, special[i]);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(token, "special")));
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(token, "normalized")));
    }
    assert_string_equal(cJSON_GetObjectItem(model, "type")->valuestring, "BPE");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(model, "merges")), 0);
    static const char *const parts[] = {"pre_tokenizer", "decoder"};
    for (int i = 0; i < 2; i++) {
        const cJSON *part = cJSON_GetObjectItem(root, parts[i]);
        assert_string_equal(cJSON_GetObjectItem(part, "type")->valuestring, "ByteLevel");
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(part, "add_prefix_space")));
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(part, "trim_offsets")));
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(part, "use_regex")));
    }
    cJSON_Delete(root);
    free(text);
    tokenizer_destroy(&tokenizer);
}

static void saved_file_loads_and_saves_the_same(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = tokenizer_create_bytes(), *loaded;
    const char *first = unit_path("one.json"), *second = unit_path("two.json");
    assert_true(tokenizer_save(tokenizer, first));
    loaded = tokenizer_load(first);
    assert_non_null(loaded);
    assert_int_equal(tokenizer_count(loaded), 259);
    assert_int_equal(tokenizer_eot(loaded), 256);
    assert_true(tokenizer_save(loaded, second));
    char *a = unit_read(first, NULL), *b = unit_read(second, NULL);
    assert_string_equal(a, b);
    free(a);
    free(b);
    tokenizer_destroy(&tokenizer);
    tokenizer_destroy(&loaded);
    unit_assert_silent();
}

// A file made from ours: the first `from` becomes `to`.
static const char *changed(const char *from, const char *to)
{
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    assert_true(tokenizer_save(tokenizer, unit_path("ours.json")));
    tokenizer_destroy(&tokenizer);
    char *text = unit_read(unit_path("ours.json"), NULL), *at = strstr(text, from);
    if (!at) fail_msg("no %s in the file", from);
    struct bytes other = {0};
    bytes_append(&other, text, (size_t)(at - text));
    bytes_printf(&other, "%s%s", to, at + strlen(from));
    const char *path = unit_write("changed.json", other.data, other.count);
    bytes_free(&other);
    free(text);
    return path;
}

// The ids of the file count, not those of the bytes: here 'A' and 'B' are exchanged.
static void ids_of_the_file_are_used(void **state)
{
    (void)state;
    const char *path = changed("\"A\":\t65,\n\t\t\t\"B\":\t66", "\"A\": 66, \"B\": 65");
    struct tokenizer *tokenizer = tokenizer_load(path);
    assert_non_null(tokenizer);
    struct encoding e = {0};
    assert_true(tokenizer_encode(tokenizer, "ABC", 3, 0, &e));
    assert_int_equal(e.count, 3);
    assert_int_equal(e.id[0], 66);
    assert_int_equal(e.id[1], 65);
    assert_int_equal(e.id[2], 67);
    assert_int_equal(tokenizer_byte_ids(tokenizer)['A'], 66);
    struct bytes text = {0};
    tokenizer_decode(tokenizer, e.id, 3, &text);
    assert_memory_equal(text.data, "ABC", 3);
    bytes_free(&text);
    encoding_free(&e);
    tokenizer_destroy(&tokenizer);
}

static void tags_are_added(void **state)
{
    (void)state;
    static const char *const tags[] = {"<observe>", "<|bos|>", "<act>", "<observe>"};
    struct tokenizer *bytes = tokenizer_create_bytes();
    struct tokenizer *more = tokenizer_extend(bytes, tags, COUNT_OF(tags));
    assert_non_null(more);
    assert_int_equal(tokenizer_count(bytes), 259);
    assert_int_equal(tokenizer_count(more), 261); // one was there, one is named twice
    assert_int_equal(tokenizer_id(more, "<observe>"), 259);
    assert_int_equal(tokenizer_id(more, "<act>"), 260);
    assert_int_equal(tokenizer_id(more, "<|bos|>"), TOKENIZER_BOS);
    assert_int_equal(tokenizer_id(bytes, "<act>"), TOKENIZER_NONE);
    assert_true(tokenizer_is_special(more, 260));
    assert_int_equal(tokenizer_eot(more), TOKENIZER_EOT);
    assert_non_null(tokenizer_byte_ids(more));
    assert_true(tokenizer_fingerprint(more) != tokenizer_fingerprint(bytes));
    struct encoding e = {0};
    assert_true(tokenizer_encode(more, "<act>", 5, 0, &e));
    assert_int_equal(e.count, 5);
    encoding_free(&e);
    tokenizer_destroy(&bytes);
    tokenizer_destroy(&more);
    unit_assert_silent();
}

static void other_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *from, *to, *message; } cases[] = {
        {"\"BPE\"", "\"Unigram\"", "model.type: found Unigram"},
        {"\"dropout\":\tnull", "\"dropout\": 0.1", "model.dropout"},
        {"\"end_of_word_suffix\":\tnull", "\"end_of_word_suffix\": \"</w>\"", "end_of_word"},
        {"\"continuing_subword_prefix\":\tnull", "\"continuing_subword_prefix\": \"##\"",
         "continuing_subword_prefix"},
        {"\"byte_fallback\":\tfalse", "\"byte_fallback\": 3", "model.byte_fallback"},
        {"\"pre_tokenizer\":\t{", "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"x\": {",
         "pre_tokenizer: BertPreTokenizer"},
        {"\"normalizer\":\tnull", "\"normalizer\": {\"type\": \"Lowercase\"}",
         "normalizer: Lowercase"},
        {"\"normalizer\":\tnull", "\"normalizer\": {\"type\": \"Replace\", \"pattern\": "
         "{\"Regex\": \"a\"}, \"content\": \"\"}", "normalizer: Replace"},
        {"\"post_processor\":\tnull", "\"post_processor\": {\"type\": \"BertProcessing\"}",
         "post_processor: BertProcessing"},
        {"\"decoder\":\t{", "\"decoder\": {\"type\": \"WordPiece\"}, \"x\": {",
         "decoder: WordPiece"},
        {"\"truncation\":\tnull", "\"truncation\": {\"max_length\": 5}", "truncation"},
        {"\"single_word\":\tfalse", "\"single_word\": true", "single_word"},
        {"\"A\":", "\"AA\":", "byte 65"},
        {"\"B\":\t66", "\"B\": 65", "one id, 65"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(tokenizer_load(changed(cases[i].from, cases[i].to)));
        unit_assert_line("changed.json: ", cases[i].message);
    }
}

// A file whose words are cut by an expression.
static const char *with_expression(const char *expression)
{
    char text[1024];
    snprintf(text, sizeof text, "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
             "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\", "
             "\"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}, "
             "\"x\": {",
             expression);
    return changed("\"pre_tokenizer\":\t{", text);
}

static void expressions_are_those_both_libraries_read_alike(void **state)
{
    (void)state;
    static const struct { const char *expression, *message; } refused[] = {
        {"\\\\b", "an escape"}, {"\\\\w+", "an escape"}, {"^a", "^ or $"}, {"a$", "^ or $"},
        {"[a[b]]", "a class within a class"}, {"[a&&b]", "&& in a class"}, {"a{2}+", "}+"},
        {"(?m)a", "a group"}, {"(?P<x>a)", "a group"}, {"(*F)", "(*"}, {"[]a]", "begins with ]"},
        {"\\\\p{^L}", "\\p without"}, {"a(", "parenthes"}, {"\\\\p{Nonsense}", "property"},
        {"a{,3}", "{,"}, {"(a)\\\\1", "an escape"},
    };
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        assert_null(tokenizer_load(with_expression(refused[i].expression)));
        unit_assert_line("changed.json: pre_tokenizer: the expression ", refused[i].message);
    }
    static const char *const taken[] = {
        "\\\\s+(?!\\\\S)", "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+\\\\p{L}++", "(?i:'s|'t)",
        "[\\\\p{Han}a-z]{1,3}",
        "(?<=a)(?<!b)\\\\d\\\\D\\\\u4e00",
        "[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]\\\\^_`{|}~]",
    };
    for (size_t i = 0; i < COUNT_OF(taken); i++) {
        struct tokenizer *tokenizer = tokenizer_load(with_expression(taken[i]));
        unit_assert_silent();
        assert_non_null(tokenizer);
        tokenizer_destroy(&tokenizer);
    }
}

// Holes, cycles and repetitions in the merges.
static void bad_merges_are_refused_in_one_line(void **state)
{
    (void)state;
    static const struct { const char *merges, *message; } cases[] = {
        {"[\"a b\"]", "merges[0]: what it gives"},
        {"[[\"A\", \"BB\"]]", "merges[0]: its right part"},
        {"[[\"BB\", \"A\"]]", "merges[0]: its left part"},
        {"[[\"\", \"A\"]]", "merges[0]: wanted"},
        {"[[\"A\", \"B\", \"C\"]]", "merges[0]: wanted"},
        {"[\"AB\"]", "merges[0]: wanted"},
        {"[\"A B C\"]", "merges[0]: wanted"},
        {"[7]", "merges[0]: wanted"},
        {"[\"A A\", [\"A\", \"A\"]]", "merges[1]: the same pair"},
        {"{}", "model.merges"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[256];
        snprintf(text, sizeof text, "\"merges\": %s", cases[i].merges);
        const char *path = changed("\"merges\":\t[]", text);
        char *file = unit_read(path, NULL);
        char *at = strstr(file, "\"A\":"); // \"AA\" has an id
        struct bytes more = {0};
        bytes_append(&more, file, (size_t)(at - file));
        bytes_printf(&more, "\"AA\": 300, %s", at);
        assert_null(tokenizer_load(unit_write("merges.json", more.data, more.count)));
        unit_assert_line("merges.json: model.merges", strchr(cases[i].message, '[') ?
                         strchr(cases[i].message, '[') : cases[i].message);
        bytes_free(&more);
        free(file);
    }
}

static void bad_files_are_refused_in_one_line(void **state)
{
    (void)state;
    static const struct { const char *from, *to, *message; } cases[] = {
        {"\"B\":\t66", "\"B\": -1", "whole number"},
        {"\"B\":\t66", "\"B\": 66.5", "whole number"},
        {"\"B\":\t66", "\"B\": 4000000000", "whole number"},
        {"\"B\":\t66", "\"B\": \"66\"", "whole number"},
        {"\"id\":\t256", "\"id\": 65", "has the id 65"},
        {"\"content\":", "\"text\":", "content"},
        {"\"id\":\t256", "\"id\": 1e9", "whole number"},
        {"\"A\":", "\"\\u0000\":", "zero character"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(tokenizer_load(changed(cases[i].from, cases[i].to)));
        unit_assert_line("changed.json: ", cases[i].message);
    }
    static const char *const texts[] = {"", "{", "[]", "null", "\"text\""};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        assert_null(tokenizer_load(unit_write_text("bad.json", texts[i])));
        unit_assert_line("bad.json: ", "not JSON");
    }
    assert_null(tokenizer_load(unit_write_text("empty.json", "{}")));
    unit_assert_line("empty.json: ", "model");
    assert_null(tokenizer_load(unit_path("missing.json")));
    unit_assert_line("missing.json", "no such file");
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    assert_false(tokenizer_save(tokenizer, unit_path("no/folder/tokenizer.json")));
    unit_assert_line("tokenizer.json", "no such file or folder");
    tokenizer_destroy(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(bytes_have_their_own_ids),
        UNIT(special_tokens_are_no_text),
        UNIT(saved_file_is_what_tokenizers_reads),
        UNIT(saved_file_loads_and_saves_the_same),
        UNIT(ids_of_the_file_are_used),
        UNIT(tags_are_added),
        UNIT(other_tokenizers_are_refused_by_name),
        UNIT(expressions_are_those_both_libraries_read_alike),
        UNIT(bad_merges_are_refused_in_one_line),
        UNIT(bad_files_are_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
