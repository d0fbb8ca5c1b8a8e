// SPDX-License-Identifier: MIT
// Conversations: how they are rendered, what of them is scored, that they keep together, and what
// is wrong with a line, told with file and number.
#include "tests/unit_data.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "src/data_chat.h"

static struct tokenizer *tagged; // bytes, three special tokens, five tags

static int make_tagged(void **state)
{
    make_tokenizer(state);
    tagged = tokenizer_extend(tokenizer, chat_tags, CHAT_TAGS);
    return !tagged;
}

static int drop_tagged(void **state)
{
    tokenizer_destroy(&tagged);
    return drop_tokenizer(state);
}

static struct data *open_chat_in(const char *path, uint32_t seq_len, enum data_packing packing)
{
    return data_open(&(struct data_params){
        .path = &path, .path_count = 1, .tokenizer = tagged,
        .vocab_size = tokenizer_count(tagged), .seq_len = seq_len, .packing = packing});
}

static struct data *open_chat(const char *path, uint32_t seq_len)
{
    struct data *data = open_chat_in(path, seq_len, DATA_PACKING_AUTO);
    if (!data) fail_msg("not opened: %s", unit_log.last);
    return data;
}

// Ids as text: tags by their letter in brackets, an end-of-text '|', what is masked '.'.
static const char *shown(const uint32_t *ids, uint32_t count, char *out)
{
    char *at = out;
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == DATA_MASKED) *at++ = '.';
        else if (ids[i] == TOKENIZER_EOT) *at++ = '|';
        else if (ids[i] < 256) *at++ = (char)ids[i];
        else at += sprintf(at, "<%c>", tokenizer_id_text(tagged, ids[i])[2]);
    }
    *at = 0;
    return out;
}

static void assert_window(const struct data *data, uint64_t index, const char *in, const char *out)
{
    uint32_t inputs[64], targets[64];
    char text[4 * 64];
    const uint32_t seq = data_seq_len(data);
    data_window_at(data, DATA_TRAIN, index, inputs, targets, true);
    assert_string_equal(shown(inputs, seq, text), in);
    assert_string_equal(shown(targets, seq, text), out);
}

#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define ASSISTANT(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define LINE(messages) "{\"messages\": [" messages "]}\n"

static void the_assistant_is_scored(void **state)
{
    (void)state;
    const char *path = unit_write_text("a.jsonl",
        LINE("{\"role\": \"system\", \"content\": \"S\"}, " USER("hi") ", " ASSISTANT("yo") ", "
             "{\"role\": \"tool\", \"content\": \"7\"}, " ASSISTANT("end"))
        LINE(USER("<|end|>") ", " ASSISTANT("ok")));
    struct data *data = open_chat(path, 26);
    unit_assert_silent();
    // 19 tokens and an end-of-text; the next conversation begins the next window
    assert_window(data, 0, "|<s>S<e><u>hi<e><a>yo<e><t>7<e><a>end<e>||||||",
                  "........yo<e>....end<e>.......");
    // a content cannot end itself: seven bytes, not a tag
    assert_window(data, 1, "|<u><|end|><e><a>ok<e>||||||||||||", "..........ok<e>.............");
    assert_int_equal(data_windows(data, DATA_TRAIN), 2);
    assert_int_equal(data_scored(data, DATA_TRAIN), 3 + 4 + 3);
    assert_int_equal(data_tokens(data, DATA_TRAIN), 20 + 14);
    assert_int_equal(data_bytes(data, DATA_TRAIN), 2 + 3 + 2);
    assert_int_equal(data_window_bytes(data, DATA_TRAIN, 0), 2 + 3);
    assert_string_equal(data_domain_name(data, 0), "chat");
    assert_string_equal(data_summary(data), "2 documents (chat 2): 34 tokens (10 scored) to train "
                                            "on, 0 held out");
    data_close(&data);
}

// Weight 0 leaves a reply out; where nothing is left the conversation goes.
static void weights_and_silence(void **state)
{
    (void)state;
    const char *path = unit_write_text("a.jsonl",
        LINE(USER("a") ", {\"role\": \"assistant\", \"content\": \"no\", \"weight\": 0}, "
             "{\"role\": \"assistant\", \"content\": \"b\", \"weight\": 1}")
        LINE(USER("alone"))
        LINE(USER("x") ", {\"role\": \"assistant\", \"content\": \"no\", \"weight\": 0}"));
    struct data *data = open_chat(path, 12);
    unit_assert_line("a.jsonl: 2 conversations", "left out");
    assert_window(data, 0, "|<u>a<e><a>no<e><a>b<e>|", "........b<e>..");
    assert_int_equal(data_documents(data, DATA_TRAIN), 1);
    data_close(&data);
    assert_null(open_chat_in(unit_write_text("b.jsonl", LINE(USER("alone"))), 8, DATA_STREAM));
    assert_non_null(strstr(unit_log.last, "b.jsonl: no text in the file"));
}

// Lines of both kinds in one file; stream packing where it is asked for, with the same masks.
static void texts_stand_beside_conversations(void **state)
{
    (void)state;
    const char *path = unit_write_text(
        "a.jsonl", "{\"text\": \"abc\"}\n" LINE(USER("a") ", " ASSISTANT("b")) "{\"text\": \"d\"}");
    struct data *data = open_chat(path, 14);
    assert_window(data, 0, "|abc|<u>a<e><a>b<e>|d|", "abc|....b<e>.d|.");
    data_close(&data);
    data = open_chat_in(path, 7, DATA_STREAM);
    assert_window(data, 0, "|abc|<u>a", "abc|...");
    assert_window(data, 1, "<e><a>b<e>|d|", ".b<e>.d|.");
    data_close(&data);
}

static void a_single_conversation_is_cut(void **state)
{
    (void)state;
    const char *path = unit_write_text("a.jsonl", LINE(USER("a") ", " ASSISTANT("b")));
    struct data_params params = {.path = &path, .path_count = 1, .tokenizer = tagged,
                                 .vocab_size = 300, .seq_len = 4, .held_out_fraction = 0.5};
    assert_null(data_open(&params)); // nothing of the front is scored
    unit_assert_line("none of the 3 tokens to train on is scored", "held_out_fraction");
    path = unit_write_text("b.jsonl", LINE(USER("a") ", " ASSISTANT("b")));
    params.held_out_fraction = 0.1;
    struct data *data = data_open(&params); // behind <u>a<e><a>b, by tokens
    assert_non_null(data);
    assert_int_equal(data_scored(data, DATA_TRAIN), 1);
    assert_int_equal(data_scored(data, DATA_HELD_OUT), 1);
    data_close(&data);
}

static void masks_are_in_the_fingerprint(void **state)
{
    (void)state;
    struct data *a = open_chat(unit_write_text(
                         "a.jsonl", LINE(USER("a") ", " ASSISTANT("b") ", " ASSISTANT("c"))), 8),
                *b = open_chat(unit_write_text("b.jsonl", LINE(USER("a") ", " ASSISTANT("b") ", "
                         "{\"role\": \"assistant\", \"content\": \"c\", \"weight\": 0}")), 8);
    assert_true(data_fingerprint(a) != data_fingerprint(b));
    data_close(&a);
    data_close(&b);
}

// A tokenizer is trained on what is said, without tags.
static void text_alone(void **state)
{
    (void)state;
    const char *path = unit_write_text("a.jsonl", LINE(USER("hi") ", " ASSISTANT("yo")));
    static const char *const wanted[] = {"hi", "yo"};
    struct data *data = data_open(&(struct data_params){.path = &path, .path_count = 1,
        .tokenizer = tokenizer, .vocab_size = 259, .seq_len = 4, .text_only = true});
    assert_stream(data, DATA_TRAIN, wanted, 2);
    data_close(&data);
}

static void a_folder_of_conversations(void **state)
{
    (void)state;
    make_folder("chat");
    const char *path = unit_write_text("chat/a.jsonl", LINE(USER("a") ", " ASSISTANT("b")));
    unit_write_text("chat/other.jsonl", "{\"id\": 3}\n");
    assert_true(chat_is_there(path));
    assert_true(chat_is_there(unit_path("chat")));
    assert_false(chat_is_there(unit_path("chat/other.jsonl")));
    assert_false(chat_is_there(unit_path("chat/none.jsonl")));
    struct data *data = open_chat(unit_path("chat"), 8);
    assert_int_equal(data_documents(data, DATA_TRAIN), 1);
    data_close(&data);
}

static void bad_lines_name_file_and_line(void **state)
{
    (void)state;
    static const struct { const char *text, *place, *message; } cases[] = {
        {LINE(USER("a")) LINE("{\"role\": \"human\", \"content\": \"a\"}"), "b.jsonl:2:",
         "message 1 has a role that is none of system, user, assistant and tool: \"human\""},
        {LINE(USER("a") ", {\"role\": \"assistant\"}"), "b.jsonl:1:",
         "message 2 has no string \"content\""},
        {LINE("{\"role\": \"user\", \"content\": 5}"), "b.jsonl:1:", "no string \"content\""},
        {LINE("{\"role\": \"user\", \"content\": null}"), "b.jsonl:1:", "no string \"content\""},
        {LINE("{\"content\": \"a\"}"), "b.jsonl:1:", "message 1 has no string \"role\""},
        {LINE("{\"role\": [], \"content\": \"a\"}"), "b.jsonl:1:", "no string \"role\""},
        {LINE("\"a\""), "b.jsonl:1:", "message 1 is not an object"},
        {LINE("{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": []}"), "b.jsonl:1:",
         "\"tool_calls\""},
        {"{\"messages\": []}\n", "b.jsonl:1:", "empty \"messages\""},
        {"{\"messages\": {}}\n", "b.jsonl:1:", "empty \"messages\""},
        {"{\"messages\": [1], \"text\": \"a\"}\n", "b.jsonl:1:", "both \"text\" and \"messages\""},
        {"{\"conversations\": []}\n", "b.jsonl:1:", "no string \"text\" and no \"messages\""},
        {LINE(USER("a\\u0000b")), "b.jsonl:1:", "zero character"},
        {LINE(USER("a")) "{\"text\": \"\xff\"}\n", "b.jsonl:2:",
         "byte 0xff at 10 that is no UTF-8"},
        {"{\"text\": \"\xe2\x82\"}\n", "b.jsonl:1:", "0xe2 at 10"},
        {LINE(USER("\\ud800")), "b.jsonl:1:", "not JSON"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_null(open_chat_in(unit_write_text("b.jsonl", cases[i].text), 4, DATA_STREAM));
        unit_assert_line(cases[i].place, cases[i].message);
    }
    const char *good = unit_write_text("good.jsonl", LINE(USER("a") ", " ASSISTANT("b")));
    assert_null(open_with(good, 4, 0, 1));
    unit_assert_line("good.jsonl:1:", "the tokenizer has no special token <|system|>");
}

// A hole of 2 GB behind a good line: refused where it begins, without reading it.
static void a_line_of_2_gb(void **state)
{
    (void)state;
    char *text = malloc(10000);
    memset(text, 'a', 10000);
    memcpy(text, "{\"text\": \"", 10);
    memcpy(text + 9000, "\"}\n{\"text\": \"", 13);
    const char *path = unit_write("long.jsonl", text, 9200);
    free(text);
    assert_int_equal(truncate(path, 2ll << 30), 0);
    assert_null(open_chat_in(path, 4, DATA_STREAM));
    unit_assert_line("long.jsonl:2: the line has more than 64 MiB", "{\"text\": \"aaa");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(the_assistant_is_scored),
        UNIT(weights_and_silence),
        UNIT(texts_stand_beside_conversations),
        UNIT(a_single_conversation_is_cut),
        UNIT(masks_are_in_the_fingerprint),
        UNIT(text_alone),
        UNIT(a_folder_of_conversations),
        UNIT(bad_lines_name_file_and_line),
        UNIT(a_line_of_2_gb),
    };
    return cmocka_run_group_tests(tests, make_tagged, drop_tagged);
}
