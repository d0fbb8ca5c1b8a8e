// SPDX-License-Identifier: MIT
// Ordinary checkpoints to stores and back: byte for byte in both directions, untouched experts as
// an eager initialisation would have them, never the model in memory, refusals in one line.
#include "tests/unit.h"

#include <sys/wait.h>

#include "runtime/file.h"
#include "runtime/os.h"
#include "src/checkpoint.h"
#include "src/codes.h"
#include "src/experts_folder.h"
#include "src/experts_pack.h"
#include "src/optimizer_state.h"

static const char small[] =
    "{\"model_type\": \"vkmoe\", \"vocab_size\": 300, \"hidden_size\": 24, "
    "\"intermediate_size\": 40, \"moe_intermediate_size\": 36, \"num_hidden_layers\": 4, "
    "\"num_attention_heads\": 2, \"max_position_embeddings\": 64, \"num_experts\": 5, "
    "\"decoder_sparse_step\": 2, \"seed\": 7}";

// `more`: "key=value;key=value"
static struct model *make_model(const char *json, const char *more)
{
    char text[200];
    const char *set[8];
    int count = 0;
    struct config config;
    snprintf(text, sizeof text, "%s", more);
    for (char *word = strtok(text, ";"); word; word = strtok(NULL, ";")) set[count++] = word;
    assert_true(config_parse(&config, "test", json, set, count));
    struct model *model = model_create(&config, UINT64_MAX / 2);
    assert_non_null(model);
    return model;
}

// ---- a run without a store; of each five experts the first two were trained

struct values { const struct model *model; double add; bool moment; };

static bool get_value(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                      float *values)
{
    const struct values *v = user;
    const uint64_t size = (uint64_t)t->rows * t->cols;
    model_init_values(v->model, t, begin, count, values);
    for (uint64_t i = 0; i < count; i++) {
        const bool trained = !t->experts || (begin + i) / size % 5 < 2;
        if (v->moment) values[i] = 0;
        if (trained) values[i] += (float)(v->add * (double)((begin + i) % 97));
    }
    return true;
}

static bool get_codes(const struct weights_words *words, uint64_t begin, uint64_t count,
                      uint32_t *values)
{
    const struct model_tensor *tensor = words->of;
    const float factor = 0.5f;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = (begin + i) % CODES_WORDS;
        values[i] = (uint32_t)(words->count * 2654435761u + (begin + i) * 40503u + words->index);
        if (at >= CODES_FACTOR) values[i] = 0;
        if (at == CODES_FACTOR) memcpy(&values[i], &factor, sizeof factor);
        if (tensor->experts && words->index % 5 >= 2) values[i] = 0; // never trained
    }
    return true;
}

static bool has_m(const void *user, const struct model_tensor *t)
{
    return model_has_m(((const struct values *)user)->model, t);
}

static bool has_v(const void *user, const struct model_tensor *t)
{
    return model_has_v(((const struct values *)user)->model, t);
}

static void make_run(const struct model *model, const char *dir)
{
    struct arena *arena = arena_create("test");
    struct values weights = {model, 0.01, false}, m = {model, 0.003, true}, v = {model, 7e-5, true};
    const struct safetensors_metadata metadata[] = {{"format", "pt"}, {"step", "12"}};
    struct checkpoint *folder = checkpoint_open(dir);
    const struct weights_part moments[] = {
        {.prefix = "m.", .get = get_value, .user = &m, .has = has_m},
        {.prefix = "v.", .get = get_value, .user = &v, .has = has_v}};
    uint32_t steps, words_count;
    struct weights_words *words = optimizer_words(model, NULL, true, arena, &steps, &words_count);
    for (uint32_t l = steps; l < words_count; l++) words[l].get = get_codes;
    for (uint32_t l = 0; l < steps; l++)
        for (uint32_t e = 0; e < words[l].count; e++) words[l].values[e] = e % 5 < 2 ? 3 + e : 0;
    char *config = config_print(&model->config);
    assert_non_null(folder);
    assert_true(checkpoint_begin(folder, 12));
    assert_true(weights_save(model, checkpoint_path(folder, "model.safetensors"), get_value,
                             &weights, metadata, 2));
    assert_true(weights_save_state(model, checkpoint_path(folder, "optimizer.safetensors"),
                                   &(struct weights_state){moments, 2, words, words_count},
                                   metadata, 2));
    assert_true(checkpoint_write(folder, "state.json", "{\"step\": 12}\n"));
    assert_true(checkpoint_run_write(folder, "config.json", config));
    assert_true(checkpoint_run_write(folder, "metrics.jsonl", "{\"step\": 1}\n"));
    assert_true(checkpoint_commit(folder));
    checkpoint_close(&folder);
    free(config);
    arena_destroy(&arena);
}

static void assert_same_file(const char *a, const char *b, const char *name)
{
    char path[2][9000];
    struct file_map x, y;
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    assert_true(file_map(path[0], &x) && file_map(path[1], &y));
    if (x.bytes != y.bytes || memcmp(x.data, y.data, x.bytes) != 0)
        fail_msg("%s and %s differ", path[0], path[1]);
    file_unmap(&x), file_unmap(&y);
}

static void round_trip(const char *json, const char *more)
{
    static const char *const run_files[] = {
        "config.json", "metrics.jsonl", "model.safetensors",
        "checkpoint-00000012/model.safetensors", "checkpoint-00000012/optimizer.safetensors",
        "checkpoint-00000012/state.json"};
    static const char *const store_files[] = {
        "checkpoint-00000012/experts.json", "checkpoint-00000012/experts.index",
        "experts/segment-00000001.bin"};
    struct model *model = make_model(json, more);
    struct experts_report report;
    make_run(model, unit_path("a"));
    assert_true(experts_pack(unit_path("a"), unit_path("store"), &report));
    assert_int_equal(report.records, 4); // 2 layers of 5 experts, 2 of each trained
    assert_int_equal(report.experts, 10);
    assert_int_equal(report.step, 12);
    assert_true(experts_unpack(unit_path("store"), unit_path("b"), &report));
    for (size_t i = 0; i < COUNT_OF(run_files); i++)
        assert_same_file(unit_path("a"), unit_path("b"), run_files[i]);
    assert_true(experts_pack(unit_path("b"), unit_path("again"), &report));
    for (size_t i = 0; i < COUNT_OF(run_files); i++)
        assert_same_file(unit_path("store"), unit_path("again"), run_files[i]);
    for (size_t i = 0; i < COUNT_OF(store_files); i++)
        assert_same_file(unit_path("store"), unit_path("again"), store_files[i]);
    assert_true(experts_unpack(unit_path("store"), unit_path("one.safetensors"), &report));
    struct file_map one, all;
    assert_true(file_map(unit_path("one.safetensors"), &one) &&
                file_map(unit_path("a/model.safetensors"), &all));
    assert_int_equal(one.bytes, all.bytes);
    assert_memory_equal(one.data, all.data, one.bytes);
    file_unmap(&one), file_unmap(&all);
    unit_assert_silent();
    model_destroy(&model);
}

static void test_round_trip(void **state)
{
    (void)state;
    round_trip(small, "");
}

static void test_round_trip_bf16(void **state)
{
    (void)state;
    round_trip(small, "torch_dtype=bfloat16");
}

static void test_round_trip_others(void **state)
{
    (void)state;
    round_trip(small, "mlp_gated=false;mlp_bias=true;torch_dtype=float16;"
                      "expert_optimizer=dense-exact");
}

static void test_round_trip_muon(void **state)
{
    (void)state;
    round_trip(small, "optim=muon;init=orthogonal;tie_word_embeddings=true");
}

// Moments of the dense half in codes.
static void test_round_trip_codes(void **state)
{
    (void)state;
    round_trip(small, "hidden_size=128;optim=adamw_8bit;"
                      "param_groups=[{\"match\": \"*experts*\", \"optim\": \"adamw\"}]");
}

// Of all, and of one matrix of each expert alone.
static void test_round_trip_expert_codes(void **state)
{
    (void)state;
    round_trip(small, "hidden_size=128;moe_intermediate_size=37;optim=adamw_8bit");
}

static void test_round_trip_mixed_codes(void **state)
{
    (void)state;
    round_trip(small, "hidden_size=128;torch_dtype=bfloat16;"
                      "param_groups=[{\"match\": \"*experts*down*\", \"optim\": \"adamw_8bit\"}]");
}

static void test_round_trip_without_masters(void **state)
{
    (void)state;
    round_trip(small, "hidden_size=128;torch_dtype=bfloat16;master_weights=false;optim=adamw_8bit");
}

// A file alone, its config beside it; the values of the storage type need no state.
static void test_file(void **state)
{
    (void)state;
    struct experts_report report;
    for (int i = 0; i < 2; i++) {
        struct model *model = make_model(small, i ? "torch_dtype=bfloat16" : "");
        struct values weights = {model, 0.01, false};
        char *config = config_print(&model->config);
        assert_true(mkdir(unit_path(i ? "hf1" : "hf0"), 0777) == 0);
        unit_write_text(i ? "hf1/config.json" : "hf0/config.json", config);
        const char *path = unit_path(i ? "hf1/part.safetensors" : "hf0/part.safetensors");
        assert_true(weights_save(model, path, get_value, &weights, NULL, 0));
        assert_true(experts_pack(path, unit_path(i ? "out1" : "out0"), &report));
        assert_int_equal(report.records, 4);
        assert_int_equal(report.step, 0);
        assert_true(experts_unpack(unit_path(i ? "out1" : "out0"),
                                   unit_path(i ? "b1.safetensors" : "b0.safetensors"), &report));
        size_t bytes, again;
        char *x = unit_read(path, &bytes),
             *y = unit_read(unit_path(i ? "b1.safetensors" : "b0.safetensors"), &again);
        assert_int_equal(bytes, again);
        assert_memory_equal(x, y, bytes);
        free(x), free(y), free(config);
        model_destroy(&model);
    }
}

// Nothing on the disk, and yet all weights: those of an eager initialisation.
static void test_init(void **state)
{
    (void)state;
    struct model *model = make_model(small, "init=scaled");
    struct values weights = {model, 0, false};
    struct experts_report report;
    assert_true(experts_init_run(&model->config, unit_path("run"), &report));
    assert_int_equal(report.records, 0);
    assert_int_equal(report.bytes, 0);
    assert_int_equal(report.parameters, model->parameters);
    assert_true(experts_unpack(unit_path("run"), unit_path("lazy.safetensors"), &report));
    assert_true(weights_save(model, unit_path("eager.safetensors"), get_value, &weights, NULL, 0));
    assert_same_file(unit_folder, unit_folder, "lazy.safetensors");
    size_t bytes, again;
    char *x = unit_read(unit_path("lazy.safetensors"), &bytes),
         *y = unit_read(unit_path("eager.safetensors"), &again);
    assert_int_equal(bytes, again);
    assert_memory_equal(x, y, bytes);
    free(x), free(y);
    unit_assert_silent();
    assert_false(experts_init_run(&model->config, unit_path("run"), &report));
    unit_assert_line("holds a run at step 0", "--out");
    model_destroy(&model);
}

// Holes of dropped records in front, live ones behind.
static void test_compact(void **state)
{
    (void)state;
    struct model *model = make_model(small, "");
    struct experts_report report;
    make_run(model, unit_path("a"));
    assert_true(experts_pack(unit_path("a"), unit_path("store"), &report));
    struct experts_record record;
    struct store_params params;
    assert_true(experts_record_init(&record, model, RECORD_STATE_WHOLE));
    char *identity = experts_record_params(&record, &params);
    params.folder = unit_path("store/experts");
    struct store *store =
        store_open(unit_path("store/checkpoint-00000012/experts.json"), &params, true);
    uint8_t *bytes = malloc(record.bytes);
    assert_non_null(store);
    assert_true(store_read(store, 6, 3, bytes, NULL) && store_write(store, 6, 3, bytes));
    store_forget(store, 0);
    assert_true(store_commit(store, unit_path("store/checkpoint-00000012")));
    store_close(&store);
    unit_log.lines = 0;
    const uint64_t before = report.bytes;
    assert_true(experts_compact(unit_path("store"), &report));
    assert_int_equal(report.bytes, before + record.bytes);
    assert_int_equal(report.bytes_after, before - record.bytes);
    assert_int_equal(report.records, 3);
    assert_true(experts_unpack(unit_path("store"), unit_path("b.safetensors"), &report));
    free(bytes), free(identity);
    model_destroy(&model);
}

static void test_refusals(void **state)
{
    (void)state;
    struct model *model = make_model(small, "");
    struct experts_report report;
    make_run(model, unit_path("a"));
    assert_false(experts_unpack(unit_path("a"), unit_path("b"), &report));
    unit_assert_line("has no store", "experts.json");
    assert_false(experts_compact(unit_path("a"), &report));
    unit_assert_line("has no store", "experts.json");
    assert_true(experts_pack(unit_path("a"), unit_path("store"), &report));
    assert_false(experts_pack(unit_path("a"), unit_path("store"), &report));
    unit_assert_line("holds a run at step 12", "--out");
    assert_false(experts_pack(unit_path("store"), unit_path("c"), &report));
    unit_assert_line("in a store already", "");
    assert_false(experts_pack(unit_path("nowhere"), unit_path("c"), &report));
    unit_assert_line("nowhere", "");
    unit_write_text("a/checkpoint-00000012/average.safetensors", "x");
    assert_false(experts_pack(unit_path("a"), unit_path("e"), &report));
    unit_assert_line("average.safetensors", "export it");
    remove(unit_path("a/checkpoint-00000012/average.safetensors"));
    // another config than the store's
    char *config = unit_read(unit_path("store/config.json"), NULL);
    char *at = strstr(config, "\"seed\": 7");
    assert_non_null(at);
    at[8] = '9';
    unit_write_text("store/config.json", config);
    assert_false(experts_unpack(unit_path("store"), unit_path("d"), &report));
    unit_assert_line("made for another config", "wanted \"seed 9\"");
    at[8] = '7';
    unit_write_text("store/config.json", config);
    free(config);
    // a damaged record: the expert is named, and nothing is left
    const char *path = unit_path("store/experts/segment-00000001.bin");
    FILE *file = fopen(path, "r+b");
    fseek(file, 1000, SEEK_SET);
    fputc(fgetc(file) ^ 1, (fseek(file, 1000, SEEK_SET), file));
    fclose(file);
    assert_false(experts_unpack(unit_path("store"), unit_path("d.safetensors"), &report));
    unit_assert_line("segment-00000001.bin: layer 1, expert 0", "damaged");
    assert_false(file_exists(unit_path("d.safetensors")));
    // a tensor that is not there: no half of a store stays
    assert_int_equal(truncate(unit_path("a/checkpoint-00000012/optimizer.safetensors"), 5000), 0);
    assert_false(experts_pack(unit_path("a"), unit_path("e"), &report));
    unit_assert_line("optimizer.safetensors", "");
    assert_false(file_exists(unit_path("e/experts")));
    model_destroy(&model);
}

static const float marker = 12345.678f;

static bool get_marked(void *user, const struct model_tensor *t, uint64_t begin, uint64_t count,
                       float *values)
{
    const uint64_t size = (uint64_t)t->rows * t->cols, at = 3 * size; // in the fourth expert
    get_value(user, t, begin, count, values);
    if (t->experts && at >= begin && at < begin + count) values[at - begin] = marker;
    return true;
}

static void make_broken(const struct model *model, const char *name)
{
    struct values weights = {model, 0.01, false};
    const float broken = NAN;
    size_t bytes, found = 0;
    assert_true(weights_save(model, unit_path(name), get_marked, &weights, NULL, 0));
    char *file = unit_read(unit_path(name), &bytes);
    for (size_t i = 0; i + sizeof marker <= bytes; i++)
        if (memcmp(file + i, &marker, sizeof marker) == 0)
            memcpy(file + i, &broken, sizeof broken), found++;
    assert_true(found > 0);
    unit_write(name, file, bytes);
    free(file);
}

// A value that no record takes, found when the store is half made: what lay in its folder stays.
static void test_failure_removes_its_own(void **state)
{
    (void)state;
    struct model *model = make_model(small, "");
    struct experts_report report;
    char *config = config_print(&model->config);
    for (int there = 0; there < 2; there++) {
        const char *in = unit_path(there ? "in1" : "in0"), *out = unit_path(there ? "o1" : "o0");
        char name[2][200];
        snprintf(name[0], sizeof name[0], "%s/config.json", there ? "in1" : "in0");
        snprintf(name[1], sizeof name[1], "%s/model.safetensors", there ? "in1" : "in0");
        assert_true(mkdir(in, 0777) == 0);
        unit_write_text(name[0], config);
        make_broken(model, name[1]);
        if (there) {
            assert_true(mkdir(out, 0777) == 0 && mkdir(unit_path("o1/experts"), 0777) == 0);
            unit_write_text("o1/experts/notes.txt", "mine");
        }
        assert_false(experts_pack(unit_path(name[1]), out, &report));
        unit_assert_line("nan", "");
    }
    assert_false(file_exists(unit_path("o0/experts")));
    assert_true(file_exists(unit_path("o1/experts/notes.txt")));
    assert_false(file_exists(unit_path("o1/experts/segment-00000001.bin")));
    free(config);
    model_destroy(&model);
}

#ifdef __SANITIZE_ADDRESS__
enum { MOST_MORE = 1 << 30 }; // what is freed is kept for a while
#else
enum { MOST_MORE = 48 << 20 };
#endif

// 144 MiB of weights and moments pass through a process of a fraction of that.
static void test_memory(void **state)
{
    (void)state;
    static const char large[] =
        "{\"model_type\": \"vkmoe\", \"vocab_size\": 300, \"hidden_size\": 128, "
        "\"intermediate_size\": 256, \"moe_intermediate_size\": 256, \"num_hidden_layers\": 2, "
        "\"num_attention_heads\": 2, \"max_position_embeddings\": 64, \"num_experts\": 64, "
        "\"seed\": 7}";
    struct model *model = make_model(large, "torch_dtype=bfloat16");
    make_run(model, unit_path("a"));
    uint64_t sizes[2];
    assert_true(file_size(unit_path("a/checkpoint-00000012/optimizer.safetensors"), &sizes[0]) &&
                file_size(unit_path("a/checkpoint-00000012/model.safetensors"), &sizes[1]));
    assert_true(sizes[0] + sizes[1] > 140u << 20);
    model_destroy(&model);
    for (int what = 0; what < 2; what++) {
        const pid_t child = fork();
        if (child == 0) {
            struct experts_report report;
            FILE *reset = fopen("/proc/self/clear_refs", "w"); // VmHWM begins anew
            if (reset) fputs("5", reset), fclose(reset);
            const uint64_t before = os_resident_bytes();
            const bool ok = what ? experts_unpack(unit_path("store"), unit_path("b"), &report)
                                 : experts_pack(unit_path("a"), unit_path("store"), &report);
            const uint64_t peak = os_resident_peak();
            fprintf(stderr, "%s: %.1f MiB before, %.1f MiB at most\n", what ? "unpack" : "pack",
                    (double)before / 1048576, (double)peak / 1048576);
            _exit(!ok ? 1 : peak > before + MOST_MORE ? 2 : 0);
        }
        int wait;
        assert_int_equal(waitpid(child, &wait, 0), child);
        assert_int_equal(WEXITSTATUS(wait), 0);
    }
    assert_same_file(unit_path("a"), unit_path("b"), "checkpoint-00000012/model.safetensors");
    assert_same_file(unit_path("a"), unit_path("b"), "checkpoint-00000012/optimizer.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(test_round_trip), UNIT(test_round_trip_bf16), UNIT(test_round_trip_others),
        UNIT(test_round_trip_muon),
        UNIT(test_round_trip_codes), UNIT(test_round_trip_expert_codes),
        UNIT(test_round_trip_mixed_codes), UNIT(test_round_trip_without_masters),
        UNIT(test_file), UNIT(test_init), UNIT(test_compact),
        UNIT(test_refusals), UNIT(test_failure_removes_its_own), UNIT(test_memory)};
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
