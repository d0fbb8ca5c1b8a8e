// SPDX-License-Identifier: MIT
// The byte-level tokenizer and its tokenizer.json. The characters that stand for bytes are compared
// with a list made by GPT-2's own bytes_to_unicode; the file was loaded into the Python package
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
    uint32_t ids[256];
    for (int i = 0; i < 256; i++) text[i] = (char)i;
    assert_int_equal(tokenizer_encode(tokenizer, text, 256, ids), 256);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(ids[i], i);
        assert_int_equal(tokenizer_id_bytes(tokenizer, i), 1);
    }
    struct bytes back = {0};
    tokenizer_decode(tokenizer, ids, 256, &back);
    assert_int_equal(back.count, 256);
    assert_memory_equal(back.data, text, 256);
    bytes_free(&back);
    assert_int_equal(tokenizer_encode(tokenizer, "", 0, ids), 0);
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
    uint32_t encoded[13];
    assert_int_equal(tokenizer_encode(tokenizer, "<|endoftext|>", 13, encoded), 13);
    assert_int_equal(encoded[0], '<'); // quoting a token does not make one
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
    uint32_t ids[3];
    assert_int_equal(tokenizer_encode(tokenizer, "ABC", 3, ids), 3);
    assert_int_equal(ids[0], 66);
    assert_int_equal(ids[1], 65);
    assert_int_equal(ids[2], 67);
    struct bytes text = {0};
    tokenizer_decode(tokenizer, ids, 3, &text);
    assert_memory_equal(text.data, "ABC", 3);
    bytes_free(&text);
    tokenizer_destroy(&tokenizer);
}

static void other_tokenizers_are_refused_in_one_line(void **state)
{
    (void)state;
    static const struct { const char *from, *to, *message; } cases[] = {
        {"\"merges\":\t[]", "\"merges\": [[\"a\", \"b\"]]", "merges"},
        {"\"BPE\"", "\"Unigram\"", "not BPE"},
        {"\"type\":\t\"ByteLevel\"", "\"type\": \"Metaspace\"", "pre_tokenizer"},
        {"\"add_prefix_space\":\tfalse", "\"add_prefix_space\": true", "pre_tokenizer"},
        {"\"normalizer\":\tnull", "\"normalizer\": {\"type\": \"NFC\"}", "normalizer"},
        {"\"byte_fallback\":", "\"ignore_merges\": true, \"byte_fallback\":", "ignore_merges"},
        {"\"A\":", "\"AA\":", "byte 65"},
        {"\"B\":\t66", "\"B\": 65", "byte 66"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(tokenizer_load(changed(cases[i].from, cases[i].to)));
        unit_assert_line("changed.json: ", cases[i].message);
        assert_non_null(strstr(unit_log.last, "supported today"));
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
        {"\"id\":\t256", "\"id\": 65", "id of a byte"},
        {"\"content\":", "\"text\":", "content"},
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
        UNIT(other_tokenizers_are_refused_in_one_line),
        UNIT(bad_files_are_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
