// SPDX-License-Identifier: MIT
// Where text and ids lie: long texts encoded in parts, files of ids that are used, remade and
// shared by processes, sets of which little may be in memory; always the same windows.
#include "tests/unit_data.h"

#include <sys/wait.h>

#include "runtime/folder.h"
#include "runtime/spill.h"
#include "src/config_fields.h"
#include "src/corpus_room.h"
#include "src/corpus_text.h"
#include "src/corpus_tokens.h"
#include "src/tokenizer_train.h"

static struct tokenizer *bpe;

static struct tokenizer *train(const char *expression, uint32_t vocab)
{
    size_t bytes;
    char *text = unit_read(UNIT_SOURCE_ROOT "/tests/golden/mixed.txt", &bytes);
    struct tokenizer_trainer *trainer = tokenizer_trainer_create(
        &(struct tokenizer_training){.vocab_size = vocab, .expression = expression});
    assert_true(tokenizer_trainer_add(trainer, text, bytes));
    struct tokenizer_trained report;
    struct tokenizer *own = tokenizer_trainer_finish(trainer, &report);
    tokenizer_trainer_destroy(&trainer);
    free(text);
    return own;
}

static int make_bpe(void **state)
{
    (void)state;
    bpe = train("gpt2", 600);
    return bpe ? 0 : -1;
}

static int drop_bpe(void **state)
{
    (void)state;
    tokenizer_destroy(&bpe);
    return 0;
}

// ---- parts

struct ids { uint32_t *id; uint64_t count, calls; };

static bool collect(void *user, const uint32_t *id, uint64_t count)
{
    struct ids *ids = user;
    ids->id = realloc(ids->id, (ids->count + count + 1) * sizeof *id);
    if (count) memcpy(ids->id + ids->count, id, count * sizeof *id);
    ids->count += count;
    ids->calls++;
    return true;
}

// Returns in how many parts it was.
static uint64_t assert_parts(const struct tokenizer *t, const char *text, uint64_t bytes,
                             uint64_t part, uint64_t overlap)
{
    const struct document document = {.start = text, .count = bytes, .width = 1};
    struct ids ids = {0};
    struct encoding whole = {0};
    assert_true(tokenizer_encode(t, text, bytes, 0, &whole));
    assert_true(corpus_text_encode_parts(&document, part, overlap, t, NULL, collect, &ids));
    assert_int_equal(ids.count, whole.count);
    assert_memory_equal(ids.id, whole.id, whole.count * sizeof *whole.id);
    const uint64_t calls = ids.calls;
    encoding_free(&whole);
    free(ids.id);
    return calls;
}

static void a_text_in_parts_is_the_same(void **state)
{
    (void)state;
    static const char *const files[] = {"/tests/golden/mixed.txt", "/README.md", "/src/data.c"};
    const char *shared = getenv("VKMOE_DATA");
    char mistral[4096];
    snprintf(mistral, sizeof mistral, "%s/mistral-tokenizer/tokenizer.json",
             shared ? shared : UNIT_SOURCE_ROOT "/../shared/data");
    struct tokenizer *tokenizers[] = {
        train("gpt2", 600), train("llama3", 900), train("qwen2", 300),
        access(mistral, R_OK) == 0 ? tokenizer_load(mistral) : NULL};
    for (size_t k = 0; k < COUNT_OF(tokenizers); k++) {
        for (size_t f = 0; tokenizers[k] && f < COUNT_OF(files); f++) {
            char path[4096];
            size_t bytes;
            snprintf(path, sizeof path, "%s%s", UNIT_SOURCE_ROOT, files[f]);
            char *text = unit_read(path, &bytes);
            for (uint64_t part = 5000; part < 9000; part += 1771) {
                const uint64_t parts = assert_parts(tokenizers[k], text, bytes, part, 3000);
                // what few tokens stand for (a kilobyte of spaces) is a seam to some only
                if (k < 3 && f > 0) assert_true(parts > bytes / 9000);
            }
            free(text);
        }
        tokenizer_destroy(&tokenizers[k]);
    }
}

static void a_text_without_seams_is_one(void **state)
{
    (void)state;
    static char text[30000];
    memset(text, 'a', sizeof text); // one word
    assert_int_equal(assert_parts(bpe, text, sizeof text, 4000, 100), 1); // too few to compare
    assert_parts(bpe, text, sizeof text, 4000, 1000);
    for (size_t i = 0; i < 10000; i++) text[i] = i % 5 ? 'b' : ' '; // and words before it
    assert_true(assert_parts(bpe, text, sizeof text, 4000, 2000) > 1);
    memset(text, 0x80, sizeof text); // no character begins
    assert_parts(bpe, text, sizeof text, 4000, 2000);
    assert_int_equal(assert_parts(bpe, "", 0, 4000, 1000), 1);
}

// ---- files of ids

static void use_cache(const char *name)
{
    assert_int_equal(setenv("VKMOE_CACHE", unit_path(name), 1), 0);
}

static struct data *open_texts(const struct tokenizer *t, const struct config_corpus *corpus)
{
    const char *path = unit_path("texts");
    return data_open(&(struct data_params){
        .path = &path, .path_count = 1, .tokenizer = t, .vocab_size = 1000, .seq_len = 32,
        .held_out_fraction = 0.2, .seed = 1, .corpus = corpus});
}

static void assert_same_data(const struct data *a, const struct data *b)
{
    assert_true(data_fingerprint(a) == data_fingerprint(b));
    for (enum data_split split = 0; split < DATA_SPLIT_COUNT; split++) {
        assert_int_equal(data_tokens(a, split), data_tokens(b, split));
        assert_int_equal(data_bytes(a, split), data_bytes(b, split));
        for (uint64_t w = 0; w < data_windows(a, split); w++) {
            uint32_t left[2][32], right[2][32];
            data_window_at(a, split, w, left[0], left[1], true);
            data_window_at(b, split, w, right[0], right[1], true);
            assert_memory_equal(left, right, sizeof left);
            assert_int_equal(data_window_bytes(a, split, w), data_window_bytes(b, split, w));
        }
    }
}

static void write_texts(uint32_t count)
{
    char name[40];
    make_folder("texts");
    for (uint32_t i = 0; i < count; i++) {
        struct bytes text = {0};
        for (uint32_t w = 0; w < 500 + i; w++)
            bytes_printf(&text, "w%llu the %s", (unsigned long long)rng_below(i, 1, w, 5000),
                         w % 9 ? "" : "\n");
        snprintf(name, sizeof name, "texts/%03u.txt", i);
        unit_write(name, text.data, text.count);
        bytes_free(&text);
    }
}

// The one file of the cache; NULL: there is none.
static const char *cached(void)
{
    struct folder folder;
    char name[300] = "";
    if (!folder_is(unit_path("cache/tokens"))) return NULL;
    assert_true(folder_list(unit_path("cache/tokens"), &folder));
    assert_true(folder.count <= 1);
    if (folder.count) snprintf(name, sizeof name, "cache/tokens/%s", folder.entry[0].name);
    folder_free(&folder);
    return name[0] ? unit_path(name) : NULL;
}

static void a_hit_gives_what_a_miss_gives(void **state)
{
    (void)state;
    struct config_corpus rules = config_defaults.corpus;
    use_cache("cache");
    write_texts(7);
    rules.token_cache = CONFIG_CACHE_OFF;
    struct data *memory = open_texts(bpe, &rules);
    assert_non_null(memory);
    rules.token_cache = CONFIG_CACHE_AUTO; // so little is not kept
    struct data *few = open_texts(bpe, &rules);
    assert_null(cached());
    data_close(&few);
    rules.token_cache = CONFIG_CACHE_ON;
    struct data *miss = open_texts(bpe, &rules);
    assert_non_null(cached());
    size_t bytes, again;
    char *first = unit_read(cached(), &bytes);
    struct stat before, after;
    assert_int_equal(stat(cached(), &before), 0);
    struct data *hit = open_texts(bpe, &rules);
    assert_int_equal(stat(cached(), &after), 0);
    assert_true(before.st_ino == after.st_ino); // it was not written again
    assert_same_data(memory, miss);
    assert_same_data(memory, hit);

    // each byte that is another, each missing one, each one too many: made anew, the same
    for (size_t i = 0; i < bytes; i += i + 80 < bytes ? 2997 : 7) {
        first[i] ^= 0x10;
        unit_write(strstr(cached(), "cache/"), first, bytes);
        first[i] ^= 0x10;
        struct data *other = open_texts(bpe, &rules);
        if (!other) fail_msg("byte %zu: %s", i, unit_log.last);
        if (i % 3 == 0) assert_same_data(memory, other);
        data_close(&other);
        char *now = unit_read(cached(), &again);
        assert_int_equal(again, bytes);
        assert_memory_equal(now, first, bytes);
        free(now);
    }
    static const size_t sizes[] = {0, 1, 63, 64, 1000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        unit_write(strstr(cached(), "cache/"), first, sizes[i]);
        struct data *other = open_texts(bpe, &rules);
        assert_same_data(memory, other);
        data_close(&other);
    }
    unit_assert_silent();
    free(first);
    data_close(&memory);
    data_close(&miss);
    data_close(&hit);
}

// Another text, another cut, another tokenizer: another file; that of one in the place of another
// is not taken.
static void foreign_files_are_not_taken(void **state)
{
    (void)state;
    struct config_corpus rules = config_defaults.corpus;
    rules.token_cache = CONFIG_CACHE_ON;
    write_texts(3);
    use_cache("a");
    struct data *a = open_texts(bpe, &rules), *b;
    struct tokenizer *other = train("gpt2", 601);
    use_cache("cache");
    b = open_texts(other, &rules);
    size_t bytes;
    char *file = unit_read(cached(), &bytes); // the ids of the other tokenizer
    data_close(&b);
    struct folder folder;
    assert_true(folder_list(unit_path("a/tokens"), &folder));
    assert_int_equal(folder.count, 1);
    char name[300];
    snprintf(name, sizeof name, "a/tokens/%s", folder.entry[0].name);
    assert_null(strstr(cached(), folder.entry[0].name));
    folder_free(&folder);
    unit_write(name, file, bytes);
    free(file);
    use_cache("a");
    b = open_texts(bpe, &rules);
    assert_same_data(a, b);
    data_close(&b);
    unit_write_text("texts/000.txt", "another text");
    b = open_texts(bpe, &rules);
    assert_true(data_fingerprint(a) != data_fingerprint(b));
    data_close(&b);
    assert_true(folder_list(unit_path("a/tokens"), &folder));
    assert_int_equal(folder.count, 2);
    folder_free(&folder);
    data_close(&a);
    tokenizer_destroy(&other);
    unit_assert_silent();
}

static void processes_may_write_one_file(void **state)
{
    (void)state;
    enum { PROCESSES = 4, ROUNDS = 4 };
    struct config_corpus rules = config_defaults.corpus;
    write_texts(20);
    struct data *memory = open_texts(bpe, &rules);
    rules.token_cache = CONFIG_CACHE_ON;
    pid_t child[PROCESSES];
    char name[ROUNDS][20];
    for (int round = 0; round < ROUNDS; round++)
        snprintf(name[round], sizeof name[round], "cache-%d", round);
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            bool ok = true;
            for (int round = 0; ok && round < ROUNDS; round++) {
                use_cache(name[round]);
                struct data *own = open_texts(bpe, &rules);
                ok = own && data_fingerprint(own) == data_fingerprint(memory);
                data_close(&own);
            }
            _exit(!ok);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct folder folder;
        char path[60];
        snprintf(path, sizeof path, "%.30s/tokens", name[round]);
        use_cache(name[round]);
        struct data *last = open_texts(bpe, &rules);
        assert_same_data(memory, last);
        assert_true(folder_list(unit_path(path), &folder));
        assert_int_equal(folder.count, 1); // nothing half-written is beside it
        folder_free(&folder);
        data_close(&last);
    }
    data_close(&memory);
    unit_assert_silent();
}

static void a_folder_that_cannot_be_written_is_one_line(void **state)
{
    (void)state;
    struct config_corpus rules = config_defaults.corpus;
    write_texts(1);
    unit_write_text("file", "no folder");
    use_cache("file/cache");
    rules.token_cache = CONFIG_CACHE_ON;
    assert_null(open_texts(bpe, &rules));
    unit_assert_line("/file: cannot make the folder", "");
    rules.token_cache = CONFIG_CACHE_OFF; // nor is it looked at
    struct data *data = open_texts(bpe, &rules);
    assert_non_null(data);
    data_close(&data);
    unit_assert_silent();
}

// ---- much of it

static void spilled_memory_keeps_its_bytes(void **state)
{
    (void)state;
    struct spill *spill = spill_create(unit_path("spill"));
    uint32_t *block[30];
    const uint64_t words = 600001;
    for (uint32_t i = 0; i < COUNT_OF(block); i++) { // 69 MiB in all
        block[i] = spill_alloc(spill, words * 4);
        assert_true((uintptr_t)block[i] % 16 == 0 && block[i][words - 1] == 0);
        for (uint64_t w = 0; w < words; w += 100) block[i][w] = i;
        if (i % 8 == 0) spill_forget(spill);
    }
    uint64_t *large = spill_alloc(spill, 66u << 20); // more than a piece
    large[(66u << 17) - 1] = 7;
    spill_forget(spill);
    for (uint32_t i = 0; i < COUNT_OF(block); i++)
        for (uint64_t w = 0; w < words; w += 100) assert_int_equal(block[i][w], i);
    assert_int_equal(large[(66u << 17) - 1], 7);
    assert_true(spill_bytes(spill) >= 128u << 20);
    struct folder folder;
    assert_true(folder_list(unit_path("spill"), &folder));
    assert_int_equal(folder.count, 0); // it has no name
    folder_free(&folder);
    spill_destroy(&spill);
    assert_null(spill_create(unit_write_text("file", "")));
    unit_assert_line("/file: cannot make the folder", "");
}

// A set of which a tenth may be in memory has the same windows as one that is there.
static void what_does_not_fit_lies_in_files(void **state)
{
    (void)state;
    struct config_corpus rules = config_defaults.corpus;
    use_cache("cache");
    write_texts(700); // 5 MiB
    struct bytes lines = {0};
    for (uint32_t i = 0; i < 6000; i++)
        bytes_printf(&lines, "{\"text\": \"line %u of %llu many\\n and more of it\"}\n", i,
                     (unsigned long long)rng_below(1, 2, i, 1000000));
    unit_write("texts/z.jsonl", lines.data, lines.count);
    bytes_free(&lines);
    const struct tokenizer *tokenizers[] = {tokenizer, bpe};
    for (int t = 0; t < 2; t++) {
        rules.token_cache = CONFIG_CACHE_OFF;
        rules.data_memory_mib = 1024;
        struct data *memory = open_texts(tokenizers[t], &rules);
        rules.data_memory_mib = 1;
        struct data *files = open_texts(tokenizers[t], &rules);
        if (!files) fail_msg("not opened: %s", unit_log.last);
        assert_int_equal(data_mapped_bytes(memory), 0);
        assert_int_equal(data_mapped_bytes(files), 256 << 10); // of more
        assert_null(cached());
        assert_same_data(memory, files);
        rules.token_cache = CONFIG_CACHE_ON;
        struct data *kept = open_texts(tokenizers[t], &rules);
        assert_same_data(memory, kept);
        assert_true((cached() != NULL) == (t == 1)); // bytes are ids
        data_close(&kept);
        data_close(&files);
        data_close(&memory);
    }
    unit_assert_silent();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(a_text_in_parts_is_the_same),
        UNIT(a_text_without_seams_is_one),
        UNIT(a_hit_gives_what_a_miss_gives),
        UNIT(foreign_files_are_not_taken),
        UNIT(processes_may_write_one_file),
        UNIT(a_folder_that_cannot_be_written_is_one_line),
        UNIT(spilled_memory_keeps_its_bytes),
        UNIT(what_does_not_fit_lies_in_files),
    };
    int failed = make_tokenizer(NULL) || make_bpe(NULL);
    failed = failed ? failed : cmocka_run_group_tests(tests, NULL, drop_tokenizer);
    drop_bpe(NULL);
    return failed;
}
