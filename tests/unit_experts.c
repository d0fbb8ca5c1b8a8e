// SPDX-License-Identifier: MIT
// Experts that come and go (src/experts.h) against the same model on the device: the same bytes for
// any number of slots, in one window or in several, for all bodies and types; who is loaded, and
// how often.
#include "tests/unit.h"

#include <pthread.h>

#include "src/codes.h"
#include "src/experts.h"
#include "src/session.h"
#include "src/trainer.h"

#define SIZES SIZES_OF("32", "24")
#define SIZES_OF(hidden, width) \
    "\"model_type\": \"vkmoe\", \"vocab_size\": 61, \"hidden_size\": " hidden ", " \
    "\"intermediate_size\": 40, \"moe_intermediate_size\": " width ", " \
    "\"num_hidden_layers\": 3, " \
    "\"num_attention_heads\": 2, " \
    "\"num_key_value_heads\": 1, \"head_dim\": 16, \"max_position_embeddings\": 64, " \
    "\"num_experts\": 24, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [1], " \
    "\"initializer_range\": 0.3, \"seed\": 5"

enum { TOKENS = 40, VOCAB = 61, EXPERTS = 24, LAYERS = 2, SLOT_ELEMENTS = 3 * 24 * 32 };

struct host {
    struct gpu     *gpu;
    struct kernels *kernels;
    struct config   config;
    uint32_t        ids[TOKENS];
};

// device: "ref -mapped": without that ability; NULL: the default
static void host_open(struct host *h, const char *device, const char *config)
{
    char name[16];
    const char *caps = device ? strchr(device, ' ') : NULL;
    snprintf(name, sizeof name, "%.*s", (int)(caps ? caps - device : 15), device ? device : "");
    assert_true(config_parse(&h->config, "config", config, NULL, 0));
    h->gpu = gpu_create(&(struct gpu_params){.device = device ? name : NULL, .cache_dir = "",
                                             .caps = caps ? caps + 1 : NULL});
    assert_non_null(h->gpu);
    h->kernels = kernels_create(h->gpu);
    for (uint32_t i = 0; i < TOKENS; i++) h->ids[i] = (uint32_t)rng_below(11, 0, i, VOCAB);
}

static void host_close(struct host *h)
{
    kernels_destroy(&h->kernels);
    gpu_destroy(&h->gpu);
}

static void initialise(struct params *params)
{
    const struct model *model = params->model;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        const struct model_tensor *tensor = &model->tensor[t];
        float *values = malloc(tensor->count * sizeof *values);
        if (!tensor->streamed) {
            model_init_values(model, tensor, 0, tensor->count, values);
            assert_true(params_write(params, PARAMS_MASTER, tensor, 0, tensor->count, values));
        }
        free(values);
    }
}

static float *logits_of(struct host *h, struct params *params)
{
    float *logits = calloc((size_t)TOKENS * VOCAB, sizeof *logits);
    assert_true(session_all_logits(h->gpu, h->kernels, params, h->ids, TOKENS, logits));
    return logits;
}

static float *resident(struct host *h)
{
    struct model *model = model_create(&h->config, 1 << 30);
    struct params *params = params_create(h->gpu, model, false);
    initialise(params);
    float *logits = logits_of(h, params);
    params_destroy(&params);
    model_destroy(&model);
    return logits;
}

// `window`: most slots of one; 0: any
static float *streamed(struct host *h, uint32_t slots, uint32_t window, bool prefetch,
                       struct experts_counts *counts)
{
    struct experts_source source;
    struct model *model = model_create_streamed(&h->config, 1 << 30);
    struct params *params = params_create(h->gpu, model, false);
    initialise(params);
    experts_source_initial(&source);
    params->experts = experts_create(&(struct experts_params){
        .gpu = h->gpu, .model = model, .source = source, .slots = slots,
        .window = window, .prefetch = prefetch});
    assert_non_null(params->experts);
    if (window) assert_int_equal(params->experts->windows, ceil_div(slots, window));
    float *logits = logits_of(h, params);
    free(logits);
    logits = logits_of(h, params); // once more, with what is there
    *counts = params->experts->counts;
    // who finds no slot free and waits for the next turn is not used more often for it
    assert_int_equal(params->experts->cache->stats.misses, counts->misses);
    params_destroy(&params);
    model_destroy(&model);
    return logits;
}

static void compare(const char *device, const char *config)
{
    static const uint32_t slots[] = {1, 2, 3, EXPERTS, LAYERS * EXPERTS};
    struct host h;
    host_open(&h, device, config);
    float *want = resident(&h);
    for (size_t i = 0; i < COUNT_OF(slots); i++)
        for (uint32_t window = 0; window <= slots[i]; window += 1 + window) {
            struct experts_counts counts;
            float *got = streamed(&h, slots[i], window, window % 2 == 0, &counts);
            assert_memory_equal(got, want, sizeof *got * TOKENS * VOCAB);
            free(got);
            assert_true(counts.misses > 0);
        }
    free(want);
    host_close(&h);
}

static void test_bodies(void **state)
{
    enum { BODIES = 4 }; // the others differ in who is picked, and guessed
    static const char *const configs[] = {
        "{" SIZES "}",
        "{" SIZES ", \"torch_dtype\": \"bfloat16\"}",
        "{" SIZES ", \"torch_dtype\": \"float16\", \"hidden_act\": \"relu2\", "
        "\"mlp_gated\": false}",
        "{" SIZES ", \"hidden_act\": \"gelu\", \"mlp_gated\": false, \"mlp_bias\": true}",
        "{" SIZES ", \"router_type\": \"threshold\", \"router_threshold\": 0.04}",
        "{" SIZES ", \"router_type\": \"hierarchical\", \"n_domains\": 4, \"domains_per_tok\": 2}",
        "{" SIZES ", \"router_type\": \"hash\"}",
        "{" SIZES ", \"router_type\": \"dynamic\", \"router_body\": \"mlp\", "
        "\"router_hidden_size\": 16}",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        compare("ref", configs[i]);
        if (i < BODIES) compare(NULL, configs[i]);
    }
    compare("ref -mapped", configs[0]);
    compare("llvmpipe -mapped", configs[1]);
    compare("ref -mapped,-hostmem", configs[1]);
}

// All that have rows are loaded once where there is a slot for each, and found the second time.
static void test_counts(void **state)
{
    struct host h;
    struct experts_counts all, one, guessed;
    (void)state;
    host_open(&h, "ref", "{" SIZES "}");
    free(streamed(&h, LAYERS * EXPERTS, 0, false, &all));
    free(streamed(&h, 1, 0, false, &one));
    assert_true(all.misses > LAYERS && all.misses <= LAYERS * EXPERTS);
    assert_int_equal(all.hits, all.misses); // the second pass
    // most of whom the second layer needs were guessed while the first one computed
    free(streamed(&h, LAYERS * EXPERTS, 0, true, &guessed));
    assert_true(guessed.used > LAYERS && guessed.used <= guessed.guessed);
    assert_true(guessed.misses < all.misses && guessed.hits + guessed.misses == 2 * all.hits);
    // a guess that nobody needed may still be on its way
    assert_int_equal(guessed.bytes % (SLOT_ELEMENTS * 4), 0);
    assert_in_range(guessed.bytes / (SLOT_ELEMENTS * 4), guessed.misses + guessed.used,
                    guessed.misses + guessed.guessed);
    assert_int_equal(all.guessed, 0);
    assert_int_equal(all.bytes, all.misses * SLOT_ELEMENTS * 4);
    assert_int_equal(one.hits + one.misses, all.hits + all.misses);
    assert_true(one.misses > all.misses && one.turns >= one.misses);
    host_close(&h);
}

// ---- training

enum { STEPS = 10, SEQ = 6, MICRO = 2 };

#define TRAINING                                                                                  \
    ", \"seq_len\": 6, \"batch_size\": 1, \"steps\": 10, \"warmup_steps\": 0, \"max_grad_norm\": "

#define MASTERLESS "\"torch_dtype\": \"bfloat16\", \"master_weights\": false"

// Records in host memory, for several threads.
struct shelf { uint8_t **record; uint32_t reads, writes; pthread_mutex_t lock; };

static bool shelf_read(void *user, const struct experts_record *record, uint64_t key, bool whole,
                       void *out)
{
    struct shelf *shelf = user;
    (void)whole;
    pthread_mutex_lock(&shelf->lock);
    shelf->reads++;
    if (shelf->record[key]) memcpy(out, shelf->record[key], record->bytes);
    else experts_record_initial(record, key, out);
    pthread_mutex_unlock(&shelf->lock);
    return true;
}

static bool shelf_write(void *user, const struct experts_record *record, uint64_t key,
                        const void *from)
{
    struct shelf *shelf = user;
    pthread_mutex_lock(&shelf->lock);
    shelf->writes++;
    if (!shelf->record[key]) shelf->record[key] = malloc(record->bytes);
    memcpy(shelf->record[key], from, record->bytes);
    pthread_mutex_unlock(&shelf->lock);
    return true;
}

struct training {
    double loss[STEPS], norm[STEPS];
    float *master, *m, *v; // of all tensors, one behind the other
    uint32_t *codes;       // of experts whose moments are in codes, stack behind stack
    uint64_t words;
    uint32_t steps[LAYERS * EXPERTS];
};

static void take_step(struct host *h, struct trainer *trainer, uint32_t step, struct training *out)
{
    uint32_t ids[MICRO * SEQ], targets[MICRO * SEQ];
    const struct batch batch[MICRO] = {{ids, targets}, {ids + SEQ, targets + SEQ}};
    struct trainer_result result;
    for (uint32_t i = 0; i < MICRO * SEQ; i++) {
        ids[i] = (uint32_t)rng_below(13, step, i, VOCAB);
        targets[i] = (uint32_t)rng_below(17, step, i, VOCAB);
    }
    (void)h;
    assert_true(trainer_submit(trainer, step, 0.01, batch));
    assert_true(trainer_collect(trainer, &result));
    out->loss[step - 1] = result.loss;
    out->norm[step - 1] = result.grad_norm;
}

// The record of an expert of a streamed stack; the caller frees it.
static void *record_of(const struct experts *x, const struct shelf *shelf,
                       const struct model_tensor *tensor, uint32_t expert)
{
    const uint64_t key =
        (uint64_t)model_moe_index(x->model, (uint32_t)tensor->layer) * EXPERTS + expert;
    void *record = malloc(x->record.bytes);
    if (shelf->record[key]) memcpy(record, shelf->record[key], x->record.bytes);
    else experts_record_initial(&x->record, key, record);
    return record;
}

static void read_tensor(struct trainer *trainer, const struct shelf *shelf, uint32_t t,
                        enum params_class which, enum record_array array, float *out)
{
    struct params *params = trainer_params(trainer);
    const struct model_tensor *tensor = &params->model->tensor[t];
    const struct experts *x = params->experts;
    if ((which == PARAMS_M && !model_has_m(params->model, tensor)) ||
        (which == PARAMS_V && !model_has_v(params->model, tensor)))
        return;
    if (!tensor->streamed) {
        assert_true(params_read(params, which, tensor, 0, tensor->count, out));
        return;
    }
    const uint64_t count = tensor->count / tensor->experts;
    for (uint32_t e = 0; e < tensor->experts; e++) {
        void *record = record_of(x, shelf, tensor, e);
        experts_record_get(&x->record, record, array, experts_matrix(x, tensor->role), 0, count,
                           out + e * count);
        free(record);
    }
}

static void read_codes(struct trainer *trainer, const struct shelf *shelf, uint32_t t,
                       struct training *out)
{
    struct params *params = trainer_params(trainer);
    const struct model_tensor *tensor = &params->model->tensor[t];
    const struct experts *x = params->experts;
    const uint64_t words = CODES_WORDS * model_records(params->model, tensor);
    if (!words) return;
    out->codes = realloc(out->codes, (out->words + words) * sizeof *out->codes);
    uint32_t *to = out->codes + out->words;
    out->words += words;
    if (!tensor->streamed) assert_true(params_read_records(params, tensor, 0, words, to));
    for (uint32_t e = 0; tensor->streamed && e < tensor->experts; e++) {
        uint8_t *record = record_of(x, shelf, tensor, e);
        uint64_t bytes;
        const uint64_t at = experts_record_place(&x->record, RECORD_CODES,
                                                 experts_matrix(x, tensor->role), &bytes);
        assert_int_equal(bytes, 4 * words / tensor->experts);
        memcpy(to + e * words / tensor->experts, record + at, bytes);
        free(record);
    }
}

// Weights and gradients of what is always there fit it, their optimizer's state does not.
static uint64_t small_budget(const struct model *model)
{
    uint64_t elements = 0;
    for (uint32_t s = 0; s < model->segment_count; s++) elements += model->segment_elements[s];
    return 12 * elements;
}

// beside: loads and write-backs run beside the compute, and experts to come are loaded early
struct size { uint32_t slots, window; enum cache_policy policy; bool small, beside; };

static void train(struct host *h, const struct size *size, struct shelf *shelf,
                  struct training *out)
{
    const uint32_t slots = size->slots;
    struct model *model = slots ? model_create_streamed(&h->config, 1 << 30)
                                : model_create(&h->config, 1 << 30);
    const struct experts_params experts = {
        .source = {.read = shelf_read, .write = shelf_write, .user = shelf,
                   .threads = size->beside},
        .slots = slots, .window = size->window, .policy = size->policy,
        .prefetch = size->beside,
        .budget = size->small ? small_budget(model) : 0};
    struct trainer *trainer = slots ? trainer_create_streamed(h->gpu, h->kernels, model, &experts)
                                    : trainer_create(h->gpu, h->kernels, model);
    assert_non_null(trainer);
    struct params *params = trainer_params(trainer);
    assert_true(params_init(params));
    for (int which = PARAMS_GRAD; which <= PARAMS_V; which++)
        assert_true(params->buffer[which][0]->host == (size->small && which != PARAMS_GRAD));
    for (uint32_t step = 1; step <= STEPS; step++) take_step(h, trainer, step, out);
    if (slots) {
        assert_true(experts_flush(params->experts));
        // a step has more experts than few slots
        if (slots < 10) assert_true(params->experts->counts.spilled > 0);
        if (slots == LAYERS * EXPERTS) assert_int_equal(params->experts->counts.spilled, 0);
    }
    out->master = calloc(model->parameters, sizeof(float));
    out->m = calloc(model->parameters, sizeof(float));
    out->v = calloc(model->parameters, sizeof(float));
    out->codes = NULL, out->words = 0;
    uint64_t at = 0;
    for (uint32_t t = 0; t < model->tensor_count; t++) {
        read_tensor(trainer, shelf, t, PARAMS_MASTER, RECORD_MASTER, out->master + at);
        read_tensor(trainer, shelf, t, PARAMS_M, RECORD_M, out->m + at);
        read_tensor(trainer, shelf, t, PARAMS_V, RECORD_V, out->v + at);
        read_codes(trainer, shelf, t, out);
        at += model->tensor[t].count;
    }
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        assert_true(params_read_steps(params, layer, out->steps + layer * EXPERTS));
    trainer_destroy(&trainer);
    model_destroy(&model);
}

static void training_free(struct training *t)
{
    free(t->master), free(t->m), free(t->v), free(t->codes);
}

// With every size, or with every other: those in several windows among them.
static void compare_training(const char *device, const char *config, bool all)
{
    static const struct size resident = {0}, sizes[] = {
        {LAYERS * EXPERTS, 0, CACHE_LRU}, {LAYERS * EXPERTS, 4, CACHE_LFU}, {26, 0, CACHE_LFU},
        {26, 7, CACHE_LFRU, .beside = true}, {9, 0, CACHE_LRU},
        {9, 4, CACHE_LEAST_STALE, .beside = true}, {3, 0, CACHE_LFRU},
        {2, 0, CACHE_LFU, .beside = true}, {1, 0, CACHE_LRU}, {26, 0, CACHE_LRU, true},
        {1, 0, CACHE_LRU, .beside = true}};
    struct host h;
    struct training want, got;
    host_open(&h, device, config);
    train(&h, &resident, NULL, &want);
    assert_true(isfinite(want.loss[STEPS - 1]) && want.loss[STEPS - 1] != want.loss[0]);
    for (size_t i = !all; i < COUNT_OF(sizes); i += all ? 1 : 2) {
        struct shelf shelf = {.record = calloc(LAYERS * EXPERTS, sizeof *shelf.record),
                              .lock = PTHREAD_MUTEX_INITIALIZER};
        train(&h, &sizes[i], &shelf, &got);
        const struct model *model = model_create(&h.config, 1 << 30);
        assert_memory_equal(got.loss, want.loss, sizeof got.loss);
        assert_memory_equal(got.norm, want.norm, sizeof got.norm);
        assert_memory_equal(got.steps, want.steps, sizeof got.steps);
        assert_memory_equal(got.master, want.master, model->parameters * sizeof(float));
        assert_memory_equal(got.m, want.m, model->parameters * sizeof(float));
        assert_memory_equal(got.v, want.v, model->parameters * sizeof(float));
        assert_int_equal(got.words, want.words);
        if (want.words) assert_memory_equal(got.codes, want.codes, want.words * sizeof *got.codes);
        assert_true(shelf.writes > 0);
        model_destroy((struct model **)(uintptr_t)&model);
        for (uint32_t key = 0; key < LAYERS * EXPERTS; key++) free(shelf.record[key]);
        free(shelf.record);
        training_free(&got);
    }
    training_free(&want);
    host_close(&h);
}

static void test_training(void **state)
{
    static const char *const configs[] = {
        "{" SIZES TRAINING "0.5}",
        "{" SIZES TRAINING "0.5, \"torch_dtype\": \"bfloat16\"}",
        "{" SIZES TRAINING "0.5, \"gradient_accumulation_steps\": 2}",
        "{" SIZES TRAINING "0, \"hidden_act\": \"relu2\", \"mlp_gated\": false}",
        "{" SIZES TRAINING "0.5, \"optim\": \"adamw_8bit\"}",
        "{" SIZES TRAINING "0.5, \"router_type\": \"sigmoid_bias\", " MASTERLESS "}",
        "{" SIZES TRAINING "0.5, \"optim\": \"adamw_8bit\", " MASTERLESS "}",
        // 900 elements a matrix: no multiple of what random numbers or a record of codes are for
        "{" SIZES_OF("36", "25") TRAINING "0.5, " MASTERLESS "}",
        "{" SIZES_OF("36", "25") TRAINING "0.5, \"optim\": \"adamw_8bit\", "
        "\"expert_optimizer\": \"lazy-global\", " MASTERLESS "}",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        compare_training("ref", configs[i], i < 4);
        compare_training(NULL, configs[i], i < 4);
    }
    compare_training("ref -mapped", configs[1], true);
    compare_training("llvmpipe -mapped", configs[1], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
