// SPDX-License-Identifier: MIT
// The reader of tokenizer.json against damaged files, and whatever it takes against texts. What
// must hold for any input: no access outside, one log line if the file is refused and none if it is
// taken; a taken one encodes any bytes with spans inside the text and in order, twice alike, and
// the ids decode.
#define FUZZ_NAME "fuzz_tokenizer"
#define FUZZ_WORDS                                                                               \
    "\"a b\"", "[\"a\",\"b\"]", "\"merges\"", "\"ByteLevel\"", "\"Metaspace\"", "\"Split\"",     \
        "\"Sequence\"", "\"NFC\"", "\"\xe2\x96\x81\"", "\"ab\"", "\"<unk>\"", "\\\\p{L}+",     \
        "(?:", "[^", "\"Regex\"", "\"String\"", "\"Removed\"", "\"first\""
#include "tests/fuzz.h"

#include "src/tokenizer.h"

static void check_encoding(const struct tokenizer *t, const char *text, size_t bytes)
{
    struct encoding with = {.with_spans = true}, without = {0};
    struct bytes out = {0};
    const unsigned flags = TOKENIZER_SPECIAL | TOKENIZER_TEMPLATE;
    const int before = lines;
    const bool ok = tokenizer_encode(t, text, bytes, flags, &with);
    require(ok == tokenizer_encode(t, text, bytes, flags, &without), "spans decide over success");
    require(lines == before + (ok ? 0 : 2), "not one line for a text that cannot be encoded");
    lines = before;
    for (size_t i = 0; ok && i < with.count; i++) {
        require(with.id[i] < tokenizer_count(t), "an id beyond the vocabulary");
        require(with.span[i].begin <= with.span[i].end && with.span[i].end <= bytes,
                "a span outside the text");
    }
    require(!ok || (with.count == without.count &&
                    (!with.count || !memcmp(with.id, without.id, with.count * sizeof *with.id))),
            "the ids differ with spans and without");
    tokenizer_decode_whole(t, with.id, with.count, &out);
    bytes_free(&out);
    encoding_free(&with);
    encoding_free(&without);
}

// Returns 1 where the file was taken (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    static const char text[] = "ab  abab\n\n'LL 12345 <s>x\xff\xe2\x82 \xe2\x96\x81" "e\xcc\x81"
                               "\xe4\xb8\x80 <unk>"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabababab ";
    char *exact = fuzz_exact(data, size);
    lines = 0;
    struct tokenizer *t = tokenizer_parse("fuzz", exact, size);
    require(lines == (t ? 0 : 1), "not exactly one line for a refused file, none for a good one");
    free(exact);
    if (!t) return 0;
    check_encoding(t, text, sizeof text - 1);
    check_encoding(t, "", 0);
    check_encoding(t, text + 3, 1);
    tokenizer_destroy(&t);
    return 1;
}

#ifndef VKMOE_LIBFUZZER

#define SPECIALS                                                                          \
    "\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"special\":true,\"rstrip\":true},"  \
    "{\"id\":8,\"content\":\"ba\",\"normalized\":false}],"
#define VOCAB                                                                                 \
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"aa\":3,\"abab\":4,\"\xe2\x96\x81\":5,\"<unk>\":6,"   \
    "\"<0xFF>\":7},"                                                                          \
    "\"merges\":[\"a b\",[\"a\",\"a\"],\"ab ab\"]"

static const char *const files[] = {
    "{" SPECIALS "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
    "\"prepend_scheme\":\"first\",\"split\":false},\"post_processor\":{\"type\":"
    "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":"
    "\"A\"}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[9]}}},\"decoder\":{\"type\":"
    "\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
    "\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"unk_token\":"
    "\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true," VOCAB "}}",
    "{" SPECIALS "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
    "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
    "\"content\":\"\xe2\x96\x81\"}]},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
    "\"\xe2\x96\x81\"},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\"," VOCAB "}}",
    "{" SPECIALS "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
    "\"pattern\":{\"Regex\":\"\\\\s+|[a-z]{1,3}\"},\"behavior\":\"MergedWithNext\","
    "\"invert\":true},"
    "{\"type\":\"Punctuation\"},{\"type\":\"Digits\",\"individual_digits\":true}]},\"decoder\":"
    "{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\","
    "\"ignore_merges\":true,"
    VOCAB "}}",
};

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(files), 3, 2, .text = files,
                              .try_one = try_one};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
