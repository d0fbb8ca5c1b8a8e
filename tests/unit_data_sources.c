// SPDX-License-Identifier: MIT
// What data is read from: folders, several paths, .jsonl, token shards; and bad input, which is one
// line each.
#include "tests/unit_data.h"

static void folders_give_their_text(void **state)
{
    (void)state;
    static const char *const folders[] = {".git", ".hidden", "build", "build/meson-private", "run",
                                          "src", "src/deep"};
    for (size_t i = 0; i < COUNT_OF(folders); i++) make_folder(folders[i]);
    static const struct { const char *name, *text; } files[] = {
        {".git/config", "no"}, {".hidden/a.c", "no"}, {".secret", "no"}, {"build/log.txt", "no"},
        {"build/meson-private/x.txt", "no"}, {"run/metrics.jsonl", "{\"step\": 1}\n"},
        {"run/config.json", "no"}, {"empty.txt", ""}, {"b.md", "# b\n"}, {"a.c", "int a;\n"},
        {"src/k.comp", "void main() {}\n"}, {"src/deep/x.py", "x = 1\n"}, {"meson.build", "m\n"},
        {"src/tool", "#!/bin/sh\necho\n"}, {"src/notes", "plain \xc3\xa9\n"}, {"z.json", "{}\n"},
        {"junk.bin", "text in a .bin\n"}, {"other.jsonl", "{\"trigger\": \"no\"}\n"},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) unit_write_text(files[i].name, files[i].text);
    unit_write("image.png", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
    unit_write("noise.dat", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\x80\x81\x82\x83 a", 14);
    assert_int_equal(symlink(unit_folder, unit_path("src/loop")), 0);
    static const char *const wanted[] = {
        "int a;\n", "# b\n", "text in a .bin\n", "m\n", "x = 1\n", "void main() {}\n",
        "plain \xc3\xa9\n", "#!/bin/sh\necho\n", "{}\n"};
    struct data *data = open_good(unit_folder, 5, 0, 1);
    assert_stream(data, DATA_TRAIN, wanted, COUNT_OF(wanted));

    static const char *const domains[] = {"text", "c", "glsl", "markdown", "json", "meson",
                                          "shell", "python"};
    assert_int_equal(data_domain_count(data), COUNT_OF(domains));
    for (uint32_t d = 0; d < COUNT_OF(domains); d++)
        assert_string_equal(data_domain_name(data, d), domains[d]);
    assert_non_null(strstr(data_summary(data), "9 documents (text 2, c 1, glsl 1, "));
    // tokens 0..7 are a.c with its end, 8..12 b.md: window 1 = 5..9 has three of c, two of b.md
    assert_int_equal(data_window_domain(data, DATA_TRAIN, 0), 1);
    assert_int_equal(data_window_domain(data, DATA_TRAIN, 1), 1);
    assert_int_equal(data_window_domain(data, DATA_TRAIN, 2), 3);
    static const uint32_t first[] = {DATA_MASKED, 1, 1, 1, 1}, second[] = {1, 1, 1, 1, 3};
    uint32_t own[5], there = 0; // of inputs: a window begins with the last target before it
    uint32_t document[5];
    static const uint32_t documents[] = {0, 0, 0, 0, 1}; // the last input of window 1 is of b.md
    data_window_domains(data, DATA_TRAIN, 0, own, NULL);
    assert_memory_equal(own, first, sizeof own);
    data_window_domains(data, DATA_TRAIN, 1, own, document);
    assert_memory_equal(own, second, sizeof own);
    assert_memory_equal(document, documents, sizeof document);
    data_window_domains(data, DATA_TRAIN, 0, own, document);
    assert_true(document[0] == DATA_MASKED && document[1] == 0);
    const uint64_t last = data_windows(data, DATA_TRAIN) - 1;
    data_window_domains(data, DATA_TRAIN, last, own, NULL);
    while (there < 5 && own[there] != DATA_MASKED) there++;
    assert_int_equal(last * 5 + there, data_tokens(data, DATA_TRAIN));
    assert_int_equal(own[there - 1], 4); // json
    data_close(&data);
}

// A build folder or a run that is named itself is read.
static void a_named_folder_is_read_whatever_it_is(void **state)
{
    (void)state;
    make_folder("run");
    unit_write_text("run/metrics.txt", "text\n");
    make_folder("run/meson-private");
    struct data *data = open_good(unit_path("run"), 4, 0, 1);
    assert_int_equal(data_tokens(data, DATA_TRAIN), 6);
    data_close(&data);
}

static void several_paths_follow_each_other(void **state)
{
    (void)state;
    const char *path[] = {unit_write_text("z.txt", "zz"), unit_write_text("a.txt", "aa")};
    static const char *const wanted[] = {"zz", "aa"};
    struct data *data = data_open(&(struct data_params){
        .path = path, .path_count = 2, .tokenizer = tokenizer, .vocab_size = 300, .seq_len = 3});
    assert_non_null(data);
    assert_stream(data, DATA_TRAIN, wanted, 2);
    data_close(&data);
}

static void json_lines_give_their_texts(void **state)
{
    (void)state;
    const char *path = unit_write_text("a.jsonl",
        "{\"text\": \"one\"}\n\n  \r\n{\"id\": 3, \"text\": \"t\\u00e9\\n\\\\u0000\"}\r\n"
        "{\"text\": \"\"}\n{\"text\": \"last\"}");
    static const char *const wanted[] = {"one", "t\xc3\xa9\n\\u0000", "last"};
    struct data *data = open_good(path, 4, 0, 1);
    assert_stream(data, DATA_TRAIN, wanted, 3);
    assert_string_equal(data_domain_name(data, 0), "jsonl");
    data_close(&data);
}

static void bad_json_lines_name_file_and_line(void **state)
{
    (void)state;
    static const struct { const char *text, *place, *message; } cases[] = {
        {"{\"text\": \"a\"}\n{\"text\": \n", "b.jsonl:2:", "not JSON"},
        {"\n\n{\"txt\": \"a\"}\n", "b.jsonl:3:", "no string \"text\""},
        {"{\"text\": 5}\n", "b.jsonl:1:", "no string \"text\""},
        {"[1]\n", "b.jsonl:1:", "not an object"},
        {"{\"text\": \"a\\u0000b\"}\n", "b.jsonl:1:", "zero character"},
        {"{\"text\": \"a\"}\nplain text that is much longer than forty characters\n",
         "b.jsonl:2:", "..."},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(open_with(unit_write_text("b.jsonl", cases[i].text), 4, 0, 1));
        unit_assert_line(cases[i].place, cases[i].message);
    }
}

// An article is a document; what only looks like a title is none.
static void wiki_articles_are_documents(void **state)
{
    (void)state;
    static const char *const wanted[] = {
        " = One = \n \n First . \n = not a title = \n \n = = Part = = \n \n 1 = 2 = \n \n",
        " = = = \n\n", "= T\xc3\xa9 =\r\n\r\n x = 1 \n = at the end = "};
    struct bytes text = {0};
    bytes_printf(&text, " \n%s%s%s", wanted[0], wanted[1], wanted[2]);
    for (int i = 0; i < 2; i++) { // " = = = " is no title, so it is of the first article
        const char *name = i ? unit_path("wiki.txt") : NULL, *path =
            unit_write(i ? "wiki.txt" : "wiki.test.tokens", text.data, text.count);
        struct bytes prefixed = {0}, first = {0};
        bytes_printf(&prefixed, "wiki:%s", name ? name : path);
        bytes_printf(&first, "%s%s", wanted[0], wanted[1]);
        struct data *data = open_good(i ? (const char *)prefixed.data : path, 7, 0, 1);
        const char *const both[] = {(const char *)first.data, wanted[2]};
        assert_stream(data, DATA_TRAIN, both, 2);
        assert_string_equal(data_domain_name(data, 0), "wiki");
        data_close(&data);
        bytes_free(&prefixed);
        bytes_free(&first);
    }
    bytes_free(&text);
    struct data *data = open_good(unit_write_text("plain.tokens", "no title\n"), 7, 0, 1);
    assert_string_equal(data_domain_name(data, 0), "text");
    data_close(&data);
    unit_write_text("plain.txt", "no title\n");
    struct bytes path = {0};
    bytes_printf(&path, "wiki:%s", unit_path("plain.txt"));
    assert_null(open_with((const char *)path.data, 7, 0, 1));
    unit_assert_line("plain.txt: no title of an article", "WikiText");
    bytes_free(&path);
}

static void assert_ids(const struct data *data, enum data_split split, uint32_t context,
                       const uint32_t *ids, uint64_t count)
{
    uint32_t *all = read_split(data, split, context);
    assert_int_equal(data_tokens(data, split), count);
    assert_memory_equal(all, ids, count * sizeof *ids);
    free(all);
}

static void shards_of_both_widths_are_read(void **state)
{
    (void)state;
    // an end-of-text first, twice in a row, and none at the end
    static const uint32_t ids[] = {256, 10, 20, 256, 256, 30, 256, 40, 50};
    static const uint32_t wanted[] = {10, 20, 256, 30, 256, 40, 50, 256};
    for (uint32_t width = 2; width <= 4; width += 2)
        for (uint32_t seq_len = 1; seq_len < 10; seq_len++) {
            struct data *data = open_good(write_shard("s.bin", ids, 9, width), seq_len, 0, 1);
            assert_ids(data, DATA_TRAIN, 256, wanted, COUNT_OF(wanted));
            assert_int_equal(data_documents(data, DATA_TRAIN), 3);
            assert_int_equal(data_bytes(data, DATA_TRAIN), 5); // five ids are bytes
            assert_string_equal(data_domain_name(data, 0), "tokens");
            data_close(&data);
        }
    // with text beside it in a folder
    unit_write_text("a.txt", "a");
    struct data *data = open_good(unit_folder, 4, 0, 1);
    assert_int_equal(data_documents(data, DATA_TRAIN), 4);
    data_close(&data);
}

static void shards_need_no_tokenizer(void **state)
{
    (void)state;
    static const uint32_t narrow[] = {50256, 1, 50000, 50256, 3};
    static const uint32_t narrow_wanted[] = {1, 50000, 50256, 3, 50256};
    static const uint32_t wide[] = {128000, 1, 100000, 128000, 3};
    static const uint32_t wide_wanted[] = {1, 100000, 128000, 3, 128000};
    for (int i = 0; i < 2; i++) {
        const char *path = write_shard("s.bin", i ? wide : narrow, 5, i ? 4 : 2);
        struct data *data = data_open(&(struct data_params){
            .path = &path, .path_count = 1, .vocab_size = i ? 128256 : 50257, .seq_len = 3});
        assert_non_null(data);
        uint32_t *all = read_split(data, DATA_TRAIN, i ? 128000 : 50256);
        assert_memory_equal(all, i ? wide_wanted : narrow_wanted, sizeof wide_wanted);
        assert_int_equal(data_bytes(data, DATA_TRAIN), 0); // unknown
        assert_int_equal(data_window_bytes(data, DATA_TRAIN, 0), 0);
        free(all);
        data_close(&data);
    }
    // a vocabulary without that token: one document, cut in two, nothing appended
    static const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const char *path = write_shard("s.bin", ids, 10, 2);
    struct data *data = data_open(&(struct data_params){
        .path = &path, .path_count = 1, .vocab_size = 1024, .seq_len = 4,
        .held_out_fraction = 0.3});
    assert_non_null(data);
    assert_ids(data, DATA_TRAIN, 0, ids, 7);
    assert_ids(data, DATA_HELD_OUT, 0, ids + 7, 3);
    data_close(&data);
    unit_assert_silent();
}

static void bad_shards_are_refused_in_one_line(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1, 2, 259, 4};
    assert_null(open_with(write_shard("s.bin", ids, 4, 2), 4, 0, 1));
    unit_assert_line("s.bin: token 2 is id 259", "vocab_size is 259");
    static const uint32_t wide[] = {1, 0xffffffff};
    assert_null(open_with(write_shard("s.bin", wide, 2, 4), 4, 0, 1));
    unit_assert_line("s.bin: token 1 is id 4294967295", "vocab_size is 259");

    int32_t header[258] = {20240520, 1, 4, [256] = 1};
    assert_null(open_with(unit_write("s.bin", header, 1024), 4, 0, 1)); // no tokens
    unit_assert_line("s.bin: ", "4 tokens of 2 bytes, and 0 bytes follow");
    assert_null(open_with(unit_write("s.bin", header, 1023), 4, 0, 1)); // half a header
    unit_assert_line("s.bin: ", "no token shard");
    assert_null(open_with(unit_write("s.bin", header, 1031), 4, 0, 1));
    unit_assert_line("s.bin: ", "7 bytes follow");
    header[1] = 2;
    assert_null(open_with(unit_write("s.bin", header, 1032), 4, 0, 1));
    unit_assert_line("s.bin: ", "version 2");
    header[1] = 1;
    header[2] = -4;
    assert_null(open_with(unit_write("s.bin", header, 1032), 4, 0, 1));
    unit_assert_line("s.bin: ", "-4 tokens");
    header[2] = INT32_MAX;
    assert_null(open_with(unit_write("s.bin", header, 1032), 4, 0, 1));
    unit_assert_line("s.bin: ", "2147483647 tokens");
    header[0] = 7;
    assert_null(open_with(unit_write("s.bin", header, 1032), 4, 0, 1));
    unit_assert_line("s.bin: ", "no token shard");
}

static void bad_input_gives_one_line(void **state)
{
    (void)state;
    assert_null(open_with(unit_path("missing.txt"), 4, 0, 1));
    unit_assert_line("missing.txt: ", "no such file or folder");
    assert_null(open_with(unit_write_text("empty.txt", ""), 4, 0, 1));
    unit_assert_line("empty.txt: ", "no text in the file");
    make_folder("nothing");
    assert_null(open_with(unit_path("nothing"), 4, 0, 1));
    unit_assert_line("nothing: ", "no text in the folder");
    assert_null(open_with(unit_write_text("blank.jsonl", "\n\n"), 4, 0, 1));
    unit_assert_line("blank.jsonl: ", "no text");
    assert_null(open_with(unit_write("image.png", "a\0b", 3), 4, 0, 1));
    unit_assert_line("image.png: ", "not text");
    assert_null(open_with("/dev/null", 4, 0, 1));
    unit_assert_line("/dev/null", "");
    const char *one = unit_write_text("one.txt", "x");
    assert_null(open_with(one, 4, 0.1, 1)); // one byte cannot be cut
    unit_assert_line("held_out_fraction 0.1", "more text");
    assert_null(open_with(one, 0, 0, 1));
    unit_assert_line("seq_len", "at least 1");
    assert_null(open_with(one, 4, -0.5, 1));
    unit_assert_line("held_out_fraction", "-0.5");
    assert_null(open_with(one, 4, NAN, 1));
    unit_assert_line("held_out_fraction", "0 to 1");
    struct data_params params = {.path = &one, .tokenizer = tokenizer, .vocab_size = 256,
                                 .seq_len = 4};
    assert_null(data_open(&params));
    unit_assert_line("no path", "");
    params.path_count = 1;
    assert_null(data_open(&params));
    unit_assert_line("259 ids", "vocab_size is 256");
    params.tokenizer = NULL;
    assert_null(data_open(&params));
    unit_assert_line("one.txt: ", "no tokenizer");
    if (geteuid() != 0) { // root reads everything
        assert_int_equal(chmod(one, 0), 0);
        assert_null(open_with(one, 4, 0, 1));
        unit_assert_line("one.txt: ", "ermission denied");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(folders_give_their_text),
        UNIT(a_named_folder_is_read_whatever_it_is),
        UNIT(several_paths_follow_each_other),
        UNIT(json_lines_give_their_texts),
        UNIT(bad_json_lines_name_file_and_line),
        UNIT(wiki_articles_are_documents),
        UNIT(shards_of_both_widths_are_read),
        UNIT(shards_need_no_tokenizer),
        UNIT(bad_shards_are_refused_in_one_line),
        UNIT(bad_input_gives_one_line),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, drop_tokenizer);
}
