// SPDX-License-Identifier: MIT
// Scores of continuations on a device: in batches and alone, behind a shared cache and without one
// the same bytes; the sums that the logits of all positions give; where a prompt meets its
// continuation; what a context has no room for; windows over a text.
#include "tests/unit.h"

#include "src/score_internal.h"
#include "src/session.h"

static const char *device_name; // of this round: "ref", or NULL: the best

struct world {
    struct vkmoe_device device;
    struct vkmoe_model  model;
};

static struct world *open_world(const char *keys)
{
    static struct config config;
    struct world *w = calloc(1, sizeof *w);
    char json[900];
    snprintf(json, sizeof json,
             "{\"model_type\": \"vkmoe\", \"vocab_size\": 260, \"hidden_size\": 12, "
             "\"intermediate_size\": 10, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
             "\"max_position_embeddings\": 150, \"initializer_range\": 0.4, \"seq_len\": 64, "
             "\"num_experts\": 4, \"mlp_only_layers\": [0], \"batch_size\": 2, \"steps\": 9, "
             "\"seed\": 5%s}", keys);
    assert_true(config_parse(&config, "test.json", json, NULL, 0));
    w->device.gpu = gpu_create(&(struct gpu_params){.device = device_name});
    w->device.kernels = kernels_create(w->device.gpu);
    w->model = (struct vkmoe_model){.device = &w->device,
                                    .model = model_create(&config, 1 << 30),
                                    .tokenizer = tokenizer_create_bytes()};
    w->model.params = params_create(w->device.gpu, w->model.model, false);
    assert_non_null(w->model.params);
    assert_true(params_init(w->model.params));
    return w;
}

static void close_world(struct world *w)
{
    params_destroy(&w->model.params);
    tokenizer_destroy(&w->model.tokenizer);
    model_destroy(&w->model.model);
    kernels_destroy(&w->device.kernels);
    gpu_destroy(&w->device.gpu);
    free(w);
}

// Choices and pairs of many lengths, up to the whole context and beyond it.
static struct task *make_task(void)
{
    struct bytes text = {0};
    for (uint32_t i = 0; i < 7; i++) {
        const int prompt = (int)(i * 23 + (i == 6 ? 70 : 0));
        bytes_printf(&text, "{\"prompt\": \"%.*s\", \"choices\": [", prompt,
                     "the quick brown fox jumps over the lazy dog and then it sleeps in the warm "
                     "sun until the evening comes and all the other animals go home to eat what "
                     "they have found on the wide and windy fields that lie behind the old mill, "
                     "which nobody");
        for (uint32_t c = 0; c < 2 + i % 3; c++)
            bytes_printf(&text, "%s\"%.*s\"", c ? ", " : "", (int)(1 + (i * 7 + c * 5) % 31),
                         "abcdefghijklmnopqrstuvwxyzABCDEF" + c);
        bytes_printf(&text, "], \"answer\": %u}\n", i % 2);
        if (i % 2) bytes_printf(&text, "{\"good\": \"good %u\", \"bad\": \"evil%u\"}\n", i, i);
    }
    struct task *task = task_parse("test", (const char *)text.data, text.count, TASK_AUTO);
    bytes_free(&text);
    assert_non_null(task);
    assert_int_equal(task->count, 10);
    return task;
}

static bool go_on(void *user, uint64_t index)
{
    (void)index;
    ++*(uint64_t *)user;
    return true;
}

static struct score_answer *score_all(struct world *w, const struct task *task,
                                      const struct score_settings *settings)
{
    uint64_t done = 0;
    struct score_answer *answers = score_answers_create(task);
    assert_true(score_task(&w->model, task, settings, answers, go_on, &done));
    assert_int_equal(done, task->count);
    return answers;
}

static void assert_same(const struct task_item *item, const struct score_answer *a,
                        const struct score_answer *b, const char *what)
{
    assert_int_equal(a->cut, b->cut);
    for (uint32_t i = 0; i < item->choice_count; i++) {
        assert_int_equal(a->tokens[i], b->tokens[i]);
        assert_true(isfinite(a->logp[i]) && a->logp[i] < 0);
        if (memcmp(&a->logp[i], &b->logp[i], sizeof a->logp[i]) != 0)
            fail_msg("%s: line %llu choice %u: %.17g and %.17g", what,
                     (unsigned long long)item->line, i, a->logp[i], b->logp[i]);
    }
}

// Some items by themselves.
static void assert_alone(struct world *w, const struct task *task,
                         const struct score_settings *settings, const struct score_answer *wanted)
{
    for (uint64_t i = 0; i < task->count; i += 3) {
        struct task one = *task;
        one.item = &task->item[i];
        one.count = 1;
        struct score_answer *own = score_all(w, &one, settings);
        assert_same(one.item, own, &wanted[i], "alone");
        score_answers_destroy(&own, &one);
    }
}

static void check_batches(const char *keys, bool cached)
{
    struct world *w = open_world(keys);
    struct task *task = make_task();
    struct score_settings settings = {.sharing = SCORE_SHARE_NEVER};
    struct score_answer *apart = score_all(w, task, &settings);
    assert_alone(w, task, &settings, apart);
    if (cached) {
        settings.sharing = SCORE_SHARE_ALWAYS;
        struct score_answer *shared = score_all(w, task, &settings);
        for (uint64_t i = 0; i < task->count; i++)
            assert_same(&task->item[i], &apart[i], &shared[i], "behind a cache");
        score_answers_destroy(&shared, task);
    }
    score_answers_destroy(&apart, task);
    task_close(&task);
    close_world(w);
}

static void test_batches(void **state)
{
    (void)state;
    check_batches("", true);
    check_batches(", \"torch_dtype\": \"bfloat16\", \"num_key_value_heads\": 1", true);
}

// What looks back at other tokens than attention does; a window, which no cache is shared for.
static void test_kinds(void **state)
{
    (void)state;
    check_batches(", \"smear_gate\": true, \"bigram_hash_size\": 50, \"trigram_hash_size\": 60, "
                  "\"hash_dim\": 8", true);
    check_batches(", \"sliding_window\": 20", true);
    check_batches(", \"torch_dtype\": \"float16\", \"logit_softcap\": 9, \"qk_norm\": true", true);
}

// ---- the sums that the logits give

static double by_hand(struct world *w, const uint32_t *ids, uint32_t count, uint32_t scored)
{
    const uint32_t vocab = w->model.model->config.vocab_size;
    float *logits = malloc((size_t)count * vocab * sizeof *logits);
    double sum = 0;
    assert_true(session_all_logits(w->device.gpu, w->device.kernels, w->model.params, ids, count,
                                   logits));
    for (uint32_t i = count - 1 - scored; i + 1 < count; i++) {
        const float *row = logits + (size_t)i * vocab;
        double top = -INFINITY, all = 0;
        for (uint32_t v = 0; v < vocab; v++) top = fmax(top, (double)row[v]);
        for (uint32_t v = 0; v < vocab; v++) all += exp((double)row[v] - top);
        sum += (double)row[ids[i + 1]] - top - log(all);
    }
    free(logits);
    return sum;
}

static void assert_sums(struct world *w, const char *line, uint32_t *first_tokens)
{
    struct task *task = task_parse("test", line, strlen(line), TASK_AUTO);
    assert_non_null(task);
    struct score_answer *answer = score_all(w, task, &(struct score_settings){0});
    struct score_requests r;
    assert_true(score_encode(&w->model, task, 0, &(struct score_settings){0}, 150, &r));
    for (uint32_t i = 0; i < r.count; i++) {
        unit_assert_near(answer->logp[i],
                         by_hand(w, r.request[i].ids, r.request[i].count, r.request[i].scored),
                         2e-5 * r.request[i].scored);
        assert_int_equal(answer->tokens[i], r.request[i].scored);
    }
    *first_tokens = answer->tokens[0];
    score_requests_free(&r);
    score_answers_destroy(&answer, task);
    task_close(&task);
}

static void test_sums(void **state)
{
    (void)state;
    struct world *w = open_world("");
    uint32_t tokens;
    assert_sums(w, "{\"prompt\": \"ab\", \"choices\": [\" c\", \" defg\"], \"answer\": 0}",
        &tokens);
    assert_int_equal(tokens, 2);
    assert_sums(w, "{\"good\": \"abc\", \"bad\": \"x\"}", &tokens); // end-of-text stands in front
    assert_int_equal(tokens, 3);
    close_world(w);
}

// ---- texts

static void test_texts(void **state)
{
    (void)state;
    if (!device_name) return;
    struct world *w = open_world("");
    char line[500];
    int at = snprintf(line, sizeof line, "{\"text\": \"");
    for (int i = 0; i < 400; i++) line[at++] = (char)('a' + i * i % 23);
    snprintf(line + at, sizeof line - (size_t)at, "\"}");
    struct task *task = task_parse("test", line, strlen(line), TASK_AUTO);
    double before = 0;
    static const struct { uint32_t context, stride, windows; } cases[] = {
        {150, 0, 3}, {100, 0, 4}, {100, 50, 7}, {100, 33, 11}, {100, 1, 301}, {150, 999, 3}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct score_settings settings = {.context = cases[i].context,
                                                .stride = cases[i].stride};
        struct score_requests r;
        uint32_t scored = 0;
        assert_true(score_encode(&w->model, task, 0, &settings, cases[i].context, &r));
        assert_int_equal(r.count, cases[i].windows);
        for (uint32_t k = 0; k < r.count; k++) {
            assert_true(r.request[k].count - 1 <= cases[i].context);
            scored += r.request[k].scored;
        }
        assert_int_equal(scored, 400); // every token once
        score_requests_free(&r);
        if (cases[i].stride == 1) continue; // slow
        struct score_answer *answer = score_all(w, task, &settings);
        assert_int_equal(answer->tokens[0], 400);
        if (!(answer->logp[0] < 0) || answer->logp[0] == before)
            fail_msg("%zu: %.17g after %.17g", i, answer->logp[0], before);
        before = answer->logp[0];
        score_answers_destroy(&answer, task);
    }
    task_close(&task);
    close_world(w);
}

// ---- where prompt and continuation meet, and what a context has no room for

static struct task *parse(const char *line)
{
    struct task *task = task_parse("test", line, strlen(line), TASK_AUTO);
    assert_non_null(task);
    return task;
}

static void test_meeting(void **state)
{
    (void)state;
    if (!device_name) return;
    struct world *w = open_world("");
    static const char file[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<|endoftext|>\",\"special\":true}],"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<|endoftext|>\":0,\"a\":1,\"b\":2,\"c\":3,"
        "\"ab\":4,\"abc\":5,\"bc\":6},\"merges\":[\"a b\",\"ab c\",\"b c\"]},\"decoder\":"
        "{\"type\":\"Fuse\"}}";
    tokenizer_destroy(&w->model.tokenizer);
    w->model.tokenizer = tokenizer_parse("test", file, sizeof file - 1);
    if (!w->model.tokenizer) fail_msg("%s", unit_log.last);
    static const struct { const char *line; uint32_t shared, scored[3]; } cases[] = {
        // ca|ab.. stays; behind "cca" a b merges with the last a, so both count from there
        {"{\"prompt\":\"cca\",\"choices\":[\"a\",\"cc\"],\"answer\":0}", 3, {1, 2}},
        {"{\"prompt\":\"cca\",\"choices\":[\"b\",\"c\"],\"answer\":0}", 2, {1, 2}},
        {"{\"prompt\":\"a\",\"choices\":[\"bc\",\"bb\",\"c\"],\"answer\":0}", 1, {1, 2, 2}},
        {"{\"prompt\":\"\",\"choices\":[\"a\",\"bc\"],\"answer\":0}", 1, {1, 1}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct task *task = parse(cases[i].line);
        struct score_requests r;
        assert_true(score_encode(&w->model, task, 0, &(struct score_settings){0}, 150, &r));
        assert_int_equal(r.shared, cases[i].shared);
        for (uint32_t k = 0; k < r.count; k++)
            assert_int_equal(r.request[k].scored, cases[i].scored[k]);
        score_requests_free(&r);
        task_close(&task);
    }
    close_world(w);
}

// "<s>" of the tokenizer's file, in front of prompts and texts; where it would stand behind them
// too it is refused.
static void test_template(void **state)
{
    (void)state;
    if (!device_name) return;
    struct world *w = open_world("");
    static const char head[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}],\"model\":{\"type\":"
        "\"BPE\",\"vocab\":{\"a\":1,\"b\":2,\"<s>\":3},\"merges\":[]},\"decoder\":"
        "{\"type\":\"Fuse\"},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
        "\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}%s],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","
        "\"ids\":[3]}}}}";
    static const char *const ends[] = {"", ",{\"SpecialToken\":{\"id\":\"<s>\"}}"};
    const struct score_settings with = {.template = true};
    struct task *task = parse("{\"prompt\":\"ab\",\"choices\":[\"a\",\"b\"],\"answer\":0}\n"
                              "{\"good\":\"a\",\"bad\":\"b\"}\n{\"text\":\"ab\"}");
    for (int i = 0; i < 2; i++) {
        char file[600];
        snprintf(file, sizeof file, head, ends[i]);
        tokenizer_destroy(&w->model.tokenizer);
        w->model.tokenizer = tokenizer_parse("test", file, strlen(file));
        if (!w->model.tokenizer) fail_msg("%s", unit_log.last);
        static const uint32_t count[] = {4, 2, 3}, scored[] = {1, 1, 2};
        for (uint64_t k = 0; i == 0 && k < 3; k++) {
            struct score_requests r;
            assert_true(score_encode(&w->model, task, k, &with, 150, &r));
            assert_int_equal(r.request[0].ids[0], 3);
            assert_int_equal(r.request[0].count, count[k]);
            assert_int_equal(r.request[0].scored, scored[k]);
            score_requests_free(&r);
        }
        if (i == 0) continue;
        struct score_answer *answers = score_answers_create(task);
        assert_false(score_task(&w->model, task, &with, answers, go_on, NULL));
        unit_assert_line("--template", "behind a text too");
        score_answers_destroy(&answers, task);
    }
    task_close(&task);
    close_world(w);
}

static void test_room(void **state)
{
    (void)state;
    if (!device_name) return;
    struct world *w = open_world("");
    struct task *task =
        parse("{\"prompt\":\"0123456789\",\"choices\":[\"ab\",\"cdef\"],\"answer\":0}");
    struct score_requests r;
    // 8 inputs: 9 ids of the longest, so 5 of 10 at the front go, for both
    assert_true(score_encode(&w->model, task, 0, &(struct score_settings){0}, 8, &r));
    assert_int_equal(r.cut, 5);
    assert_int_equal(r.shared, 5);
    assert_int_equal(r.request[0].ids[0], '5');
    assert_int_equal(r.request[0].count, 7);
    assert_int_equal(r.request[1].count, 9);
    assert_int_equal(r.request[1].scored, 4);
    score_requests_free(&r);
    assert_true(score_encode(&w->model, task, 0, &(struct score_settings){0}, 4, &r));
    assert_int_equal(r.shared, 1);
    score_requests_free(&r);
    unit_assert_silent();
    assert_false(score_encode(&w->model, task, 0, &(struct score_settings){0}, 3, &r));
    unit_assert_line("test:1:", "an answer is never cut");
    task_close(&task);
    close_world(w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {UNIT(test_batches), UNIT(test_kinds), UNIT(test_sums),
                                       UNIT(test_texts), UNIT(test_meeting), UNIT(test_template),
                                       UNIT(test_room)};
    device_name = argc > 1 && strcmp(argv[1], "default") ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
