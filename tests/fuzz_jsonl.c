// SPDX-License-Identifier: MIT
// The reader of .jsonl, texts and conversations, against damaged files, and WikiText's on the same
// bytes. What must hold for any input: no access outside; one log line where the file is refused,
// at most one (what was left out) where it is taken; ids are the tokenizer's; scored is 0 or 1 and
// some of each conversation is; no special token stands in a document of text, and in a
// conversation tags come in pairs: whose turn it is, and its end.
#define FUZZ_NAME "fuzz_jsonl"
#define FUZZ_WORDS                                                                              \
    "\"messages\"", "\"text\"", "\"role\"", "\"content\"", "\"user\"", "\"assistant\"",           \
        "\"system\"", "\"weight\"", "<|end|>", "<|user|>", "{\"text\":\"a\"}\n", "\xff",          \
        "\xe2\x82\xac", " = a = \n", " \n", "\\u0041", "\\ud83d\\ude00", "\"tool_calls\""
#include "tests/fuzz.h"

#include "src/config_fields.h"
#include "src/corpus_room.h"
#include "src/data_chat.h"
#include "src/data_wiki.h"

static struct tokenizer *tokenizer; // of bytes, with the tags

static struct documents open_documents(uint32_t eot)
{
    return (struct documents){.arena = arena_create("fuzz"), .eot = eot,
                              .room = corpus_room_create(&config_defaults.corpus)};
}

static void check_conversation(const struct document *d)
{
    bool open = false, any = false;
    const uint16_t *id = d->start;
    require(d->width == 2 && d->kind == KIND_CHAT, "a conversation of another kind");
    for (uint64_t i = 0; i < d->count; i++) {
        const bool end = id[i] == tokenizer_id(tokenizer, chat_tags[CHAT_END]);
        require(id[i] < tokenizer_count(tokenizer) && d->scored[i] <= 1, "an id or a mask");
        if (tokenizer_is_special(tokenizer, id[i])) {
            require(open == end, "a turn in a turn, or an end without one");
            open = !end;
        }
        require(!d->scored[i] || end || !tokenizer_is_special(tokenizer, id[i]),
                "a tag that is scored");
        any |= d->scored[i];
    }
    require(!open && any, "a turn that does not end, or nothing scored");
}

static void check_documents(const struct documents *documents)
{
    for (uint64_t i = 0; i < documents->count; i++) {
        const struct document *d = &documents->document[i];
        require(d->count > 0, "an empty document");
        if (d->scored) check_conversation(d);
        else require(d->width == 1, "ids without a mask");
        require(document_scored(d) <= d->count + d->ends, "more scored than there is");
        require(document_bytes(d, 0, d->count, tokenizer) <= d->count, "more bytes than ids");
    }
}

// The articles follow each other and are all of the text but blank ends.
static void check_wiki(const char *text, size_t size)
{
    struct documents documents = open_documents(TOKENIZER_NONE);
    const uint64_t articles = wiki_documents(&documents, text, size);
    const char *at = text;
    require(documents.count <= articles + 1, "more documents than articles");
    for (uint64_t i = 0; i < documents.count; i++) {
        const char *start = documents.document[i].start;
        for (; at < start; at++) require(strchr(" \r\n", *at) && *at, "text between articles");
        at = start + documents.document[i].count;
    }
    require(!documents.count || at == text + size, "text behind the last article");
    documents_finish(&documents);
}

// Returns 1 where the file was taken (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    if (!tokenizer) {
        struct tokenizer *bytes = tokenizer_create_bytes();
        tokenizer = tokenizer_extend(bytes, chat_tags, CHAT_TAGS);
        tokenizer_destroy(&bytes);
    }
    char *exact = fuzz_exact(data, size);
    const struct data_params params = {.tokenizer = tokenizer, .vocab_size = 264};
    struct documents documents = open_documents(tokenizer_eot(tokenizer));
    lines = 0;
    const bool taken = data_json_lines(&documents, &params, "fuzz", exact, size);
    require(taken ? lines <= 1 : lines == 1, "not one line for a refused file");
    check_documents(&documents);
    documents_finish(&documents);
    check_wiki(exact, size);
    free(exact);
    return taken;
}

#ifndef VKMOE_LIBFUZZER

static const char *const files[] = {
    "{\"text\":\"one\"}\n\n{\"id\":[1,{\"a\":null}],\"text\":\"tw\\u00f6 \\\"x\\\" <|end|>\"}\r\n",
    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
    "\"a <|user|>\"},{\"role\":\"assistant\",\"content\":\"b\"}]}\n{\"messages\":[{\"role\":"
    "\"user\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"c\",\"weight\":0},{\"role\":"
    "\"tool\",\"content\":\"{}\"},{\"role\":\"assistant\",\"content\":\"\"}]}\n",
    "{\"text\":\"a\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"alone\"}]}\n \n",
    " \n = a = \n \n b \n = = c = = \n \n = d = \n \n e",
};

static int attempt(struct mutator *m, uint8_t *data, size_t size, uint64_t which, size_t whole)
{
    (void)whole;
    const int taken = try_one(data, size);
    return m || which != 3 ? taken : 1; // the last is WikiText's
}

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(files), 3, 1, .text = files,
                              .attempt = attempt};
    const int status = fuzz_run(&fuzz, argc, argv);
    tokenizer_destroy(&tokenizer);
    return status;
}

#endif
